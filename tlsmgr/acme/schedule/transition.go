package schedule

import (
	"maps"
	"time"
)

// Action is the decision of [State.Check].
type Action struct {
	// Order: order a certificate now, with the lock of the name.
	Order bool
	// ResumeURL and ResumeCA identify the order to resume; empty for a new order.
	ResumeURL, ResumeCA string
	// Wait is the time until the next Check. Next is the expected time of the next order.
	Wait time.Duration
	Next time.Time
}

// Force makes the next Check order as soon as the limits of the CA allow.
func (s *State) Force() { s.forced = true }

// CheckInput is the input of [State.Check].
type CheckInput struct {
	Now         time.Time
	Certificate *Certificate // in use; nil if there is none
	ARI         ARI
	Shared      bool // other nodes use the storage
	// Damaged: the stored certificate cannot be parsed, and must be quarantined with the
	// lock held.
	Damaged bool
	// Locked: the lock of the name is held, and the state was loaded since then.
	Locked bool
}

// Check decides whether to order now.
func (s *State) Check(in CheckInput) Action {
	if s.Phase == Ordering { // the process died during the order, which counts as failed
		s.Phase = Failed
	}
	renewAt := RenewAt(in.Certificate, in.ARI)
	isDue := !renewAt.After(in.Now)
	if s.forced || !isDue {
		s.Outage = Outage{}
	}
	next := later(renewAt, s.nextOrder(in.Now))
	if next.After(in.Now) && !in.Damaged {
		s.forced = s.forced && isDue // limits delay a forced order; they do not cancel it
		return Action{Wait: min(CheckInterval(in.Certificate, in.Shared), next.Sub(in.Now)), Next: next}
	}
	if in.Locked {
		s.forced = false
	}
	action := Action{Order: true}
	if s.Pending() {
		action.ResumeURL, action.ResumeCA = s.OrderURL, s.OrderCA
	} else {
		s.Phase = Due
	}
	return action
}

// NoAddress records that DNS has no address for the name, and returns the wait until the
// next check.
func (s *State) NoAddress(now time.Time) Action {
	s.missingAddress++
	wait := backoff(unavailableBackoffMin, addressBackoffMax, s.missingAddress)
	return Action{Wait: wait, Next: now.Add(wait)}
}

// FirstMissingAddress reports whether the last lookup was the first without an address.
func (s *State) FirstMissingAddress() bool { return s.missingAddress == 1 }

// HasAddress records that the name has an address, or that the lookup failed.
func (s *State) HasAddress() { s.missingAddress = 0 }

// BudgetExhausted records that no order was made, because its validations can exceed the
// budget until the time at.
func (s *State) BudgetExhausted(at time.Time, why string) {
	s.Phase, s.NextAttempt, s.LastError = Failed, at, why
}

// Begin records that an order at a CA begins. Until it ends, all its validations count as
// failed.
func (s *State) Begin(now time.Time, ca string, validations int) {
	s.forgetOrder()
	s.Phase, s.OrderCA = Ordering, ca
	s.LastAttempt, s.NextAttempt = now, now.Add(FailureBackoffMin)
	s.CountValidations(now, validations)
}

// CountValidations counts n validations as failed, until [State.SettleValidations] corrects
// the number. Begin calls it.
func (s *State) CountValidations(now time.Time, n int) {
	s.FailedValidations, s.recentValidations = inWindow(s.FailedValidations, now), inWindow(s.recentValidations, now)
	for range n {
		s.FailedValidations, s.recentValidations = append(s.FailedValidations, now), append(s.recentValidations, now)
	}
	s.Unsettled = n
}

// SettleValidations records how many validations of the last order failed.
func (s *State) SettleValidations(failed int) {
	surplus := max(s.Unsettled-failed, 0)
	s.FailedValidations = s.FailedValidations[:max(len(s.FailedValidations)-surplus, 0)]
	s.recentValidations = s.recentValidations[:max(len(s.recentValidations)-surplus, 0)]
	s.Unsettled = 0
}

// Progress records that an order has reached the phase Finalized or Processing. The
// name is validated, so no validation failed, and the order can be resumed.
func (s *State) Progress(now time.Time, p Phase, orderURL string) {
	s.SettleValidations(0)
	if s.OrderURL != orderURL {
		s.FinalizedAt = now
	}
	s.Phase, s.OrderURL = p, orderURL
	s.NextAttempt = now.Add(InterruptedRetryDelay)
}

