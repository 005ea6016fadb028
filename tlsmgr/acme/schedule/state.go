// Package schedule decides when a name orders a certificate. [State] is a state machine
// without I/O, clock or goroutines: each method is a transition, and [State.Check]
// returns the [Action] to take. The caller takes it, and stores the state.
//
//	idle ──► due ──► ordering ──► finalized ──► processing ──► valid
//	          ▲          │             │             │
//	          │          ├─► failed ◄──┴─────────────┘   the CA refused: back off, 15 min to 6 h
//	          └──────────┴─► unreachable                 the CA gave no answer: retry, 5 s to 5 min
//
// Before each order the state is stored as if the order had failed, so that a
// crash cannot undo it.
package schedule

import (
	"slices"
	"time"
)

// Phase is how far the present or last order of a name has come.
type Phase string

const (
	// Idle: no order is known.
	Idle Phase = ""
	// Due: an order should begin now.
	Due Phase = "due"
	// Ordering: this process holds the lock of the name, and an order has begun.
	Ordering Phase = "ordering"
	// Finalized: the CA has validated the name and received the CSR (RFC 8555, 7.4).
	Finalized Phase = "finalized"
	// Processing: the CA is issuing. The order can be resumed by its URL.
	Processing Phase = "processing"
	// Valid: the last order brought a certificate.
	Valid Phase = "valid"
	// Failed: the CA refused the last order or could not validate the name.
	Failed Phase = "failed"
	// Unreachable: the CA did not answer, or had no capacity.
	Unreachable Phase = "unreachable"
)

const (
	unavailableBackoffMin, unavailableBackoffMax = 5 * time.Second, 5 * time.Minute
	// FailureBackoffMin is the wait after the first failed order. A failed order
	// mostly fails again until an operator acts, so the wait doubles up to 6 h.
	FailureBackoffMin = 15 * time.Minute
	failureBackoffMax = 6 * time.Hour
	addressBackoffMax = time.Minute
	// InterruptedRetryDelay is the wait after an order that a shutdown interrupted.
	InterruptedRetryDelay = time.Minute
	// forcedRetryDelay is the least wait between a failed order and a forced one.
	forcedRetryDelay = time.Minute
	// MaxFailedValidations can fail per name within ValidationWindow. Let's Encrypt
	// allows five.
	MaxFailedValidations = 4
	// ValidationWindow is how long a failed validation counts.
	ValidationWindow = time.Hour
	// pendingMax is how long a finalized order is waited for: as long as the longest
	// wait after a failure, so that new orders stay within the limits of a CA.
	// pendingMin is the least wait while there is something better to do.
	pendingMax, pendingMin = failureBackoffMax, 15 * time.Minute
	// MaxRetryAfter bounds the wait that a CA can ask for.
	MaxRetryAfter = 24 * time.Hour
	// AssumedLifetime is assumed of an issued certificate that cannot be loaded.
	AssumedLifetime = 90 * 24 * time.Hour
)

// State is what is known of the orders of one name. The zero State is a name
// that never ordered. A stored state and the one in memory are combined by [Merge] alone.
// A State can be copied: no method changes a slice or a map that a copy shares.
type State struct {
	Phase Phase
	// OrderURL and OrderCA identify an order that can be resumed, in the phases
	// Finalized and Processing, and FinalizedAt is the time of its finalization.
	OrderURL    string    `json:",omitempty"`
	OrderCA     string    `json:",omitempty"`
	FinalizedAt time.Time `json:",omitzero"`
	// LastAttempt is the start of the last order, and NextAttempt the earliest time
	// of the next one.
	LastAttempt, NextAttempt time.Time
	// RetryAfter is the earliest time that a CA accepts another order; of several
	// CAs, the earliest of all. RetryAfterByCA has the time for each, by URL.
	RetryAfter     time.Time
	RetryAfterByCA map[string]time.Time `json:",omitempty"`
	// Failures counts the failed orders since the last success.
	Failures int
	// LastError explains the last order that brought no usable certificate.
	LastError string
	// FailedValidations are the times of those that failed, or could have. The last
	// Unsettled of them are the assumption about the order in progress.
	FailedValidations []time.Time
	Unsettled         int `json:",omitempty"`
	// StagingPassed is set once a staging order was successful.
	StagingPassed bool
	// LastIssuer is the URL of the CA that issued last. The name is not renewed
	// before RenewNotBefore.
	LastIssuer     string
	RenewNotBefore time.Time
	// NoOpRenewals counts successful orders in a row that left the name due.
	NoOpRenewals int
	// CAs are the sorted URLs of the CAs that the state is about.
	CAs []string
	// Outage is about this process: it cannot reach the CA. Other nodes can try,
	// so it is not stored where they read.
	Outage Outage

	// Known to this process alone:

	recentValidations []time.Time // of this run, by the monotonic clock
	forced            bool
	missingAddress    int // lookups without an address, in a row
	merged            bool
}

