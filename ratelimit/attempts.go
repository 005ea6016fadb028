package ratelimit

import (
	"context"
	"hash/maphash"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Attempt is a kind of attempt that costs something only if it fails, so that it is
// allowed first and charged afterwards.
type Attempt int

const (
	// WrongPassword is a password that does not match the name's.
	WrongPassword Attempt = iota
	// NewName is a name that was claimed for the first time.
	NewName
	// UnknownRecipient is a message to a name that does not exist.
	UnknownRecipient
	numAttempts
)

// maxOutcomeWait bounds the wait for the outcome of other attempts, which is that of a
// step of a store.
const maxOutcomeWait = 2 * time.Second

// attemptTexts has the name of each limit, and what a refusal says.
var attemptTexts = [numAttempts]struct{ limit, detail string }{
	WrongPassword:    {"passwords", "There were too many wrong passwords from your address, or for this name."},
	NewName:          {"names", "Your address has claimed many names lately."},
	UnknownRecipient: {"misses", "Your address has sent to many names that are not claimed."},
}

// AttemptLimits configures an [AttemptLimiter]. A zero budget is no limit.
type AttemptLimits struct {
	// WrongPasswords bounds the wrong passwords of an address, and those of a network for
	// one name; see [LoginThrottle].
	WrongPasswords Budget
	// NewNames and UnknownRecipients bound the attempts of an address.
	NewNames, UnknownRecipients Budget
	// OwnerTTL and MaxOwners bound what a [LoginThrottle] remembers.
	OwnerTTL  time.Duration
	MaxOwners int
	// DryRun counts refusals but refuses nothing.
	DryRun bool
}

// AttemptLimiter limits failed attempts: guesses at passwords, and at names. All methods
// can be called concurrently.
type AttemptLimiter struct {
	addr    func(*http.Request) netip.Addr
	logins  *LoginThrottle
	others  [numAttempts]*Limiter // nil for WrongPassword
	budgets [numAttempts]Budget
	running [numAttempts]reservations
	refused [numAttempts]atomic.Int64
	dryRun  bool
	start   time.Time
}

// NewAttemptLimiter returns a limiter of the clients that addr resolves, as
// [ClientIP.Addr] does.
func NewAttemptLimiter(limits AttemptLimits, addr func(*http.Request) netip.Addr) *AttemptLimiter {
	return &AttemptLimiter{
		addr:   addr,
		logins: NewLoginThrottle(limits.WrongPasswords, limits.OwnerTTL, limits.MaxOwners),
		others: [numAttempts]*Limiter{
			NewName:          NewLimiter(limits.NewNames, 0),
			UnknownRecipient: NewLimiter(limits.UnknownRecipients, 0),
		},
		budgets: [numAttempts]Budget{limits.WrongPasswords, limits.NewNames, limits.UnknownRecipients},
		dryRun:  limits.DryRun,
		start:   time.Now(),
	}
}

// now reads the monotonic clock alone, which takes half as long as reading both clocks.
func (l *AttemptLimiter) now() time.Time { return l.start.Add(time.Since(l.start)) }

// Allow returns nil if the client may make the attempt, otherwise a [*Refusal]. Name is
// the name that a password is for; other attempts ignore it. Allow reserves nothing: it
// refuses early what [AttemptLimiter.Reserve] would refuse.
func (l *AttemptLimiter) Allow(r *http.Request, a Attempt, name string) error {
	var res Result
	switch {
	case l.unused(a):
		return nil
	case a == WrongPassword:
		res = l.logins.Allow(l.addr(r), name, l.now())
	default:
		res = l.others[a].Ready(l.addr(r), l.now())
	}
	if res.OK {
		return nil
	}
	return l.refuse(a, res)
}

// refuse counts a refusal. It returns nil in a dry run.
func (l *AttemptLimiter) refuse(a Attempt, res Result) error {
	l.refused[a].Add(1)
	if l.dryRun {
		return nil
	}
	text, budget := attemptTexts[a], l.budgets[a]
	return &Refusal{
		Limit: text.limit, Quota: budget.Burst, Window: budget.window(), Wait: res.Wait, Detail: text.detail,
	}
}

// Reserve reserves the cost of an attempt until [AttemptLimiter.Release], which must
// follow if reserved is true. It is called right before the attempt: at once is only
// admitted what the budget allows if all of it fails. If other attempts have reserved
// the whole budget, Reserve waits for their outcome, for two seconds or until the
// request's context ends. The error is a [*Refusal] or that of the context.
func (l *AttemptLimiter) Reserve(r *http.Request, a Attempt, name string) (reserved bool, err error) {
	if l.budgets[a].PerSecond <= 0 {
		return false, nil
	}
	addr := l.addr(r)
	res, ended := l.tryReserve(addr, a, name)
	if ended != nil {
		if res, err = l.awaitOutcome(r.Context(), addr, a, name, ended); err != nil {
			return false, err
		}
	}
	if res.OK {
		return true, nil
	}
	return false, l.refuse(a, res)
}

// tryReserve returns a channel if the attempt has to wait for the outcome of others.
func (l *AttemptLimiter) tryReserve(addr netip.Addr, a Attempt, name string) (Result, <-chan struct{}) {
	if a == WrongPassword {
		return l.logins.Reserve(addr, name, l.now())
	}
	s, keys, now := &l.running[a], addrKeys(addr), l.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range keys {
		if res, busy := s.admitLocked(l.others[a], k, now); !res.OK {
			return res, nil
		} else if busy {
			return Result{}, s.endedLocked(k)
		}
	}
	s.addLocked(keys)
	return Result{OK: true}, nil
}

// awaitOutcome tries again whenever an attempt ends that shares the budget.
func (l *AttemptLimiter) awaitOutcome(
	ctx context.Context, addr netip.Addr, a Attempt, name string, ended <-chan struct{},
) (res Result, err error) {
	timer := time.NewTimer(maxOutcomeWait)
	defer timer.Stop()
	for ended != nil {
		select {
		case <-ended:
		case <-timer.C:
			return Result{Wait: time.Second}, nil
		case <-ctx.Done():
			return Result{}, ctx.Err()
		}
		res, ended = l.tryReserve(addr, a, name)
	}
	return res, nil
}

// Release ends a reservation. An attempt that failed is charged before, by
// [AttemptLimiter.Failed].
func (l *AttemptLimiter) Release(r *http.Request, a Attempt, name string) {
	if a == WrongPassword {
		l.logins.Release(l.addr(r), name)
	} else {
		l.running[a].release(addrKeys(l.addr(r)))
	}
}

func addrKeys(addr netip.Addr) attemptKeys {
	k := keysOf(addr)
	return attemptKeys{k[0], k[1]}
}

// unused reports whether no such attempt has failed lately, as is usual. Then neither the
// clock nor the address is needed.
func (l *AttemptLimiter) unused(a Attempt) bool {
	if a == WrongPassword {
		return l.logins.Len() == 0
	}
	return l.others[a].Len() == 0
}

// Failed charges the client for an attempt.
func (l *AttemptLimiter) Failed(r *http.Request, a Attempt, name string) {
	if a == WrongPassword {
		l.logins.Failed(l.addr(r), name, l.now())
	} else {
		l.others[a].Charge(l.addr(r), l.now())
	}
}

// Succeeded remembers that the client sent the name's password, as [LoginThrottle] does.
func (l *AttemptLimiter) Succeeded(r *http.Request, name string) {
	l.logins.Succeeded(l.addr(r), name, l.now())
}

// Refused returns how many attempts were refused, or would have been in a dry run.
func (l *AttemptLimiter) Refused(a Attempt) int64 { return l.refused[a].Load() }

// Sweep frees memory after a flood, as [Limiter.Sweep] does.
func (l *AttemptLimiter) Sweep(now time.Time) {
	l.logins.Sweep(now)
	l.others[NewName].Sweep(now)
	l.others[UnknownRecipient].Sweep(now)
}

// LoginThrottle limits wrong passwords: of an address, for any name, and of a network, for
// one name. A network is an IPv4 /24 or an IPv6 /48. Guesses from one network thus do not
// lock out an owner who moves to another. All networks together have sixteen budgets for a
// name. Once they are used up, only a network without a wrong password for the name in the
// last minutes can try once.
//
// An address that recently sent the name's password is its owner, and the budgets for the
// name do not apply to it. All methods can be called concurrently.
type LoginThrottle struct {
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

// NewLoginThrottle gives each address, and each network for each name, the budget. It
// remembers at most maxOwners pairs of owner and name, each for ttl after the owner's last
// login.
func NewLoginThrottle(budget Budget, ttl time.Duration, maxOwners int) *LoginThrottle {
	const size = DefaultTableSize / 4
	return &LoginThrottle{
		addrs:    NewLimiter(budget, 0),
		networks: NewLimiter(budget, size),
		names:    NewLimiter(Budget{budget.PerSecond * networkFactor, budget.Burst * networkFactor}, size),
		untried:  NewLimiter(Budget{budget.PerSecond / untriedFactor, 1}, size),
		seed:     maphash.MakeSeed(),
		owners:   owners{ttl: ttl, size: max(2, maxOwners)},
	}
}

// Len returns how many addresses and names had a wrong password recently.
func (t *LoginThrottle) Len() int {
	return t.addrs.Len() + t.networks.Len() + t.names.Len() + t.untried.Len()
}

// Allow returns whether a password for the name can be compared. It ignores those that
// are being compared.
func (t *LoginThrottle) Allow(addr netip.Addr, name string, now time.Time) Result {
	t.running.mu.Lock()
	defer t.running.mu.Unlock()
	res, _ := t.admitLocked(addr, name, t.keys(addr, name), now)
	return res
}

// Reserve reserves a token of address, network and name for a comparison, until Release.
// If running comparisons have reserved all tokens, it reserves nothing and returns a
// channel that is closed when one of them ends.
func (t *LoginThrottle) Reserve(addr netip.Addr, name string, now time.Time) (Result, <-chan struct{}) {
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

// Release ends a reservation. A wrong password is charged before, by Failed.
func (t *LoginThrottle) Release(addr netip.Addr, name string) { t.running.release(t.keys(addr, name)) }

// The keys of a comparison, as [LoginThrottle.keys] returns them.
const (
	clientKey   = iota // the address
	prefixKey          // the /48 around it
	guesserKey         // the network and the name
	nameOnlyKey        // the name
)

// admitLocked returns whether the wrong passwords so far allow another comparison, and the
// key of a bucket whose tokens are all reserved.
func (t *LoginThrottle) admitLocked(addr netip.Addr, name string, keys attemptKeys, now time.Time) (res Result, busyKey key) {
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

// Failed charges address, network and name for a wrong password.
func (t *LoginThrottle) Failed(addr netip.Addr, name string, now time.Time) {
	keys := t.keys(addr, name)
	t.addrs.Charge(addr, now)
	t.networks.charge(keys[guesserKey], now)
	t.names.charge(keys[nameOnlyKey], now)
	t.untried.take(keys[guesserKey], now) // no debt: the time since the last one counts
}

// Succeeded remembers the address as an owner of the name.
func (t *LoginThrottle) Succeeded(addr netip.Addr, name string, now time.Time) {
	t.owners.add(t.pair(addr, name), now)
}

// Sweep frees memory after a flood, as [Limiter.Sweep] does.
func (t *LoginThrottle) Sweep(now time.Time) {
	for _, l := range []*Limiter{t.addrs, t.networks, t.names, t.untried} {
		l.Sweep(now)
	}
}

func (t *LoginThrottle) keys(addr netip.Addr, name string) attemptKeys {
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
func (t *LoginThrottle) hash(network netip.Prefix, name string) uint64 {
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
func (t *LoginThrottle) pair(addr netip.Addr, name string) uint64 {
	var h maphash.Hash
	h.SetSeed(t.seed)
	k := keysOf(addr)[0]
	h.Write(k[:])
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
