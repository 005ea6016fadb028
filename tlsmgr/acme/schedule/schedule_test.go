package schedule

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"
	"time"
)

const (
	minute = time.Minute
	hour   = time.Hour
	day    = 24 * time.Hour
)

// now is the present of all tables.
var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func in(d time.Duration) time.Time { return now.Add(d) }

func times(all ...time.Duration) (ts []time.Time) {
	for _, d := range all {
		ts = append(ts, in(d))
	}
	return ts
}

// cert is a certificate by the times from now.
func cert(from, to time.Duration) *Certificate { return &Certificate{"1", in(from), in(to)} }

// Each rule of the state machine is a row.
func TestTransitions(t *testing.T) {
	good := cert(-10*day, 80*day)
	due := cert(-80*day, 10*day)
	pendingSince := func(d time.Duration) State {
		return State{Phase: Processing, OrderURL: "o", OrderCA: "a", FinalizedAt: in(d)}
	}
	givenUp := func(s *State) {
		*s = State{Phase: Failed, Failures: 1, RetryAfter: now, NextAttempt: in(15 * minute), LastError: "no"}
	}
	for _, tt := range []struct {
		name   string
		state  State
		event  Event
		want   func(*State) // what changes; nil: nothing
		action Action
	}{
		// When to order.
		{"check: no certificate is due now", State{}, Check{Now: now},
			func(s *State) { s.Phase = Due }, Action{Order: true}},
		{"check: a good certificate waits until a third of its lifetime is left", State{}, Check{Now: now, Certificate: good},
			nil, Action{Wait: 10 * minute, Next: in(50 * day)}},
		{"check: two thirds of the lifetime are over", State{Phase: Valid}, Check{Now: now, Certificate: due},
			func(s *State) { s.Phase = Due }, Action{Order: true}},
		{"check: the ARI window is earlier", State{}, Check{Now: now, Certificate: good, ARI: ARI{Serial: "1", At: in(-hour)}},
			func(s *State) { s.Phase = Due }, Action{Order: true}},
		{"check: the ARI window is later", State{}, Check{Now: now, Certificate: cert(-65*day, 25*day), ARI: ARI{Serial: "1", At: in(minute)}},
			nil, Action{Wait: minute, Next: in(minute)}},
		{"check: the ARI window leaves no time for a failure", State{}, Check{Now: now, Certificate: cert(-80*day, 10*day), ARI: ARI{Serial: "1", At: in(9 * day)}},
			func(s *State) { s.Phase = Due }, Action{Order: true}},
		{"check: ARI about another certificate", State{}, Check{Now: now, Certificate: good, ARI: ARI{Serial: "2", At: in(-hour)}},
			nil, Action{Wait: 10 * minute, Next: in(50 * day)}},
		{"check: back-off delays a due name", State{Phase: Failed, NextAttempt: in(hour)}, Check{Now: now},
			nil, Action{Wait: 2 * time.Second, Next: in(hour)}},
		{"check: an outage delays a due name", State{Phase: Unreachable, Outage: Outage{1, in(5 * time.Second), "no"}}, Check{Now: now},
			nil, Action{Wait: 2 * time.Second, Next: in(5 * time.Second)}},
		{"check: the wait ends with the back-off", State{NextAttempt: in(time.Second)}, Check{Now: now},
			nil, Action{Wait: time.Second, Next: in(time.Second)}},
		{"check: an outage ends when the certificate is not due", State{Outage: Outage{3, in(hour), "no"}}, Check{Now: now, Certificate: good},
			func(s *State) { s.Outage = Outage{} }, Action{Wait: 10 * minute, Next: in(50 * day)}},
		{"check: another node can obtain it, so a shared storage is checked often", State{}, Check{Now: now, Certificate: good, Shared: true},
			nil, Action{Wait: 3 * time.Second, Next: in(50 * day)}},
		{"check: a damaged certificate is dealt with at once", State{NextAttempt: in(hour)}, Check{Now: now, Damaged: true},
			func(s *State) { s.Phase = Due }, Action{Order: true}},
		{"check: an order without a result counts as failed", State{Phase: Ordering, NextAttempt: in(15 * minute)}, Check{Now: now},
			func(s *State) { s.Phase = Failed }, Action{Wait: 2 * time.Second, Next: in(15 * minute)}},
		{"check: a finalized order is resumed", State{Phase: Finalized, OrderURL: "o", OrderCA: "a", NextAttempt: in(-1)}, Check{Now: now, Locked: true},
			nil, Action{Order: true, ResumeURL: "o", ResumeCA: "a"}},
		{"check: a processing order is resumed", State{Phase: Processing, OrderURL: "o", OrderCA: "a"}, Check{Now: now, Locked: true},
			nil, Action{Order: true, ResumeURL: "o", ResumeCA: "a"}},
		{"check: an order that has not been finalized is not resumed", State{Phase: Ordering, OrderURL: "o"}, Check{Now: now},
			func(s *State) { s.Phase = Due }, Action{Order: true}},

		// What an operator forces.
		{"force: an order is asked for", State{NextAttempt: in(hour)}, Force{}, func(s *State) { s.forced = true }, Action{}},
		{"force: a wait without a failure ends", State{forced: true, NextAttempt: in(hour)}, Check{Now: now},
			func(s *State) { s.Phase = Due }, Action{Order: true}},
		{"force: an outage ends", State{forced: true, NextAttempt: in(-1), Outage: Outage{4, in(hour), "no"}}, Check{Now: now},
			func(s *State) { s.Phase, s.Outage = Due, Outage{} }, Action{Order: true}},
		{"force: not within a minute of a failed order, and not forgotten", State{forced: true, Failures: 1, LastAttempt: in(-20 * time.Second), NextAttempt: in(hour)}, Check{Now: now},
			nil, Action{Wait: 2 * time.Second, Next: in(40 * time.Second)}},
		{"force: not before Retry-After", State{forced: true, RetryAfter: in(20 * minute), NextAttempt: in(hour)}, Check{Now: now},
			nil, Action{Wait: 2 * time.Second, Next: in(20 * minute)}},
		{"force: a rest after a useful order ends", State{forced: true, RenewNotBefore: in(hour), NextAttempt: in(hour)}, Check{Now: now, Certificate: due},
			func(s *State) { s.Phase = Due }, Action{Order: true}},
		{"force: a rest after a useless order does not", State{forced: true, NoOpRenewals: 1, RenewNotBefore: in(hour), NextAttempt: in(hour)}, Check{Now: now, Certificate: due},
			nil, Action{Wait: 10 * minute, Next: in(hour)}},
		{"force: a certificate that is not due is not ordered", State{forced: true}, Check{Now: now, Certificate: good},
			func(s *State) { s.forced = false }, Action{Wait: 10 * minute, Next: in(50 * day)}},
		{"force: one order, not one a minute", State{forced: true}, Check{Now: now, Locked: true},
			func(s *State) { s.Phase, s.forced = Due, false }, Action{Order: true}},

		// DNS.
		{"address: the first lookup without one waits five seconds", State{}, NoAddress{now},
			func(s *State) { s.missingAddress = 1 }, Action{Wait: 5 * time.Second, Next: in(5 * time.Second)}},
		{"address: the wait doubles up to a minute", State{missingAddress: 9}, NoAddress{now},
			func(s *State) { s.missingAddress = 10 }, Action{Wait: minute, Next: in(minute)}},
		{"address: it is there", State{missingAddress: 9}, HasAddress{}, func(s *State) { s.missingAddress = 0 }, Action{}},

		// The course of an order.
		{"begin: the worst is assumed", State{Phase: Due, OrderURL: "old"}, Begin{now, "a", 2}, func(s *State) {
			s.Phase, s.OrderURL, s.OrderCA, s.LastAttempt, s.NextAttempt = Ordering, "", "a", now, in(15*minute)
			s.FailedValidations, s.recentValidations, s.Unsettled = times(0, 0), times(0, 0), 2
		}, Action{}},
		{"begin: validations older than an hour are forgotten", State{FailedValidations: times(-61*minute, -hour, -59*minute)}, Begin{now, "a", 1}, func(s *State) {
			s.Phase, s.OrderCA, s.LastAttempt, s.NextAttempt = Ordering, "a", now, in(15*minute)
			s.FailedValidations, s.recentValidations, s.Unsettled = times(-59*minute, 0), times(0), 1
		}, Action{}},
		{"settled: validations that did not fail are refunded", State{FailedValidations: times(-minute, 0, 0), recentValidations: times(0, 0), Unsettled: 2}, Settled{1}, func(s *State) {
			s.FailedValidations, s.recentValidations, s.Unsettled = times(-minute, 0), times(0), 0
		}, Action{}},
		{"settled: all failed", State{FailedValidations: times(0), Unsettled: 1}, Settled{1}, func(s *State) { s.Unsettled = 0 }, Action{}},
		{"settled: earlier failures stay", State{FailedValidations: times(-minute)}, Settled{0}, nil, Action{}},
		{"progress: finalized keeps the order's URL and refunds its validations", State{Phase: Ordering, OrderCA: "a", NextAttempt: in(15 * minute), FailedValidations: times(0), recentValidations: times(0), Unsettled: 1},
			Progress{now, Finalized, "o"}, func(s *State) {
				s.Phase, s.OrderURL, s.NextAttempt, s.FailedValidations, s.recentValidations, s.Unsettled = Finalized, "o", in(minute), times()[:0:0], times()[:0:0], 0
				s.FinalizedAt = now
			}, Action{}},
		{"progress: processing", State{Phase: Finalized, OrderURL: "o", OrderCA: "a", NextAttempt: in(minute)}, Progress{in(minute), Processing, "o"},
			func(s *State) { s.Phase, s.NextAttempt = Processing, in(2*minute) }, Action{}},

		{"resume: nothing is assumed to fail, and the order stays resumable", State{Phase: Processing, OrderURL: "o", OrderCA: "a", FinalizedAt: in(-hour)}, Resume{now},
			func(s *State) { s.LastAttempt, s.NextAttempt = now, in(minute) }, Action{}},
		{"gone: a new order is due", State{Phase: Processing, OrderURL: "o", OrderCA: "a", FinalizedAt: in(-hour)}, OrderGone{},
			func(s *State) { s.Phase, s.OrderURL, s.OrderCA, s.FinalizedAt = Due, "", "", time.Time{} }, Action{}},

		// How orders end.
		{"obtained: an hour of rest", State{Phase: Ordering, Failures: 3, LastError: "no", OrderCA: "a", CAs: []string{"a"}, StagingPassed: true, FailedValidations: times(-minute), Outage: Outage{2, in(1), "x"}},
			Obtained{Now: now, CA: "a", Lifetime: 90 * day, Due: now}, func(s *State) {
				*s = State{Phase: Valid, LastAttempt: now, NextAttempt: in(hour), RenewNotBefore: in(hour), LastIssuer: "a", CAs: []string{"a"}, StagingPassed: true, FailedValidations: times(-minute)}
			}, Action{}},
		{"obtained: due again while it rested, six hours", State{RenewNotBefore: in(-minute)}, Obtained{Now: now, CA: "a", Lifetime: 90 * day, Due: in(-hour)}, func(s *State) {
			*s = State{Phase: Valid, LastAttempt: now, NextAttempt: in(6 * hour), RenewNotBefore: in(6 * hour), NoOpRenewals: 1, LastIssuer: "a"}
		}, Action{}},
		{"obtained: invalid, it rests too", State{}, Obtained{Now: now, CA: "a", Invalid: "for another name", Due: now}, func(s *State) {
			*s = State{Phase: Valid, LastAttempt: now, NextAttempt: in(hour), RenewNotBefore: in(hour), LastIssuer: "a", LastError: "for another name"}
		}, Action{}},
		{"failed: a refusal waits 15 minutes", State{Phase: Ordering, OrderCA: "a"}, OrderFailed{Now: now, Outcome: CARejected, Err: "no"}, func(s *State) {
			s.Phase, s.OrderCA, s.Failures, s.RetryAfter, s.NextAttempt, s.LastError = Failed, "", 1, now, in(15*minute), "no"
		}, Action{}},
		{"failed: the third waits an hour", State{Failures: 2}, OrderFailed{Now: now, Outcome: ValidationFailed, Err: "no"}, func(s *State) {
			s.Phase, s.Failures, s.RetryAfter, s.NextAttempt, s.LastError = Failed, 3, now, in(hour), "no"
		}, Action{}},
		{"failed: six hours at most", State{Failures: 20}, OrderFailed{Now: now, Outcome: CARejected, Err: "no"}, func(s *State) {
			s.Phase, s.Failures, s.RetryAfter, s.NextAttempt, s.LastError = Failed, 21, now, in(6*hour), "no"
		}, Action{}},
		{"failed: Retry-After is the least wait", State{}, OrderFailed{Now: now, Outcome: CARejected, RetryAfter: 2 * hour, Err: "no"}, func(s *State) {
			s.Phase, s.Failures, s.RetryAfter, s.NextAttempt, s.LastError = Failed, 1, in(2*hour), in(2*hour), "no"
		}, Action{}},
		{"failed: a finalized order that the CA refuses is not resumed", State{Phase: Finalized, OrderURL: "o", OrderCA: "a"}, OrderFailed{Now: now, Outcome: CARejected, Err: "no"}, func(s *State) {
			s.Phase, s.OrderURL, s.OrderCA, s.Failures, s.RetryAfter, s.NextAttempt, s.LastError = Failed, "", "", 1, now, in(15*minute), "no"
		}, Action{}},
		{"unreachable: five seconds, and other nodes can try", State{Phase: Ordering, NextAttempt: in(15 * minute), LastError: "old"}, OrderFailed{Now: now, Err: "no answer"}, func(s *State) {
			s.Phase, s.RetryAfter, s.NextAttempt, s.LastError, s.Outage = Unreachable, now, now, "", Outage{1, in(5 * time.Second), "no answer"}
		}, Action{}},
		{"unreachable: five minutes at most", State{Outage: Outage{Count: 30}}, OrderFailed{Now: now, Err: "no"}, func(s *State) {
			s.Phase, s.RetryAfter, s.NextAttempt, s.Outage = Unreachable, now, now, Outage{31, in(5 * minute), "no"}
		}, Action{}},
		{"unreachable: within a quarter of what the certificate has left", State{Outage: Outage{Count: 30}}, OrderFailed{Now: now, Horizon: 4 * minute, Err: "no"}, func(s *State) {
			s.Phase, s.RetryAfter, s.NextAttempt, s.Outage = Unreachable, now, now, Outage{31, in(minute), "no"}
		}, Action{}},
		{"unreachable: what the CA asks for holds for all nodes", State{}, OrderFailed{Now: now, RetryAfter: hour, Err: "429"}, func(s *State) {
			s.Phase, s.RetryAfter, s.NextAttempt, s.LastError, s.Outage = Unreachable, in(hour), in(hour), "429", Outage{1, in(5 * time.Second), "429"}
		}, Action{}},
		{"unreachable: a processing order stays resumable", State{Phase: Processing, OrderURL: "o", OrderCA: "a"}, OrderFailed{Now: now, Err: "no"}, func(s *State) {
			s.RetryAfter, s.NextAttempt, s.Outage = now, now, Outage{1, in(5 * time.Second), "no"}
		}, Action{}},
		{"pending: looked at again for six hours without a certificate", State{Phase: Processing, OrderURL: "o", OrderCA: "a", FinalizedAt: in(-6*hour + 1)}, OrderFailed{Now: now, Err: "no"}, func(s *State) {
			s.RetryAfter, s.NextAttempt, s.Outage = now, now, Outage{1, in(5 * time.Second), "no"}
		}, Action{}},
		{"pending: given up after six hours", pendingSince(-6 * hour), OrderFailed{Now: now, Err: "no"}, givenUp, Action{}},
		{"pending: given up in time for the certificate in use", pendingSince(-2 * hour), OrderFailed{Now: now, Horizon: 8 * hour, Err: "no"}, givenUp, Action{}},
		{"pending: given up after a quarter of an hour when another CA can be asked", pendingSince(-15 * minute), OrderFailed{Now: now, OtherCA: true, Err: "no"}, givenUp, Action{}},
		{"interrupted: the worst stays counted, and the next order comes soon", State{Phase: Ordering, NextAttempt: in(15 * minute), FailedValidations: times(0), Unsettled: 1}, Interrupted{now}, func(s *State) {
			s.NextAttempt, s.LastError = in(minute), "the order was interrupted by a shutdown"
		}, Action{}},
		{"interrupted: a processing order stays resumable", State{Phase: Processing, OrderURL: "o"}, Interrupted{now}, func(s *State) {
			s.NextAttempt, s.LastError = in(minute), "the order was interrupted by a shutdown"
		}, Action{}},
		{"budget: exhausted, nothing is tried", State{Phase: Due}, BudgetExhausted{in(20 * minute), "too many"}, func(s *State) {
			s.Phase, s.NextAttempt, s.LastError = Failed, in(20*minute), "too many"
		}, Action{}},

		// What CAs ask for.
		{"retry-after: noted for the CA", State{}, RetryAfter{now, "a", hour}, func(s *State) { s.RetryAfterByCA = map[string]time.Time{"a": in(hour)} }, Action{}},
		{"retry-after: those that are over are forgotten", State{RetryAfterByCA: map[string]time.Time{"a": in(-1), "b": in(1)}}, RetryAfter{now, "a", 0},
			func(s *State) { s.RetryAfterByCA = map[string]time.Time{"b": in(1)} }, Action{}},
		{"staging: passed once", State{}, StagingPassed{}, func(s *State) { s.StagingPassed = true }, Action{}},
		{"count: an order outside the schedule changes the budget alone", State{Phase: Valid, NextAttempt: in(hour)}, CountValidations{now, 1}, func(s *State) {
			s.FailedValidations, s.recentValidations, s.Unsettled = times(0), times(0), 1
		}, Action{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before, want := tt.state.clone(), tt.state.clone()
			if tt.want != nil {
				tt.want(&want)
			}
			got, action := Next(tt.state, tt.event)
			if !equal(got, want) {
				t.Errorf("state:\ngot  %+v\nwant %+v", got, want)
			}
			if action != tt.action {
				t.Errorf("action: got %+v, want %+v", action, tt.action)
			}
			if !equal(tt.state, before) {
				t.Error("Next changed its argument")
			}
		})
	}
}