// Outage is a CA that cannot be reached.
type Outage struct {
	// Count is the number of attempts in a row, and Next the time of the next one.
	Count int
	Next  time.Time
	Error string
}

// Err returns the text to show for a name without a good certificate.
func (s *State) Err() string {
	if s.Outage.Error != "" {
		return s.Outage.Error
	}
	return s.LastError
}

// Troubled reports whether orders failed or could not be made since the last success.
func (s *State) Troubled() bool { return s.Failures+s.Outage.Count > 0 }

// ValidationsAllowedAt returns when n more validations can fail within the
// budget; now when they can at once.
func (s *State) ValidationsAllowedAt(n int, now time.Time) time.Time {
	return later(allowedAt(s.FailedValidations, n, now), allowedAt(s.recentValidations, n, now))
}

func allowedAt(failed []time.Time, n int, now time.Time) time.Time {
	failed = inWindow(failed, now)
	for i, at := range failed {
		failed[i] = earlier(at, now) // a clock that was ahead: it could have been just now
	}
	slices.SortFunc(failed, time.Time.Compare)
	excess := len(failed) + n - MaxFailedValidations
	if excess <= 0 {
		return now
	}
	return failed[min(excess, len(failed))-1].Add(ValidationWindow)
}

// RemainingRetryAfter returns how long a CA must not be asked. A time that is
// too far away was written by a clock that was ahead, and is ignored.
func (s *State) RemainingRetryAfter(caURL string, now time.Time) time.Duration {
	if wait := s.RetryAfterByCA[caURL].Sub(now); wait <= MaxRetryAfter {
		return max(wait, 0)
	}
	return 0
}

// NextOrder returns the earliest time of the next order that is not forced.
func (s *State) NextOrder() time.Time { return later(s.NextAttempt, s.Outage.Next) }

// Pending reports whether an order is finalized and can be resumed.
func (s *State) Pending() bool {
	return s.OrderURL != "" && (s.Phase == Finalized || s.Phase == Processing)
}

// Overdue reports whether the CA has had enough time for a finalized order. For
// horizon and otherCA see [Failure].
func (s *State) Overdue(now time.Time, horizon time.Duration, otherCA bool) bool {
	return s.Pending() && !s.FinalizedAt.IsZero() && now.Sub(s.FinalizedAt) >= pendingLimit(horizon, otherCA)
}

// pendingLimit returns how long a finalized order is waited for. A certificate in
// use must not expire meanwhile, and a name without one must not wait if another
// CA can be asked.
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

// MinRenewalInterval returns how long a name rests after a successful order: an
// hour, and six times as long for each earlier order in a row that left the name
// due. Let's Encrypt issues five equal certificates a week; this way four are
// ordered in the first week. Shorter lifetimes have shorter rests.
func MinRenewalInterval(noOpRenewals int, lifetime time.Duration) time.Duration {
	if lifetime <= 0 { // invalid, and no reason to order without a pause
		lifetime = AssumedLifetime
	}
	interval, maxInterval := max(min(lifetime/10, time.Hour), time.Second), max(lifetime/2, time.Second)
	for ; noOpRenewals > 0 && interval < maxInterval; noOpRenewals-- {
		interval *= 6
	}
	return min(interval, maxInterval)
}

// backoff returns the nth wait: initial, doubling up to limit.
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
