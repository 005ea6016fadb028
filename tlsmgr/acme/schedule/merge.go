package schedule

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Damaged returns the state that replaces one that cannot be parsed. Its orders are
// unknown, so it counts as an order that has just failed.
func Damaged(cas []string, now time.Time) State {
	return State{Phase: Failed, LastAttempt: now, NextAttempt: now.Add(FailureBackoffMin), CAs: cas,
		LastError: "the stored schedule was damaged and is replaced"}
}

// ForCAs returns a stored state as it applies to the configured CAs, which are given by
// sorted URLs. Of a state for other CAs, only the failed validations count.
func ForCAs(stored State, cas []string) State {
	if stored.CAs == nil || slices.Equal(stored.CAs, cas) {
		stored.CAs = cas
		return stored
	}
	return State{CAs: cas, FailedValidations: stored.FailedValidations}
}

// ClampFuture corrects a state that was stored by a clock that was ahead by more than
// ValidationWindow, which exceeds the difference between the clocks of two nodes. The last
// attempt counts as made now, and all other times are moved by the same amount. It reports
// whether it changed the state.
func ClampFuture(s State, now time.Time) (_ State, clamped bool) {
	ahead := s.LastAttempt.Sub(now)
	if ahead <= ValidationWindow {
		return s, false
	}
	s.FailedValidations, s.RetryAfterByCA = slices.Clone(s.FailedValidations), maps.Clone(s.RetryAfterByCA)
	for _, at := range []*time.Time{&s.LastAttempt, &s.NextAttempt, &s.RetryAfter, &s.RenewNotBefore, &s.FinalizedAt, &s.Outage.Next} {
		if !at.IsZero() {
			*at = at.Add(-ahead)
		}
	}
	for i := range s.FailedValidations {
		s.FailedValidations[i] = s.FailedValidations[i].Add(-ahead)
	}
	for ca := range s.RetryAfterByCA {
		s.RetryAfterByCA[ca] = s.RetryAfterByCA[ca].Add(-ahead)
	}
	return s, true
}

// Merge combines the state in memory with the stored one. The stored state is newer if
// another process has ordered. It is older, or incomplete, if a replica lags, a backup was
// restored, the storage was emptied, or the CAs were changed; that must not cause an
// earlier order.
func Merge(local, stored State) State {
	m := stored
	m.recentValidations = local.recentValidations
	m.forced, m.missingAddress, m.merged = local.forced, local.missingAddress, true
	if local.merged {
		m.Outage = local.Outage
	}
	if !local.LastAttempt.After(stored.LastAttempt) {
		return m
	}
	if len(local.FailedValidations) > len(m.FailedValidations) {
		m.FailedValidations = local.FailedValidations
	}
	m.Phase, m.OrderURL, m.OrderCA, m.Unsettled = local.Phase, local.OrderURL, local.OrderCA, 0
	m.FinalizedAt = local.FinalizedAt
	m.LastAttempt, m.NextAttempt = local.LastAttempt, later(local.NextAttempt, stored.NextAttempt)
	m.RetryAfter = later(local.RetryAfter, stored.RetryAfter)
	m.RenewNotBefore = later(local.RenewNotBefore, stored.RenewNotBefore)
	m.RetryAfterByCA = local.RetryAfterByCA
	m.Failures, m.NoOpRenewals = max(local.Failures, stored.Failures), max(local.NoOpRenewals, stored.NoOpRenewals)
	m.StagingPassed = local.StagingPassed || stored.StagingPassed
	m.LastIssuer, m.LastError = cmp.Or(stored.LastIssuer, local.LastIssuer), cmp.Or(stored.LastError, local.LastError)
	return m
}