// equal compares states; nil and empty lists are the same.
func equal(a, b State) bool {
	normalize := func(s State) State {
		s = s.clone()
		if len(s.FailedValidations) == 0 {
			s.FailedValidations = nil
		}
		if len(s.recentValidations) == 0 {
			s.recentValidations = nil
		}
		return s
	}
	return reflect.DeepEqual(normalize(a), normalize(b))
}

// Reading a state decides nothing: two checks in a row agree.
func TestCheckIsRepeatable(t *testing.T) {
	s := State{NextAttempt: in(hour), Failures: 2, forced: true, LastAttempt: in(-minute)}
	once, action := Next(s, Check{Now: now})
	twice, again := Next(once, Check{Now: now})
	if !equal(once, twice) || action != again {
		t.Errorf("got %+v and %+v, then %+v and %+v", once, action, twice, again)
	}
}

func TestValidationBudget(t *testing.T) {
	for _, tt := range []struct {
		name           string
		stored, recent []time.Time
		n              int
		want           time.Duration
	}{
		{"none failed", nil, nil, 2, 0},
		{"two of four", times(-minute, -minute), nil, 2, 0},
		{"one too many", times(-40*minute, -30*minute, -minute), nil, 2, 20 * minute},
		{"full", times(-50*minute, -50*minute, -minute, -minute), nil, 1, 10 * minute},
		{"full, two wanted", times(-50*minute, -40*minute, -minute, -minute), nil, 2, 20 * minute},
		{"an hour ago does not count", times(-hour, -hour, -hour, -hour), nil, 1, 0},
		{"unsorted", times(-minute, -50*minute, -minute, -minute), nil, 1, 10 * minute},
		{"from the future: it may have been just now", times(5*hour, 5*hour, 5*hour, 5*hour), nil, 1, hour},
		{"this run knows more than the storage", nil, times(-minute, -minute, -minute, -minute), 1, 59 * minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := State{FailedValidations: tt.stored, recentValidations: tt.recent}
			before := s.clone()
			if got := s.ValidationsAllowedAt(tt.n, now).Sub(now); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			if !equal(s, before) {
				t.Error("the question changed the state")
			}
		})
	}
}

