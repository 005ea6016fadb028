package ratelimit

import (
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

// attemptTexts has the name of each limit, and what a refusal says.
var attemptTexts = [numAttempts]struct{ limit, detail string }{
	WrongPassword:    {"passwords", "There were too many wrong passwords from your address, or for this name."},
	NewName:          {"names", "Your address has claimed many names lately."},
	UnknownRecipient: {"misses", "Your address has sent to many names that are not claimed."},
}

// AttemptLimits configures an [AttemptLimiter]. A zero budget is no limit.
type AttemptLimits struct {
	// WrongPasswords bounds the wrong passwords of an address, and those for a name.
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
// the name that a password is for; other attempts ignore it.
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
	l.refused[a].Add(1)
	if l.dryRun {
		return nil
	}
	text, budget := attemptTexts[a], l.budgets[a]
	return &Refusal{
		Limit: text.limit, Quota: budget.Burst, Window: budget.window(), Wait: res.Wait, Detail: text.detail,
	}
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

// LoginThrottle limits wrong passwords: per address, for any name, and per name, from any
// address. An address that recently sent the name's password is its owner, and the budget
// of the name does not apply to it, so that an attacker who uses up that budget cannot
// lock the owner out. All methods can be called concurrently.
type LoginThrottle struct {
	addrs, names *Limiter
	seed         maphash.Seed
	owners       owners
}

// NewLoginThrottle gives each address and each name the budget. It remembers at most
// maxOwners pairs of owner and name, each for ttl after the owner's last login.
func NewLoginThrottle(budget Budget, ttl time.Duration, maxOwners int) *LoginThrottle {
	return &LoginThrottle{
		addrs: NewLimiter(budget, 0), names: NewLimiter(budget, 0), seed: maphash.MakeSeed(),
		owners: owners{ttl: ttl, size: max(2, maxOwners)},
	}
}

// Len returns how many addresses and names had a wrong password recently.
func (t *LoginThrottle) Len() int { return t.addrs.Len() + t.names.Len() }

// Allow returns whether a password for the name may be compared.
func (t *LoginThrottle) Allow(addr netip.Addr, name string, now time.Time) Result {
	res := t.addrs.Ready(addr, now)
	if !res.OK {
		return res
	}
	if res = t.names.ready(t.nameKey(name), now); !res.OK && t.owners.contains(t.pair(addr, name), now) {
		return Result{OK: true}
	}
	return res
}

// Failed charges address and name for a wrong password.
func (t *LoginThrottle) Failed(addr netip.Addr, name string, now time.Time) {
	t.addrs.Charge(addr, now)
	t.names.charge(t.nameKey(name), now)
}

// Succeeded remembers the address as an owner of the name.
func (t *LoginThrottle) Succeeded(addr netip.Addr, name string, now time.Time) {
	t.owners.add(t.pair(addr, name), now)
}

// Sweep frees memory after a flood, as [Limiter.Sweep] does.
func (t *LoginThrottle) Sweep(now time.Time) {
	t.addrs.Sweep(now)
	t.names.Sweep(now)
}

func (t *LoginThrottle) nameKey(name string) key { return hashKey(maphash.String(t.seed, name)) }

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
