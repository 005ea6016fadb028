package ratelimit

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// loginThrottle limits wrong passwords as described for [AttemptLimits]. Guesses from one
// network do not lock out an owner who moves to another. All methods can be called
// concurrently.
type loginThrottle struct {
	addrs    *Limiter
	networks *Limiter // of a network, for a name
	names    *Limiter // of all networks, for a name
	untried  *Limiter // as networks: one token, refilled slowly
	running  reservations
	seed     maphash.Seed
	owners   owners
}

// untriedFactor is how much slower untried refills: 640 seconds with a token in ten.
const untriedFactor = 64

// newLoginThrottle gives each address, and each network for each name, the budget. It
// remembers at most maxOwners pairs of owner and name, each for ttl after the owner's last
// login.
func newLoginThrottle(budget Budget, ttl time.Duration, maxOwners int) *loginThrottle {
	const size = DefaultTableSize / 4
	return &loginThrottle{
		addrs:    NewLimiter(budget, 0),
		networks: NewLimiter(budget, size),
		names:    NewLimiter(Budget{budget.PerSecond * networkFactor, budget.Burst * networkFactor}, size),
		untried:  NewLimiter(Budget{budget.PerSecond / untriedFactor, 1}, size),
		seed:     maphash.MakeSeed(),
		owners:   owners{ttl: ttl, size: max(2, maxOwners)},
	}
}

// len returns how many addresses and names had a wrong password recently.
func (t *loginThrottle) len() int {
	return t.addrs.Len() + t.networks.Len() + t.names.Len() + t.untried.Len()
}

// allow returns whether a password for the name can be compared. It ignores those that
// are being compared.
func (t *loginThrottle) allow(addr netip.Addr, name string, now time.Time) Result {
	t.running.mu.Lock()
	defer t.running.mu.Unlock()
	res, _ := t.admitLocked(addr, name, t.keys(addr, name), now)
	return res
}

// reserve reserves a token of address, network and name for a comparison, until release.
// If running comparisons have reserved all tokens, it reserves nothing and returns a
// channel that is closed when one of them ends.
func (t *loginThrottle) reserve(addr netip.Addr, name string, now time.Time) (Result, <-chan struct{}) {
	keys := t.keys(addr, name)
	t.running.mu.Lock()
	defer t.running.mu.Unlock()
	res, busy := t.admitLocked(addr, name, keys, now)
	if res.OK && busy != (key{}) {
		return Result{}, t.running.endedLocked(busy)
	}
	if res.OK {
		t.running.addLocked(keys)
	}
	return res, nil
}

// release ends a reservation. A wrong password is charged before, by failed.
func (t *loginThrottle) release(addr netip.Addr, name string) { t.running.release(t.keys(addr, name)) }

// The keys of a comparison, as loginThrottle.keys returns them.
const (
	clientKey   = iota // the address
	prefixKey          // the /48 around it
	guesserKey         // the network and the name
	nameOnlyKey        // the name
)

// admitLocked returns whether the wrong passwords so far allow another comparison, and the
// key of a bucket whose tokens are all reserved.
func (t *loginThrottle) admitLocked(addr netip.Addr, name string, keys attemptKeys, now time.Time) (res Result, busyKey key) {
	check := func(l *Limiter, k key) bool {
		var busy bool
		if res, busy = t.running.admitLocked(l, k, now); busy {
			busyKey = k
		}
		return res.OK
	}
	if !check(t.addrs, keys[clientKey]) || !check(t.addrs, keys[prefixKey]) || t.owners.contains(t.pair(addr, name), now) {
		return res, busyKey
	}
	if check(t.networks, keys[guesserKey]) && !check(t.names, keys[nameOnlyKey]) {
		check(t.untried, keys[guesserKey])
	}
	return res, busyKey
}

// failed charges address, network and name for a wrong password.
func (t *loginThrottle) failed(addr netip.Addr, name string, now time.Time) {
	keys := t.keys(addr, name)
	t.addrs.Charge(addr, now)
	t.networks.charge(keys[guesserKey], now)
	t.names.charge(keys[nameOnlyKey], now)
	t.untried.take(keys[guesserKey], now) // no debt: the time since the last one counts
}

// succeeded remembers the address as an owner of the name.
func (t *loginThrottle) succeeded(addr netip.Addr, name string, now time.Time) {
	t.owners.add(t.pair(addr, name), now)
}

// sweep frees memory after a flood, as [Limiter.Sweep] does.
func (t *loginThrottle) sweep(now time.Time) {
	for _, l := range []*Limiter{t.addrs, t.networks, t.names, t.untried} {
		l.Sweep(now)
	}
}

func (t *loginThrottle) keys(addr netip.Addr, name string) attemptKeys {
	client := keysOf(addr)
	return attemptKeys{
		clientKey: client[0], prefixKey: client[1],
		guesserKey:  hashKey(t.hash(networkOf(addr), name)),
		nameOnlyKey: hashKey(maphash.String(t.seed, name)),
	}
}

// networkOf returns an IPv4 /24 or an IPv6 /48. It is invalid for an invalid address.
func networkOf(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap()
	bits := 48
	if addr.Is4() {
		bits = 24
	}
	p, _ := addr.Prefix(bits) // fails only for more bits than the address has
	return p
}

// hash is keyed, so that a client cannot predict which networks and names collide.
func (t *loginThrottle) hash(network netip.Prefix, name string) uint64 {
	var h maphash.Hash
	h.SetSeed(t.seed)
	b := network.Addr().As16()
	h.Write(b[:])
	h.WriteByte(byte(network.Bits()))
	h.WriteString(name)
	return h.Sum64()
}

// pair returns the hash of an address and a name. If two pairs collide, the budget of one
// name does not apply to the owner of the other. The hash is keyed, so that an attacker
// cannot aim for that.
func (t *loginThrottle) pair(addr netip.Addr, name string) uint64 {
	var h maphash.Hash
	h.SetSeed(t.seed)
	maphash.WriteComparable(&h, keysOf(addr)[0])
	h.WriteString(name)
	return h.Sum64()
}

// owners is a set of pairs that expire. It keeps two generations of length ttl and drops
// the older one as a whole, so that it never searches for expired pairs. A generation that
// is full accepts no new pairs, but has room reserved for the pairs of the older one, so
// that an attacker with many names cannot displace them.
type owners struct {
	ttl        time.Duration
	size       int
	mu         sync.Mutex
	began      time.Time // of the young generation
	young, old map[uint64]time.Time
}

func (o *owners) contains(pair uint64, now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.young[pair].After(now) || o.old[pair].After(now)
}

func (o *owners) add(pair uint64, now time.Time) {
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
