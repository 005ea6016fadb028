package schedule

import (
	"maps"
	"time"
)

// Event is something that happened to a name.
type Event interface{ apply(*State) Action }

// Action is what to do after an event. The zero Action is nothing.
type Action struct {
	// Order: order a certificate now, under the lock of the name.
	Order bool
	// ResumeURL and ResumeCA are set when an order is known that can be continued.
	ResumeURL, ResumeCA string
	// Wait is how long to wait until the next Check, and Next the time of the next
	// order, as far as it is known.
	Wait time.Duration
	Next time.Time
}

// Next returns the state after an event, and what to do. It does not change s.
func Next(s State, e Event) (State, Action) {
	s = s.clone()
	action := e.apply(&s)
	return s, action
}

// Force asks for an order as soon as the CA's limits allow one.
type Force struct{}

func (Force) apply(s *State) Action {
	s.forced = true
	return Action{}
}

// Check asks whether to order now.
type Check struct {
	Now         time.Time
	Certificate *Certificate // in use; nil: none
	ARI         ARI
	Shared      bool // other nodes use the storage
	// Damaged: the stored certificate cannot be read, and must be quarantined under
	// the lock before anything else.
	Damaged bool
	// Locked: the lock of the name is held, and s has been loaded since.
	Locked bool
}

func (e Check) apply(s *State) Action {
	if s.Phase == Ordering { // the order ended without a result, so it counts as failed
		s.Phase = Failed
	}
	renewAt := RenewAt(e.Certificate, e.ARI)
	isDue := !renewAt.After(e.Now)
	if s.forced || !isDue {
		s.Outage = Outage{}
	}
	next := later(renewAt, s.nextOrder(e.Now))
	if next.After(e.Now) && !e.Damaged {
		s.forced = s.forced && isDue // limits delay a forced order; they do not cancel it
		return Action{Wait: min(CheckInterval(e.Certificate, e.Shared), next.Sub(e.Now)), Next: next}
	}
	if e.Locked {
		s.forced = false
	}
	action := Action{Order: true}
	if s.resumable() {
		action.ResumeURL, action.ResumeCA = s.OrderURL, s.OrderCA
	} else {
		s.Phase = Due
	}
	return action
}

// NoAddress is a lookup that found that the name has no address. The order waits.
type NoAddress struct{ Now time.Time }

func (e NoAddress) apply(s *State) Action {
	s.missingAddress++
	wait := backoff(unavailableBackoffMin, addressBackoffMax, s.missingAddress)
	return Action{Wait: wait, Next: e.Now.Add(wait)}
}

// FirstMissingAddress reports whether the last lookup was the first without an address.
func (s *State) FirstMissingAddress() bool { return s.missingAddress == 1 }

// HasAddress is a lookup that found an address, or that failed.
type HasAddress struct{}

func (HasAddress) apply(s *State) Action {
	s.missingAddress = 0
	return Action{}
}

// BudgetExhausted is an order that was not made because its validations could
// exceed the budget before the time At.
type BudgetExhausted struct {
	At  time.Time
	Err string
}

func (e BudgetExhausted) apply(s *State) Action {
	s.Phase, s.NextAttempt, s.LastError = Failed, e.At, e.Err
	return Action{}
}

// Begin is an order that is about to begin at a CA. Until it ends, all its
// validations are assumed to fail.
type Begin struct {
	Now         time.Time
	CA          string
	Validations int
}

func (e Begin) apply(s *State) Action {
	s.forgetOrder()
	s.Phase, s.OrderCA = Ordering, e.CA
	s.LastAttempt, s.NextAttempt = e.Now, e.Now.Add(FailureBackoffMin)
	s.countValidations(e.Validations, e.Now)
	return Action{}
}

// Resume is an order that is about to be looked at again.
type Resume struct{ Now time.Time }

func (e Resume) apply(s *State) Action {
	s.LastAttempt, s.NextAttempt = e.Now, e.Now.Add(InterruptedRetryDelay)
	return Action{}
}

// OrderGone is a finalized order that its CA does not know any more, or that is
// given up.
type OrderGone struct{}

func (OrderGone) apply(s *State) Action {
	s.forgetOrder()
	s.Phase = Due
	return Action{}
}

// CountValidations is an order outside the schedule that is about to begin, and
// whose validations count.
type CountValidations struct {
	Now         time.Time
	Validations int
}

func (e CountValidations) apply(s *State) Action {
	s.countValidations(e.Validations, e.Now)
	return Action{}
}

func (s *State) countValidations(n int, now time.Time) {
	s.FailedValidations, s.recentValidations = inWindow(s.FailedValidations, now), inWindow(s.recentValidations, now)
	for range n {
		s.FailedValidations, s.recentValidations = append(s.FailedValidations, now), append(s.recentValidations, now)
	}
	s.Unsettled = n
}

// Progress is an order that has come to the phase Finalized or Processing. The
// name is validated, so no validation failed, and the order can be resumed.
type Progress struct {
	Now      time.Time
	Phase    Phase
	OrderURL string
}