// Resume records that a finalized order is resumed.
func (s *State) Resume(now time.Time) {
	s.LastAttempt, s.NextAttempt = now, now.Add(InterruptedRetryDelay)
}

// OrderGone records that a finalized order cannot be resumed, or is not resumed any more.
func (s *State) OrderGone() {
	s.forgetOrder()
	s.Phase = Due
}

func (s *State) forgetOrder() { s.OrderURL, s.OrderCA, s.FinalizedAt = "", "", time.Time{} }

// SetRetryAfter records the Retry-After of a CA. Zero removes an earlier one.
func (s *State) SetRetryAfter(now time.Time, ca string, wait time.Duration) {
	byCA := maps.Clone(s.RetryAfterByCA)
	maps.DeleteFunc(byCA, func(_ string, at time.Time) bool { return !at.After(now) })
	if wait > 0 {
		if byCA == nil {
			byCA = map[string]time.Time{}
		}
		byCA[ca] = now.Add(wait)
	}
	s.RetryAfterByCA = byCA
}

// Issuance is a certificate that a CA issued.
type Issuance struct {
	Now      time.Time
	CA       string
	Lifetime time.Duration
	Due      time.Time // since when the order was due
	Invalid  string    // the reason why no client accepts it; empty if it is valid
}

// Obtained records an issued certificate, valid or not. If the name was due again before
// RenewNotBefore, the previous order was a no-op renewal: the CA requests the renewal of
// each certificate, or the certificate is not used. The interval grows with each of them.
func (s *State) Obtained(i Issuance) {
	noOpRenewals := 0
	if i.Due.Before(s.RenewNotBefore) {
		noOpRenewals = s.NoOpRenewals + 1
	}
	notBefore := i.Now.Add(MinRenewalInterval(noOpRenewals, i.Lifetime))
	*s = State{Phase: Valid, LastAttempt: i.Now, NextAttempt: notBefore, RenewNotBefore: notBefore, NoOpRenewals: noOpRenewals,
		LastIssuer: i.CA, LastError: i.Invalid, CAs: s.CAs, StagingPassed: s.StagingPassed, RetryAfterByCA: s.RetryAfterByCA,
		FailedValidations: s.FailedValidations, recentValidations: s.recentValidations, merged: s.merged}
}

// Outcome classifies failed orders. A greater outcome has a longer back-off.
type Outcome int

const (
	// CAUnavailable: the CA did not respond, or was overloaded.
	CAUnavailable Outcome = iota
	// CARejected: the CA refused the order.
	CARejected
	// ValidationFailed: the CA could not validate the name.
	ValidationFailed
)

// Failure is a failed order.
type Failure struct {
	Now     time.Time
	Outcome Outcome
	// RetryAfter is the wait that the CA requested; zero if none.
	RetryAfter time.Duration
	// Horizon is the remaining validity of the certificate in use, or its lifetime after it
	// has expired; zero without a certificate. An unreachable CA is retried within a
	// quarter of it.
	Horizon time.Duration
	// OtherCA: another CA can be tried if this order does not end.
	OtherCA bool
	Err     string
}

// OrderFailed records a failed order, and when to try again.
func (s *State) OrderFailed(f Failure) {
	s.RetryAfter = f.Now.Add(f.RetryAfter)
	if f.Outcome != CAUnavailable || s.Overdue(f.Now, f.Horizon, f.OtherCA) {
		s.Failures++
		wait := backoff(FailureBackoffMin, failureBackoffMax, s.Failures)
		s.forgetOrder()
		s.Phase = Failed
		s.NextAttempt, s.LastError, s.Outage = later(f.Now.Add(wait), s.RetryAfter), f.Err, Outage{}
		return
	}
	if !s.Pending() {
		s.forgetOrder()
		s.Phase = Unreachable
	}
	wait := backoff(unavailableBackoffMin, unavailableBackoffMax, s.Outage.Count+1)
	if f.Horizon > 0 {
		wait = min(wait, max(f.Horizon/4, unavailableBackoffMin))
	}
	s.Outage = Outage{s.Outage.Count + 1, f.Now.Add(wait), f.Err}
	// Other nodes must respect only the Retry-After of the CA.
	if s.NextAttempt, s.LastError = s.RetryAfter, ""; f.RetryAfter > 0 {
		s.LastError = f.Err
	}
}

// Interrupted records that a shutdown ended an order. Its outcome is unknown, so its
// validations still count as failed.
func (s *State) Interrupted(now time.Time) {
	s.NextAttempt, s.LastError = now.Add(InterruptedRetryDelay), "the order was interrupted by a shutdown"
}
