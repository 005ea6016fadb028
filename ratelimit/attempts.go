package ratelimit

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// LoginThrottle limits guesses at the password of a name: per address, whichever
// names it tries, and per name, whichever addresses try it. An address that
// gave the right password lately is not held to the name's budget, so that a
// stranger who uses it up cannot lock the owner out.
type LoginThrottle struct {
	addrs, names *Limiter
	seed         maphash.Seed
	owners       owners
	refused      atomic.Int64
}

// NewLoginThrottle grants both the address and the name this budget of wrong
// passwords. An address that gave the right one is known as the owner's for
// memory after it last did; at most size pairs are known.
func NewLoginThrottle(budget Budget, ttl time.Duration, size int) *LoginThrottle {
	return &LoginThrottle{
		addrs: NewLimiter(budget, 0), names: NewLimiter(budget, 0), seed: maphash.MakeSeed(),
		owners: owners{ttl: ttl, size: max(2, size)},
	}
}

// Refused returns how many attempts were not even compared.
func (t *LoginThrottle) Refused() int64 { return t.refused.Load() }

// Len returns how many addresses and names had a wrong password lately.
func (t *LoginThrottle) Len() int { return t.addrs.Len() + t.names.Len() }

// Allow says whether a password of that name may be compared.
func (t *LoginThrottle) Allow(addr netip.Addr, name string, now time.Time) Result {
	res := t.addrs.Ready(addr, now)
	if res.OK {
		if res = t.names.ready(t.nameKey(name), now); !res.OK && t.owners.knows(t.pair(addr, name), now) {
			return Result{OK: true}
		}
	}
	if !res.OK {
		t.refused.Add(1)
	}
	return res
}

// Failed charges for a wrong password.
func (t *LoginThrottle) Failed(addr netip.Addr, name string, now time.Time) {
	t.addrs.Charge(addr, now)
	t.names.charge(t.nameKey(name), now)
}

// Succeeded remembers that the address knew the password.
func (t *LoginThrottle) Succeeded(addr netip.Addr, name string, now time.Time) {
	t.owners.remember(t.pair(addr, name), now)
}

// Sweep frees what no longer matters.
func (t *LoginThrottle) Sweep(now time.Time) {
	t.addrs.Sweep(now)
	t.names.Sweep(now)
}

func (t *LoginThrottle) nameKey(name string) key { return hashKey(maphash.String(t.seed, name)) }

// pair stands for an address and a name. Two that meet by chance would each
// pass for the other's owner to the name's budget alone: nothing to aim at, since
// the hash is keyed.
func (t *LoginThrottle) pair(addr netip.Addr, name string) uint64 {
	var h maphash.Hash
	h.SetSeed(t.seed)
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
	ttl        time.Duration
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
	if now.Sub(o.began) >= o.ttl {
		o.began, o.young, o.old = now, make(map[uint64]time.Time), o.young
	}
	capacity := max(1, o.size/4)
	if o.old[pair].After(now) {
		capacity *= 2
	}
	if _, known := o.young[pair]; known || len(o.young) < capacity {
		o.young[pair] = now.Add(o.ttl)
	}
}