// However orders, restarts and forced renewals alternate, no more than four
// validations fail within an hour.
func TestValidationBudgetHolds(t *testing.T) {
	var s State
	var failed []time.Time
	for at := now; at.Before(in(10 * hour)); at = at.Add(37 * time.Second) {
		s, _ = Next(s, Force{})
		var action Action
		if s, action = Next(s, Check{Now: at, Locked: true}); !action.Order {
			continue
		}
		for range 2 {
			if s.ValidationsAllowedAt(1, at).After(at) {
				s, _ = Next(s, BudgetExhausted{At: s.ValidationsAllowedAt(1, at)})
				break
			}
			s, _ = Next(s, Begin{at, "a", 1})
			s, _ = Next(s, Settled{1})
			failed = append(failed, at)
		}
		s, _ = Next(s, OrderFailed{Now: at, Outcome: ValidationFailed, Err: "no"})
		s = Merge(State{}, s) // as after a restart
	}
	if len(failed) < 8 {
		t.Errorf("got %d validations, want the name to be tried again", len(failed))
	}
	for i := MaxFailedValidations; i < len(failed); i++ {
		if within := failed[i].Sub(failed[i-MaxFailedValidations]); within < ValidationWindow {
			t.Errorf("validations %d to %d failed within %v", i-MaxFailedValidations, i, within)
		}
	}
}