func (e Progress) apply(s *State) Action {
	s.settle(0)
	if s.OrderURL != e.OrderURL {
		s.FinalizedAt = e.Now
	}
	s.Phase, s.OrderURL = e.Phase, e.OrderURL
	s.NextAttempt = e.Now.Add(InterruptedRetryDelay)
	return Action{}
}

// Settled tells how many validations of an order failed.
type Settled struct{ Failed int }

func (e Settled) apply(s *State) Action {
	s.settle(e.Failed)
	return Action{}
}

// RetryAfter is a wait that a CA asked for; zero ends an earlier one.
type RetryAfter struct {
	Now  time.Time
	CA   string
	Wait time.Duration
}

func (e RetryAfter) apply(s *State) Action {
	maps.DeleteFunc(s.RetryAfterByCA, func(_ string, at time.Time) bool { return !at.After(e.Now) })
	if e.Wait <= 0 {
		return Action{}
	}
	if s.RetryAfterByCA == nil {
		s.RetryAfterByCA = map[string]time.Time{}
	}
	s.RetryAfterByCA[e.CA] = e.Now.Add(e.Wait)
	return Action{}
}

// StagingPassed is a staging order that was successful.
type StagingPassed struct{}

func (StagingPassed) apply(s *State) Action {
	s.StagingPassed = true
	return Action{}
}

// Obtained is a certificate that a CA issued. Due is since when it was wanted.
// Invalid tells why no client accepts it; it rests like a valid one.
type Obtained struct {
	Now      time.Time
	CA       string
	Lifetime time.Duration
	Due      time.Time
	Invalid  string
}

// A name that was due already while it rested has gained nothing by the order
// before: the CA always says "renew now", or the certificate does not take effect.
func (e Obtained) apply(s *State) Action {
	noOpRenewals := 0
	if e.Due.Before(s.RenewNotBefore) {
		noOpRenewals = s.NoOpRenewals + 1
	}
	rest := e.Now.Add(MinRenewalInterval(noOpRenewals, e.Lifetime))
	*s = State{Phase: Valid, LastAttempt: e.Now, NextAttempt: rest, RenewNotBefore: rest, NoOpRenewals: noOpRenewals,
		LastIssuer: e.CA, LastError: e.Invalid, CAs: s.CAs, StagingPassed: s.StagingPassed, RetryAfterByCA: s.RetryAfterByCA,
		FailedValidations: s.FailedValidations, recentValidations: s.recentValidations, merged: s.merged}
	return Action{}
}

// Outcome tells failed orders apart. A greater one waits longer.
type Outcome int

const (
	// CAUnavailable: the CA did not answer, or had no capacity. Nothing was decided.
	CAUnavailable Outcome = iota
	// CARejected: the CA refused the order.
	CARejected
	// ValidationFailed: the CA could not validate the name.
	ValidationFailed
)

// OrderFailed is an order that brought no certificate.
type OrderFailed struct {
	Now     time.Time
	Outcome Outcome
	// RetryAfter is the wait that the CA asked for; zero: none.
	RetryAfter time.Duration
	// Horizon is how long the certificate in use remains valid, or its lifetime once
	// it has expired: an unreachable CA is retried within a quarter of it. Zero: no
	// certificate.
	Horizon time.Duration
	// OtherCA: another CA can be asked once this order is given up.
	OtherCA bool
	Err     string
}

func (e OrderFailed) apply(s *State) Action {
	s.RetryAfter = e.Now.Add(e.RetryAfter)
	if e.Outcome != CAUnavailable || s.Overdue(e.Now, e.Horizon, e.OtherCA) {
		s.Failures++
		wait := backoff(FailureBackoffMin, failureBackoffMax, s.Failures)
		s.forgetOrder()
		s.Phase = Failed
		s.NextAttempt, s.LastError, s.Outage = later(e.Now.Add(wait), s.RetryAfter), e.Err, Outage{}
		return Action{}
	}
	if !s.resumable() {
		s.forgetOrder()
		s.Phase = Unreachable
	}
	wait := backoff(unavailableBackoffMin, unavailableBackoffMax, s.Outage.Count+1)
	if e.Horizon > 0 {
		wait = min(wait, max(e.Horizon/4, unavailableBackoffMin))
	}
	s.Outage = Outage{s.Outage.Count + 1, e.Now.Add(wait), e.Err}
	// Only what the CA asked for holds for other nodes, too.
	if s.NextAttempt, s.LastError = s.RetryAfter, ""; e.RetryAfter > 0 {
		s.LastError = e.Err
	}
	return Action{}
}

// Interrupted is an order that a shutdown ended. Its outcome is unknown, so its
// validations stay counted.
type Interrupted struct{ Now time.Time }

func (e Interrupted) apply(s *State) Action {
	s.NextAttempt, s.LastError = e.Now.Add(InterruptedRetryDelay), "the order was interrupted by a shutdown"
	return Action{}
}
