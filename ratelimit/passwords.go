package ratelimit

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Passwords limits guesses at the password of a name: per address, whichever
// names it tries, and per name, whichever addresses try it. An address that
// gave the right password lately is not held to the name's budget, so that a
// stranger who uses it up cannot lock the owner out.
type Passwords struct {
	addrs, names *Limiter
	seed         maphash.Seed
	owners       owners
	refused      atomic.Int64
}

// NewPasswords grants both the address and the name this budget of wrong
// passwords. An address that gave the right one is known as the owner's for
// memory after it last did; at most size pairs are known.
func NewPasswords(budget Budget, memory time.Duration, size int) *Passwords {
	return &Passwords{
		addrs: NewLimiter(budget, 0), names: NewLimiter(budget, 0), seed: maphash.MakeSeed(),
		owners: owners{memory: memory, size: max(2, size)},
	}
}

// Refused returns how many attempts were not even compared.
func (p *Passwords) Refused() int64 { return p.refused.Load() }

// Len returns how many addresses and names had a wrong password lately.
func (p *Passwords) Len() int { return p.addrs.Len() + p.names.Len() }

// May says whether a password of that name may be compared.
func (p *Passwords) May(addr netip.Addr, name string, now time.Time) Result {
	res := p.addrs.Ready(addr, now)
	if res.OK {
		if res = p.names.ready(p.nameKey(name), now); !res.OK && p.owners.knows(p.pair(addr, name), now) {
			return Result{OK: true}
		}
	}
	if !res.OK {
		p.refused.Add(1)
	}
	return res
}

// Wrong charges for a wrong password.
func (p *Passwords) Wrong(addr netip.Addr, name string, now time.Time) {
	p.addrs.Charge(addr, now)
	p.names.charge(p.nameKey(name), now)
}

// Right remembers that the address knew the password.
func (p *Passwords) Right(addr netip.Addr, name string, now time.Time) {
	p.owners.remember(p.pair(addr, name), now)
}

// Sweep frees what no longer matters.
func (p *Passwords) Sweep(now time.Time) {
	p.addrs.Sweep(now)
	p.names.Sweep(now)
}

func (p *Passwords) nameKey(name string) key { return hashKey(maphash.String(p.seed, name)) }

// pair stands for an address and a name. Two that meet by chance would each
// pass for the other's owner to the name's budget alone: nothing to aim at, since
// the hash is keyed.
func (p *Passwords) pair(addr netip.Addr, name string) uint64 {
	var h maphash.Hash
	h.SetSeed(p.seed)
	k := keysOf(addr)[0]
	h.Write(k[:])
	h.WriteString(name)
	return h.Sum64()
}

// owners remembers pairs of address and name for a while. What it learnt in
// one such while is dropped as a whole when two have passed, so it never
// searches. When it is full it learns no new ones until then; those it knows
// have a place of their own, so that strangers with many names cannot push them out.
type owners struct {
	memory     time.Duration
	size       int
	mu         sync.Mutex
	began      time.Time // of the young generation
	young, old map[uint64]time.Time
}

func (o *owners) knows(pair uint64, now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.young[pair].After(now) || o.old[pair].After(now)
}

func (o *owners) remember(pair uint64, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now.Sub(o.began) >= o.memory {
		o.began, o.young, o.old = now, make(map[uint64]time.Time), o.young
	}
	room := max(1, o.size/4)
	if o.old[pair].After(now) {
		room *= 2
	}
	if _, known := o.young[pair]; known || len(o.young) < room {
		o.young[pair] = now.Add(o.memory)
	}
}
