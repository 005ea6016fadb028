package ratelimit

import (
	"context"
	"net/http"
	"net/netip"
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
	// NewCode is a name that can be guessed and was claimed for the first time.
	NewCode
	// UnknownCode is a message to such a name that does not exist.
	UnknownCode
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
	NewCode:          {"new-codes", "Your address has made many codes lately."},
	UnknownCode:      {"codes", "There were too many wrong codes from your address."},
}

// AttemptLimits configures an [AttemptLimiter]. A zero budget is no limit.
type AttemptLimits struct {
	// WrongPasswords bounds the wrong passwords of an address, for any name, and those of a
	// network, an IPv4 /24 or an IPv6 /48, for one name. All networks together have sixteen
	// budgets for a name. Once they are used up, only a network without a wrong password for
	// the name in the last minutes can try once.
	WrongPasswords Budget
	// NewNames, UnknownRecipients, NewCodes and UnknownCodes bound the attempts of an address.
	NewNames, UnknownRecipients Budget
	NewCodes, UnknownCodes      Budget
	// An address that sent the name's password in the last OwnerTTL is its owner, and the budgets
	// for the name do not apply to it. MaxOwners bounds the pairs of address and name that are
	// remembered.
	OwnerTTL  time.Duration
	MaxOwners int
	// DryRun counts refusals but refuses nothing.
	DryRun bool
}

// AttemptLimiter limits failed attempts: guesses at passwords, and at names. All methods
// can be called concurrently.
type AttemptLimiter struct {
	addr    func(*http.Request) netip.Addr
	logins  *loginThrottle
	others  [numAttempts]*Limiter // nil for WrongPassword
	budgets [numAttempts]Budget
	running [numAttempts]reservations
	refused [numAttempts]atomic.Int64
	dryRun  bool
}

// NewAttemptLimiter returns a limiter of the clients that addr resolves, as
// [ClientIP.Addr] does.
func NewAttemptLimiter(limits AttemptLimits, addr func(*http.Request) netip.Addr) *AttemptLimiter {
	return &AttemptLimiter{
		addr:   addr,
		logins: newLoginThrottle(limits.WrongPasswords, limits.OwnerTTL, limits.MaxOwners),
		others: [numAttempts]*Limiter{
			NewName:          NewLimiter(limits.NewNames, 0),
			UnknownRecipient: NewLimiter(limits.UnknownRecipients, 0),
			NewCode:          NewLimiter(limits.NewCodes, 0),
			UnknownCode:      NewLimiter(limits.UnknownCodes, 0),
		},
		budgets: [numAttempts]Budget{
			WrongPassword: limits.WrongPasswords, NewName: limits.NewNames, UnknownRecipient: limits.UnknownRecipients,
			NewCode: limits.NewCodes, UnknownCode: limits.UnknownCodes,
		},
		dryRun: limits.DryRun,
	}
}

// Allow returns nil if the client may make the attempt, otherwise a [*Refusal]. Name is
// the name that a password is for; other attempts ignore it. Allow reserves nothing: it
// refuses early what [AttemptLimiter.Reserve] would refuse.
func (l *AttemptLimiter) Allow(r *http.Request, a Attempt, name string) error {
	var res Result
	switch {
	case l.unused(a):
		return nil
	case a == WrongPassword:
		res = l.logins.allow(l.addr(r), name, now())
	default:
		res = l.others[a].Ready(l.addr(r), now())
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
		return l.logins.reserve(addr, name, now())
	}
	s, keys, t := &l.running[a], addrKeys(addr), now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range keys {
		if res, busy := s.admitLocked(l.others[a], k, t); !res.OK {
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
		l.logins.release(l.addr(r), name)
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
		return l.logins.len() == 0
	}
	return l.others[a].Len() == 0
}

// Failed charges the client for an attempt.
func (l *AttemptLimiter) Failed(r *http.Request, a Attempt, name string) {
	if a == WrongPassword {
		l.logins.failed(l.addr(r), name, now())
	} else {
		l.others[a].Charge(l.addr(r), now())
	}
}

// Succeeded remembers that the client sent the name's password, so that wrong passwords of
// other clients for the name do not delay it.
func (l *AttemptLimiter) Succeeded(r *http.Request, name string) {
	l.logins.succeeded(l.addr(r), name, now())
}

// Refused returns how many attempts were refused, or would have been in a dry run.
func (l *AttemptLimiter) Refused(a Attempt) int64 { return l.refused[a].Load() }

// Sweep frees memory after a flood, as [Limiter.Sweep] does.
func (l *AttemptLimiter) Sweep(now time.Time) {
	l.logins.sweep(now)
	for _, limiter := range l.others[NewName:] {
		limiter.Sweep(now)
	}
}
