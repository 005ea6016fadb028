// Package schedule decides when a name orders a certificate. [State] is a state machine
// without I/O, clock or goroutines: each method is a transition, and [State.Check]
// returns the next [Action]. The caller performs it and stores the state.
//
//	idle ──► due ──► ordering ──► finalized ──► processing ──► valid
//	          ▲          │             │             │
//	          │          ├─► failed ◄──┴─────────────┘   the CA refused: back off, 15 min to 6 h
//	          └──────────┴─► unreachable                 the CA did not respond: retry, 5 s to 5 min
//
// Before each order, the state is stored as if the order had failed, so that a crash
// during the order does not cause an early retry.
package schedule

import (
	"slices"
	"time"
)

// Phase is the progress of the current or last order of a name.
type Phase string

const (
	// Idle: no order is known.
	Idle Phase = ""
	// Due: an order is to begin.
	Due Phase = "due"
	// Ordering: this process holds the lock of the name and has begun an order.
	Ordering Phase = "ordering"
	// Finalized: the CA has validated the name and received the CSR (RFC 8555, 7.4).
	Finalized Phase = "finalized"
	// Processing: the CA is issuing. The order can be resumed by its URL.
	Processing Phase = "processing"
	// Valid: the last order returned a certificate.
	Valid Phase = "valid"
	// Failed: the CA refused the last order or could not validate the name.
	Failed Phase = "failed"
	// Unreachable: the CA did not respond, or was overloaded.
	Unreachable Phase = "unreachable"
)

const (
	unavailableBackoffMin, unavailableBackoffMax = 5 * time.Second, 5 * time.Minute
	// FailureBackoffMin is the wait after the first failed order. An order usually fails
	// again until an operator fixes the cause, so the wait doubles up to 6 h.
	FailureBackoffMin = 15 * time.Minute
	failureBackoffMax = 6 * time.Hour
	addressBackoffMax = time.Minute
	// InterruptedRetryDelay is the wait after an order that a shutdown interrupted.
	InterruptedRetryDelay = time.Minute
	// forcedRetryDelay is the minimum wait between a failed order and a forced one.
	forcedRetryDelay = time.Minute
	// MaxFailedValidations is the number of validations of a name that can fail within
	// ValidationWindow. Let's Encrypt allows five.
	MaxFailedValidations = 4
	// ValidationWindow is how long a failed validation counts.
	ValidationWindow = time.Hour
	// pendingMax bounds the wait for the certificate of a finalized order. It equals the
	// longest back-off, so that new orders stay within the limits of a CA. pendingMin is
	// the bound if another CA can be tried, or the certificate in use expires soon.
	pendingMax, pendingMin = failureBackoffMax, 15 * time.Minute
	// MaxRetryAfter bounds the wait that a CA can request.
	MaxRetryAfter = 24 * time.Hour
	// AssumedLifetime is the lifetime of an issued certificate that cannot be loaded.
	AssumedLifetime = 90 * 24 * time.Hour
)

// State describes the orders of one name. The zero State is that of a name without
// orders. [Merge] combines a stored state with the one in memory. A State can be copied:
// its methods do not change slices and maps in place.
type State struct {
	Phase Phase
	// OrderURL and OrderCA identify the order that can be resumed in the phases Finalized
	// and Processing. FinalizedAt is the time at which it was finalized.
	OrderURL    string    `json:",omitempty"`
	OrderCA     string    `json:",omitempty"`
	FinalizedAt time.Time `json:",omitzero"`
	// LastAttempt is the time at which the last order began, and NextAttempt the earliest
	// time of the next one.
	LastAttempt, NextAttempt time.Time
	// RetryAfter is the earliest time at which one of the CAs accepts another order.
	// RetryAfterByCA has the time of each CA by URL.
	RetryAfter     time.Time
	RetryAfterByCA map[string]time.Time `json:",omitempty"`
	// Failures is the number of failed orders since the last success.
	Failures int
	// LastError is the error of the last order that returned no valid certificate.
	LastError string
	// FailedValidations are the times of validations that have failed, or can have. The
	// last Unsettled of them belong to the order in progress.
	FailedValidations []time.Time
	Unsettled         int `json:",omitempty"`
	// StagingPassed is set after a successful staging order.
	StagingPassed bool
	// LastIssuer is the URL of the CA that issued the last certificate. The name is not
	// renewed before RenewNotBefore.
	LastIssuer     string
	RenewNotBefore time.Time
	// NoOpRenewals is the number of consecutive successful orders after which the name
	// was still due.
	NoOpRenewals int
	// CAs are the sorted URLs of the CAs for which the state applies.
	CAs []string
	// Outage is set while this process cannot reach the CA. Other nodes can reach it, so
	// it is not stored in shared storage.
	Outage Outage

	// The fields below are not stored.

	recentValidations []time.Time // FailedValidations of this process, with monotonic times
	forced            bool        // an operator requested an order
	missingAddress    int         // consecutive DNS lookups without an address
	merged            bool        // Merge was called
}