func TestRemainingRetryAfter(t *testing.T) {
	s := State{RetryAfterByCA: map[string]time.Time{"busy": in(hour), "over": in(-hour), "mad": in(48 * hour)}}
	for ca, want := range map[string]time.Duration{"busy": hour, "over": 0, "mad": 0, "other": 0} {
		if got := s.RemainingRetryAfter(ca, now); got != want {
			t.Errorf("%s: got %v, want %v", ca, got, want)
		}
	}
}

// A short lifetime has short rests, so that it is renewed in time.
func TestMinRenewalInterval(t *testing.T) {
	for _, tt := range []struct {
		noOp     int
		lifetime time.Duration
		want     time.Duration
	}{
		{0, 90 * day, hour}, {1, 90 * day, 6 * hour}, {90, 90 * day, 45 * day},
		{0, minute, 6 * time.Second}, {1, minute, 30 * time.Second}, {0, 0, hour}, {3, -hour, 216 * hour}, {2, time.Millisecond, time.Second},
	} {
		if got := MinRenewalInterval(tt.noOp, tt.lifetime); got != tt.want {
			t.Errorf("MinRenewalInterval(%d, %v) = %v, want %v", tt.noOp, tt.lifetime, got, tt.want)
		}
	}
}

func TestMerge(t *testing.T) {
	remembered := State{Phase: Failed, LastAttempt: in(-minute), NextAttempt: in(hour), RetryAfter: in(minute), Failures: 2, LastError: "no", LastIssuer: "a",
		FailedValidations: times(-minute, -minute), recentValidations: times(-minute), RetryAfterByCA: map[string]time.Time{"a": in(hour)}, merged: true}
	for _, tt := range []struct {
		name          string
		local, stored State
		want          State
	}{
		{"first load: the stored state, with its outage", State{}, State{Failures: 1, Outage: Outage{Count: 2}}, State{Failures: 1, Outage: Outage{Count: 2}, merged: true}},
		{"another process ordered since", remembered, State{Phase: Valid, LastAttempt: now, NextAttempt: in(hour)},
			State{Phase: Valid, LastAttempt: now, NextAttempt: in(hour), recentValidations: times(-minute), merged: true}},
		{"the same state", remembered, State{LastAttempt: in(-minute), Failures: 3}, State{LastAttempt: in(-minute), Failures: 3, recentValidations: times(-minute), merged: true}},
		{"the storage was emptied", remembered, State{}, remembered},
		{"a replica lags", remembered, State{Phase: Valid, LastAttempt: in(-hour), NextAttempt: in(-hour), StagingPassed: true, NoOpRenewals: 1}, func() State {
			m := remembered.clone()
			m.StagingPassed, m.NoOpRenewals = true, 1
			return m
		}()},
		{"another node has exhausted the budget with other CAs", remembered, State{FailedValidations: times(-3, -2, -1)}, func() State {
			m := remembered.clone()
			m.FailedValidations = times(-3, -2, -1)
			return m
		}()},
		{"the outage of this process stays", State{merged: true, Outage: Outage{Count: 1}}, State{LastAttempt: now, Outage: Outage{Count: 5}},
			State{LastAttempt: now, Outage: Outage{Count: 1}, merged: true}},
		{"a forced order stays wanted", State{forced: true}, State{LastAttempt: now}, State{forced: true, LastAttempt: now, merged: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Merge(tt.local, tt.stored); !equal(got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

// Of a state about other CAs only the failed validations count.
func TestForCAs(t *testing.T) {
	stored := State{Phase: Failed, CAs: []string{"a", "b"}, NextAttempt: in(hour), Failures: 3, LastError: "no", FailedValidations: times(-1)}
	unnamed := stored.clone()
	unnamed.CAs = nil
	for _, tt := range []struct {
		name   string
		stored State
		cas    []string
		kept   bool
	}{
		{"the same", stored, []string{"a", "b"}, true},
		{"none before", unnamed, []string{"a", "b"}, true},
		{"another second", stored, []string{"a", "c"}, false},
		{"all others", stored, []string{"x"}, false},
	} {
		want := State{CAs: tt.cas, FailedValidations: times(-1)}
		if tt.kept {
			want = stored
		}
		if got := ForCAs(tt.stored, tt.cas); !equal(got, want) {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, want)
		}
	}
}

func TestClampFuture(t *testing.T) {
	ahead := State{LastAttempt: in(day), NextAttempt: in(day + hour), FailedValidations: times(day, day-minute), RetryAfterByCA: map[string]time.Time{"a": in(day + minute)}}
	got, clamped := ClampFuture(ahead, now)
	want := State{LastAttempt: now, NextAttempt: in(hour), FailedValidations: times(0, -minute), RetryAfterByCA: map[string]time.Time{"a": in(minute)}}
	if !clamped || !equal(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, clamped, want)
	}
	if got, clamped := ClampFuture(State{LastAttempt: in(hour)}, now); clamped || !got.LastAttempt.Equal(in(hour)) {
		t.Errorf("clocks that differ by an hour: got %+v, %v", got, clamped)
	}
}

// A damaged state counts as an order that failed just now.
func TestDamagedState(t *testing.T) {
	s, action := Next(Damaged([]string{"a"}, now), Check{Now: now})
	if action.Order || !action.Next.Equal(in(15*minute)) || s.Err() == "" {
		t.Errorf("got %+v, %+v; want a wait of 15 minutes", s, action)
	}
}

// A state survives its storage, but for what is this process's alone.
func TestStateIsStored(t *testing.T) {
	s := State{Phase: Processing, OrderURL: "https://ca/order/1", OrderCA: "https://ca/", LastAttempt: now, NextAttempt: in(minute), RetryAfterByCA: map[string]time.Time{"a": in(hour)},
		Failures: 1, LastError: "no", FailedValidations: times(-minute, 0), Unsettled: 1, StagingPassed: true, LastIssuer: "a", RenewNotBefore: in(hour), NoOpRenewals: 2, CAs: []string{"a"}, Outage: Outage{1, in(2), "x"}}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var got State
	if err := json.Unmarshal(text, &got); err != nil || !equal(got, s) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, s)
	}
}

func TestARI(t *testing.T) {
	window := func(at, refresh time.Duration) ARI {
		return ARI{Serial: "1", At: in(at), From: in(30 * day), To: in(40 * day), RefreshAfter: in(refresh)}
	}
	for _, tt := range []struct {
		name          string
		known, answer ARI
		want          ARI
		urgent        bool
	}{
		{"the time within a window stays", window(31*day, 0), window(35*day, hour), window(31*day, hour), false},
		{"another certificate", ARI{Serial: "0", At: in(1)}, window(35*day, hour), window(35*day, hour), false},
		{"no more often than once a minute", ARI{}, window(35*day, time.Second), window(35*day, minute), false},
		{"once a day at least", ARI{}, window(35*day, 365*day), window(35*day, day), false},
		{"it does not say when to ask again", ARI{}, ARI{Serial: "1"}, ARI{Serial: "1", RefreshAfter: in(day)}, false},
		{"it begins to want a replacement at once", window(31*day, 0), ARI{Serial: "1", At: in(-hour), From: in(-hour), To: in(-hour), RefreshAfter: in(hour)},
			ARI{Serial: "1", At: in(-hour), From: in(-hour), To: in(-hour), RefreshAfter: in(hour)}, true},
	} {
		if got, urgent := tt.known.Answered(tt.answer, now); got != tt.want || urgent != tt.urgent {
			t.Errorf("%s: got %+v, %v; want %+v, %v", tt.name, got, urgent, tt.want, tt.urgent)
		}
	}
	if got, want := window(31*day, 0).Unanswered("1", now), window(31*day, hour); got != want {
		t.Errorf("no answer: got %+v, want %+v", got, want)
	}
	if got := window(31*day, 0).Unanswered("2", now); got != (ARI{Serial: "2", RefreshAfter: in(hour)}) {
		t.Errorf("no answer about a new certificate: got %+v", got)
	}
	for refresh, want := range map[time.Duration]bool{hour: true, 0: false, -hour: false, 25 * hour: false} {
		if got := window(0, refresh).Current("1", now); got != want {
			t.Errorf("refresh in %v: current is %v, want %v", refresh, got, want)
		}
	}
}

func TestCheckInterval(t *testing.T) {
	for _, tt := range []struct {
		cert   *Certificate
		shared bool
		want   time.Duration
	}{
		{nil, false, 2 * time.Second}, {nil, true, 2 * time.Second}, {cert(0, 90*day), false, 10 * minute}, {cert(0, 90*day), true, 3 * time.Second},
		{cert(0, hour), false, minute}, {cert(0, time.Second), false, time.Second},
	} {
		if got := CheckInterval(tt.cert, tt.shared); got != tt.want {
			t.Errorf("CheckInterval(%+v, %v) = %v, want %v", tt.cert, tt.shared, got, tt.want)
		}
	}
}

// A horizon is what is left, or the lifetime of an expired certificate.
func TestHorizon(t *testing.T) {
	got := []time.Duration{(*Certificate)(nil).Horizon(now), cert(-hour, 2*hour).Horizon(now), cert(-3*hour, -hour).Horizon(now)}
	if want := []time.Duration{0, 2 * hour, 2 * hour}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
