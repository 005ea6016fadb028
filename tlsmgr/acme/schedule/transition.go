package schedule

import (
	"maps"
	"slices"
	"time"
)

// Action is what to do next.
type Action struct {
	// Order: order a certificate now, under the lock of the name.
	Order bool
	// ResumeURL and ResumeCA identify an order to resume; empty: none.
	ResumeURL, ResumeCA string
	// Wait is the time until the next Check. Next is the time of the next order, as far
	// as it is known.
	Wait time.Duration
	Next time.Time
}

// Force makes the next Check order as soon as the limits of the CA allow.
func (s *State) Force() { s.forced = true }

// CheckInput is what [State.Check] decides on.
type CheckInput struct {
	Now         time.Time
	Certificate *Certificate // in use; nil: none
	ARI         ARI
	Shared      bool // other nodes use the storage
	// Damaged: the stored certificate cannot be read, and must be quarantined under
	// the lock before anything else.
	Damaged bool
	// Locked: the lock of the name is held, and s was loaded after it was acquired.
	Locked bool
}

// Check decides whether to order now.
func (s *State) Check(in CheckInput) Action {
	if s.Phase == Ordering { // the order ended without a result, so it counts as failed
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

// NoAddress records that the name has no address in DNS. The order waits.
func (s *State) NoAddress(now time.Time) Action {
	s.missingAddress++
	wait := backoff(unavailableBackoffMin, addressBackoffMax, s.missingAddress)
	return Action{Wait: wait, Next: now.Add(wait)}
}

// FirstMissingAddress reports whether the last lookup was the first without an address.
func (s *State) FirstMissingAddress() bool { return s.missingAddress == 1 }

// HasAddress records that the name has an address, or that the lookup failed.
func (s *State) HasAddress() { s.missingAddress = 0 }

// BudgetExhausted records that no order was made, because its validations could exceed
// the budget before the time at.
func (s *State) BudgetExhausted(at time.Time, why string) {
	s.Phase, s.NextAttempt, s.LastError = Failed, at, why
}

// Begin records an order that is about to begin at a CA. Until it ends, all its
// validations count as failed.
func (s *State) Begin(now time.Time, ca string, validations int) {
	s.forgetOrder()
	s.Phase, s.OrderCA = Ordering, ca
	s.LastAttempt, s.NextAttempt = now, now.Add(FailureBackoffMin)
	s.CountValidations(now, validations)
}

// CountValidations counts n validations as failed until [State.SettleValidations]
// corrects the number. [State.Begin] includes it.
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

// Resume records that a finalized order is about to be resumed.
func (s *State) Resume(now time.Time) {
	s.LastAttempt, s.NextAttempt = now, now.Add(InterruptedRetryDelay)
}

// OrderGone records that a finalized order cannot be resumed, or is given up.
func (s *State) OrderGone() {
	s.forgetOrder()
	s.Phase = Due
}

func (s *State) forgetOrder() { s.OrderURL, s.OrderCA, s.FinalizedAt = "", "", time.Time{} }

// SetRetryAfter records the wait that a CA asked for; zero ends an earlier one.
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
	Due      time.Time // since when it was wanted
	Invalid  string    // why no client accepts it; empty: it is valid
}

// Obtained records an issued certificate, valid or not. If the name was due again
// before RenewNotBefore, the previous order did not help: the CA always asks for a
// renewal, or the certificate does not take effect. The interval grows then.
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

// Failure is an order that returned no certificate.
type Failure struct {
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
	// Only the wait that the CA asked for applies to other nodes, too.
	if s.NextAttempt, s.LastError = s.RetryAfter, ""; f.RetryAfter > 0 {
		s.LastError = f.Err
	}
}

// Interrupted records that a shutdown ended an order. Its outcome is unknown, so its
// validations stay counted.
func (s *State) Interrupted(now time.Time) {
	s.NextAttempt, s.LastError = now.Add(InterruptedRetryDelay), "the order was interrupted by a shutdown"
}

// inWindow returns the times that still count, in a slice of its own.
func inWindow(failed []time.Time, now time.Time) []time.Time {
	return slices.DeleteFunc(slices.Clone(failed), func(at time.Time) bool { return now.Sub(at) >= ValidationWindow })
}