// Outage is the state of a CA that cannot be reached.
type Outage struct {
	// Count is the number of consecutive attempts, and Next the time of the next one.
	Count int
	Next  time.Time
	Error string
}

// Err returns the error to show for a name whose certificate is missing, expired or due.
func (s *State) Err() string {
	if s.Outage.Error != "" {
		return s.Outage.Error
	}
	return s.LastError
}

// Troubled reports whether an order failed, or could not be made, since the last success.
func (s *State) Troubled() bool { return s.Failures+s.Outage.Count > 0 }

// ValidationsAllowedAt returns the earliest time at which n more validations can fail
// without exceeding the budget. It can be now.
func (s *State) ValidationsAllowedAt(n int, now time.Time) time.Time {
	return later(allowedAt(s.FailedValidations, n, now), allowedAt(s.recentValidations, n, now))
}

func allowedAt(failed []time.Time, n int, now time.Time) time.Time {
	failed = inWindow(failed, now)
	for i, at := range failed {
		failed[i] = earlier(at, now) // stored by a clock that was ahead
	}
	slices.SortFunc(failed, time.Time.Compare)
	excess := len(failed) + n - MaxFailedValidations
	if excess <= 0 {
		return now
	}
	return failed[min(excess, len(failed))-1].Add(ValidationWindow)
}

// RemainingRetryAfter returns the remaining Retry-After of a CA. A time more than
// MaxRetryAfter ahead was stored by a clock that was ahead, and is ignored.
func (s *State) RemainingRetryAfter(caURL string, now time.Time) time.Duration {
	if wait := s.RetryAfterByCA[caURL].Sub(now); wait <= MaxRetryAfter {
		return max(wait, 0)
	}
	return 0
}

// NextOrder returns the earliest time of the next order, unless that is forced.
func (s *State) NextOrder() time.Time { return later(s.NextAttempt, s.Outage.Next) }

// Pending reports whether an order is finalized and can be resumed.
func (s *State) Pending() bool {
	return s.OrderURL != "" && (s.Phase == Finalized || s.Phase == Processing)
}

// Overdue reports whether a finalized order has waited too long for its certificate. See
// [Failure] for horizon and otherCA.
func (s *State) Overdue(now time.Time, horizon time.Duration, otherCA bool) bool {
	return s.Pending() && !s.FinalizedAt.IsZero() && now.Sub(s.FinalizedAt) >= pendingLimit(horizon, otherCA)
}

// pendingLimit returns how long a finalized order can wait for its certificate. The
// certificate in use must not expire during the wait, and a name without one must not wait
// long if another CA can be tried.
func pendingLimit(horizon time.Duration, otherCA bool) time.Duration {
	switch {
	case horizon > 0:
		return min(max(horizon/4, pendingMin), pendingMax)
	case otherCA:
		return pendingMin
	}
	return pendingMax
}

// nextOrder returns the earliest time of the next order, whether or not the
// certificate in use is due.
func (s *State) nextOrder(now time.Time) time.Time {
	at := s.NextAttempt
	if s.forced {
		allowed := later(now, s.RetryAfter)
		if s.NoOpRenewals > 0 {
			allowed = later(allowed, s.RenewNotBefore)
		}
		if s.Failures > 0 {
			allowed = later(allowed, s.LastAttempt.Add(forcedRetryDelay))
		}
		at = earlier(at, allowed)
	}
	return later(at, s.Outage.Next)
}

// MinRenewalInterval returns the minimum time between a successful order and the next
// one: an hour, multiplied by six for each no-op renewal. Let's Encrypt issues five
// certificates for the same names per week; with these intervals, four are ordered in
// the first week. Short lifetimes have shorter intervals.
func MinRenewalInterval(noOpRenewals int, lifetime time.Duration) time.Duration {
	if lifetime <= 0 { // of an invalid certificate
		lifetime = AssumedLifetime
	}
	interval, maxInterval := max(min(lifetime/10, time.Hour), time.Second), max(lifetime/2, time.Second)
	for ; noOpRenewals > 0 && interval < maxInterval; noOpRenewals-- {
		interval *= 6
	}
	return min(interval, maxInterval)
}

// backoff returns the nth wait, which doubles from initial up to limit.
func backoff(initial, limit time.Duration, n int) time.Duration {
	wait := initial
	for ; n > 1 && wait < limit; n-- {
		wait *= 2
	}
	return min(wait, limit)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// inWindow returns the times that still count, in a slice of its own.
func inWindow(failed []time.Time, now time.Time) []time.Time {
	return slices.DeleteFunc(slices.Clone(failed), func(at time.Time) bool { return now.Sub(at) >= ValidationWindow })
}
