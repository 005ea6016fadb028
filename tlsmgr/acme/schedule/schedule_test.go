package schedule

import (
	"encoding/json"
	"maps"
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

// now is the current time of all tables.
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

// transition is one rule of the state machine.
type transition struct {
	name  string
	state State
	do    func(*State)
	want  func(*State) // what changes; nil: nothing
}

func runTransitions(t *testing.T, rows []transition) {
	t.Helper()
	for _, tt := range rows {
		t.Run(tt.name, func(t *testing.T) {
			got, before, want := tt.state, clone(tt.state), clone(tt.state)
			if tt.want != nil {
				tt.want(&want)
			}
			tt.do(&got)
			if !equal(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
			if !equal(tt.state, before) {
				t.Error("the transition changed what a copy of the state shares")
			}
		})
	}
}

func clone(s State) State {
	s.FailedValidations, s.recentValidations = slices.Clone(s.FailedValidations), slices.Clone(s.recentValidations)
	s.RetryAfterByCA = maps.Clone(s.RetryAfterByCA)
	return s
}

// checkRow is a rule of State.Check.
type checkRow struct {
	name   string
	state  State
	in     CheckInput
	want   func(*State) // what changes; nil: nothing
	action Action
}

func runChecks(t *testing.T, rows []checkRow) {
	t.Helper()
	for _, tt := range rows {
		runTransitions(t, []transition{{tt.name, tt.state, func(s *State) {
			if action := s.Check(tt.in); action != tt.action {
				t.Errorf("%s: got %+v, want %+v", tt.name, action, tt.action)
			}
		}, tt.want}})
	}
}

// State.Check decides when an order is made.
func TestCheck(t *testing.T) {
	good := cert(-10*day, 80*day)
	due := cert(-80*day, 10*day)
	runChecks(t, []checkRow{
		{"no certificate: order now", State{}, CheckInput{Now: now},
			func(s *State) { s.Phase = Due }, Action{Order: true}},
		{"a good certificate waits until a third of its lifetime is left", State{}, CheckInput{Now: now, Certificate: good},
			nil, Action{Wait: 10 * minute, Next: in(50 * day)}},
		{"two thirds of the lifetime are over", State{Phase: Valid}, CheckInput{Now: now, Certificate: due},
			func(s *State) { s.Phase = Due }, Action{Order: true}},
		{"the ARI window is earlier", State{}, CheckInput{Now: now, Certificate: good, ARI: ARI{Serial: "1", At: in(-hour)}},
			func(s *State) { s.Phase = Due }, Action{Order: true}},
		{"the ARI window is later", State{}, CheckInput{Now: now, Certificate: cert(-65*day, 25*day), ARI: ARI{Serial: "1", At: in(minute)}},
			nil, Action{Wait: minute, Next: in(minute)}},
		{"the ARI window leaves no time for a failure", State{}, CheckInput{Now: now, Certificate: cert(-80*day, 10*day), ARI: ARI{Serial: "1", At: in(9 * day)}},
			func(s *State) { s.Phase = Due }, Action{Order: true}},
		{"ARI about another certificate", State{}, CheckInput{Now: now, Certificate: good, ARI: ARI{Serial: "2", At: in(-hour)}},
			nil, Action{Wait: 10 * minute, Next: in(50 * day)}},
		{"back-off delays a due name", State{Phase: Failed, NextAttempt: in(hour)}, CheckInput{Now: now},
			nil, Action{Wait: 2 * time.Second, Next: in(hour)}},
		{"an outage delays a due name", State{Phase: Unreachable, Outage: Outage{1, in(5 * time.Second), "no"}}, CheckInput{Now: now},
			nil, Action{Wait: 2 * time.Second, Next: in(5 * time.Second)}},
		{"the wait ends with the back-off", State{NextAttempt: in(time.Second)}, CheckInput{Now: now},
			nil, Action{Wait: time.Second, Next: in(time.Second)}},
		{"an outage ends when the certificate is not due", State{Outage: Outage{3, in(hour), "no"}}, CheckInput{Now: now, Certificate: good},
			func(s *State) { s.Outage = Outage{} }, Action{Wait: 10 * minute, Next: in(50 * day)}},
		{"another node can obtain it, so a shared storage is checked often", State{}, CheckInput{Now: now, Certificate: good, Shared: true},
			nil, Action{Wait: 3 * time.Second, Next: in(50 * day)}},
		{"a damaged certificate is replaced at once", State{NextAttempt: in(hour)}, CheckInput{Now: now, Damaged: true},
			func(s *State) { s.Phase = Due }, Action{Order: true}},
		{"an order without a result counts as failed", State{Phase: Ordering, NextAttempt: in(15 * minute)}, CheckInput{Now: now},
			func(s *State) { s.Phase = Failed }, Action{Wait: 2 * time.Second, Next: in(15 * minute)}},
		{"a finalized order is resumed", State{Phase: Finalized, OrderURL: "o", OrderCA: "a", NextAttempt: in(-1)}, CheckInput{Now: now, Locked: true},
			nil, Action{Order: true, ResumeURL: "o", ResumeCA: "a"}},
		{"a processing order is resumed", State{Phase: Processing, OrderURL: "o", OrderCA: "a"}, CheckInput{Now: now, Locked: true},
			nil, Action{Order: true, ResumeURL: "o", ResumeCA: "a"}},
		{"an order that has not been finalized is not resumed", State{Phase: Ordering, OrderURL: "o"}, CheckInput{Now: now},
			func(s *State) { s.Phase = Due }, Action{Order: true}},
	})
}

// A forced order waits only for the limits of the CA.
func TestForcedOrder(t *testing.T) {
	good := cert(-10*day, 80*day)
	due := cert(-80*day, 10*day)
	var s State
	if s.Force(); !s.forced {
		t.Error("Force: got no forced order")
	}
	runChecks(t, []checkRow{
		{"a wait without a failure ends", State{forced: true, NextAttempt: in(hour)}, CheckInput{Now: now},
			func(s *State) { s.Phase = Due }, Action{Order: true}},
		{"an outage ends", State{forced: true, NextAttempt: in(-1), Outage: Outage{4, in(hour), "no"}}, CheckInput{Now: now},
			func(s *State) { s.Phase, s.Outage = Due, Outage{} }, Action{Order: true}},
		{"not within a minute after a failed order; the order stays forced", State{forced: true, Failures: 1, LastAttempt: in(-20 * time.Second), NextAttempt: in(hour)}, CheckInput{Now: now},
			nil, Action{Wait: 2 * time.Second, Next: in(40 * time.Second)}},
		{"not before Retry-After", State{forced: true, RetryAfter: in(20 * minute), NextAttempt: in(hour)}, CheckInput{Now: now},
			nil, Action{Wait: 2 * time.Second, Next: in(20 * minute)}},
		{"the interval after a successful order ends", State{forced: true, RenewNotBefore: in(hour), NextAttempt: in(hour)}, CheckInput{Now: now, Certificate: due},
			func(s *State) { s.Phase = Due }, Action{Order: true}},
		{"the interval after a no-op renewal does not end", State{forced: true, NoOpRenewals: 1, RenewNotBefore: in(hour), NextAttempt: in(hour)}, CheckInput{Now: now, Certificate: due},
			nil, Action{Wait: 10 * minute, Next: in(hour)}},
		{"a certificate that is not due is not ordered", State{forced: true}, CheckInput{Now: now, Certificate: good},
			func(s *State) { s.forced = false }, Action{Wait: 10 * minute, Next: in(50 * day)}},
		{"one order only", State{forced: true}, CheckInput{Now: now, Locked: true},
			func(s *State) { s.Phase, s.forced = Due, false }, Action{Order: true}},
	})
}

// The order for a name without an address waits, for longer each time.
func TestMissingAddress(t *testing.T) {
	var s State
	for _, want := range []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second, 40 * time.Second, minute, minute} {
		if got := s.NoAddress(now); got != (Action{Wait: want, Next: in(want)}) {
			t.Errorf("got %+v, want a wait of %v", got, want)
		}
		if got := s.FirstMissingAddress(); got != (want == 5*time.Second) {
			t.Errorf("after %v: got first missing address %v", want, got)
		}
	}
	s.HasAddress()
	if got := s.NoAddress(now).Wait; got != 5*time.Second {
		t.Errorf("after an address was found: got a wait of %v, want 5 s", got)
	}
}

// While an order is made, all its validations count as failed.
func TestOrdering(t *testing.T) {
	runTransitions(t, []transition{
		{"all validations count as failed", State{Phase: Due, OrderURL: "old"},
			func(s *State) { s.Begin(now, "a", 2) }, func(s *State) {
				s.Phase, s.OrderURL, s.OrderCA, s.LastAttempt, s.NextAttempt = Ordering, "", "a", now, in(15*minute)
				s.FailedValidations, s.recentValidations, s.Unsettled = times(0, 0), times(0, 0), 2
			}},
		{"validations older than an hour are forgotten", State{FailedValidations: times(-61*minute, -hour, -59*minute)},
			func(s *State) { s.Begin(now, "a", 1) }, func(s *State) {
				s.Phase, s.OrderCA, s.LastAttempt, s.NextAttempt = Ordering, "a", now, in(15*minute)
				s.FailedValidations, s.recentValidations, s.Unsettled = times(-59*minute, 0), times(0), 1
			}},
		{"validations that did not fail are refunded", State{FailedValidations: times(-minute, 0, 0), recentValidations: times(0, 0), Unsettled: 2},
			func(s *State) { s.SettleValidations(1) }, func(s *State) {
				s.FailedValidations, s.recentValidations, s.Unsettled = times(-minute, 0), times(0), 0
			}},
		{"all failed", State{FailedValidations: times(0), Unsettled: 1},
			func(s *State) { s.SettleValidations(1) }, func(s *State) { s.Unsettled = 0 }},
		{"earlier failures stay", State{FailedValidations: times(-minute)},
			func(s *State) { s.SettleValidations(0) }, nil},
		{"finalized keeps the order's URL and refunds its validations", State{Phase: Ordering, OrderCA: "a", NextAttempt: in(15 * minute), FailedValidations: times(0), recentValidations: times(0), Unsettled: 1},
			func(s *State) { s.Progress(now, Finalized, "o") }, func(s *State) {
				s.Phase, s.OrderURL, s.NextAttempt, s.FailedValidations, s.recentValidations, s.Unsettled = Finalized, "o", in(minute), times()[:0:0], times()[:0:0], 0
				s.FinalizedAt = now
			}},
		{"processing", State{Phase: Finalized, OrderURL: "o", OrderCA: "a", NextAttempt: in(minute)},
			func(s *State) { s.Progress(in(minute), Processing, "o") }, func(s *State) { s.Phase, s.NextAttempt = Processing, in(2*minute) }},
		{"an order outside the schedule changes the budget alone", State{Phase: Valid, NextAttempt: in(hour)},
			func(s *State) { s.CountValidations(now, 1) }, func(s *State) {
				s.FailedValidations, s.recentValidations, s.Unsettled = times(0), times(0), 1
			}},
	})
}

// A finalized order is resumed until it is given up.
func TestPendingOrder(t *testing.T) {
	pendingSince := func(d time.Duration) State {
		return State{Phase: Processing, OrderURL: "o", OrderCA: "a", FinalizedAt: in(d)}
	}
	givenUp := func(s *State) {
		*s = State{Phase: Failed, Failures: 1, RetryAfter: now, NextAttempt: in(15 * minute), LastError: "no"}
	}
	runTransitions(t, []transition{
		{"resumed: no validation counts as failed, and the order stays resumable", State{Phase: Processing, OrderURL: "o", OrderCA: "a", FinalizedAt: in(-hour)},
			func(s *State) { s.Resume(now) }, func(s *State) { s.LastAttempt, s.NextAttempt = now, in(minute) }},
		{"gone: a new order is due", State{Phase: Processing, OrderURL: "o", OrderCA: "a", FinalizedAt: in(-hour)},
			func(s *State) { s.OrderGone() }, func(s *State) { s.Phase, s.OrderURL, s.OrderCA, s.FinalizedAt = Due, "", "", time.Time{} }},
		{"resumed for six hours without a certificate", State{Phase: Processing, OrderURL: "o", OrderCA: "a", FinalizedAt: in(-6*hour + 1)},
			func(s *State) { s.OrderFailed(Failure{Now: now, Err: "no"}) }, func(s *State) {
				s.RetryAfter, s.NextAttempt, s.Outage = now, now, Outage{1, in(5 * time.Second), "no"}
			}},
		{"given up after six hours", pendingSince(-6 * hour),
			func(s *State) { s.OrderFailed(Failure{Now: now, Err: "no"}) }, givenUp},
		{"given up in time for the certificate in use", pendingSince(-2 * hour),
			func(s *State) { s.OrderFailed(Failure{Now: now, Horizon: 8 * hour, Err: "no"}) }, givenUp},
		{"given up after 15 minutes if another CA can be tried", pendingSince(-15 * minute),
			func(s *State) { s.OrderFailed(Failure{Now: now, OtherCA: true, Err: "no"}) }, givenUp},
	})
}

// The minimum interval after a successful order.
func TestObtained(t *testing.T) {
	runTransitions(t, []transition{
		{"not renewed for an hour", State{Phase: Ordering, Failures: 3, LastError: "no", OrderCA: "a", CAs: []string{"a"}, StagingPassed: true, FailedValidations: times(-minute), Outage: Outage{2, in(1), "x"}},
			func(s *State) { s.Obtained(Issuance{Now: now, CA: "a", Lifetime: 90 * day, Due: now}) }, func(s *State) {
				*s = State{Phase: Valid, LastAttempt: now, NextAttempt: in(hour), RenewNotBefore: in(hour), LastIssuer: "a", CAs: []string{"a"}, StagingPassed: true, FailedValidations: times(-minute)}
			}},
		{"due again within the interval: six hours", State{RenewNotBefore: in(-minute)},
			func(s *State) { s.Obtained(Issuance{Now: now, CA: "a", Lifetime: 90 * day, Due: in(-hour)}) }, func(s *State) {
				*s = State{Phase: Valid, LastAttempt: now, NextAttempt: in(6 * hour), RenewNotBefore: in(6 * hour), NoOpRenewals: 1, LastIssuer: "a"}
			}},
		{"an invalid certificate: not renewed for an hour", State{},
			func(s *State) { s.Obtained(Issuance{Now: now, CA: "a", Invalid: "for another name", Due: now}) }, func(s *State) {
				*s = State{Phase: Valid, LastAttempt: now, NextAttempt: in(hour), RenewNotBefore: in(hour), LastIssuer: "a", LastError: "for another name"}
			}},
	})
}

// A refused order waits 15 minutes at first, and six hours at most.
func TestOrderFailed(t *testing.T) {
	runTransitions(t, []transition{
		{"a refusal waits 15 minutes", State{Phase: Ordering, OrderCA: "a"},
			func(s *State) { s.OrderFailed(Failure{Now: now, Outcome: CARejected, Err: "no"}) }, func(s *State) {
				s.Phase, s.OrderCA, s.Failures, s.RetryAfter, s.NextAttempt, s.LastError = Failed, "", 1, now, in(15*minute), "no"
			}},
		{"the third waits an hour", State{Failures: 2},
			func(s *State) { s.OrderFailed(Failure{Now: now, Outcome: ValidationFailed, Err: "no"}) }, func(s *State) {
				s.Phase, s.Failures, s.RetryAfter, s.NextAttempt, s.LastError = Failed, 3, now, in(hour), "no"
			}},
		{"six hours at most", State{Failures: 20},
			func(s *State) { s.OrderFailed(Failure{Now: now, Outcome: CARejected, Err: "no"}) }, func(s *State) {
				s.Phase, s.Failures, s.RetryAfter, s.NextAttempt, s.LastError = Failed, 21, now, in(6*hour), "no"
			}},
		{"Retry-After is the least wait", State{},
			func(s *State) { s.OrderFailed(Failure{Now: now, Outcome: CARejected, RetryAfter: 2 * hour, Err: "no"}) }, func(s *State) {
				s.Phase, s.Failures, s.RetryAfter, s.NextAttempt, s.LastError = Failed, 1, in(2*hour), in(2*hour), "no"
			}},
		{"a finalized order that the CA refuses is not resumed", State{Phase: Finalized, OrderURL: "o", OrderCA: "a"},
			func(s *State) { s.OrderFailed(Failure{Now: now, Outcome: CARejected, Err: "no"}) }, func(s *State) {
				s.Phase, s.OrderURL, s.OrderCA, s.Failures, s.RetryAfter, s.NextAttempt, s.LastError = Failed, "", "", 1, now, in(15*minute), "no"
			}},
		{"validation budget exhausted", State{Phase: Due},
			func(s *State) { s.BudgetExhausted(in(20*minute), "too many") }, func(s *State) {
				s.Phase, s.NextAttempt, s.LastError = Failed, in(20*minute), "too many"
			}},
	})
}

// An unreachable CA is retried after seconds, and after five minutes at most.
func TestUnreachable(t *testing.T) {
	runTransitions(t, []transition{
		{"five seconds, and other nodes can try", State{Phase: Ordering, NextAttempt: in(15 * minute), LastError: "old"},
			func(s *State) { s.OrderFailed(Failure{Now: now, Err: "no answer"}) }, func(s *State) {
				s.Phase, s.RetryAfter, s.NextAttempt, s.LastError, s.Outage = Unreachable, now, now, "", Outage{1, in(5 * time.Second), "no answer"}
			}},
		{"five minutes at most", State{Outage: Outage{Count: 30}},
			func(s *State) { s.OrderFailed(Failure{Now: now, Err: "no"}) }, func(s *State) {
				s.Phase, s.RetryAfter, s.NextAttempt, s.Outage = Unreachable, now, now, Outage{31, in(5 * minute), "no"}
			}},
		{"within a quarter of what the certificate has left", State{Outage: Outage{Count: 30}},
			func(s *State) { s.OrderFailed(Failure{Now: now, Horizon: 4 * minute, Err: "no"}) }, func(s *State) {
				s.Phase, s.RetryAfter, s.NextAttempt, s.Outage = Unreachable, now, now, Outage{31, in(minute), "no"}
			}},
		{"Retry-After applies to all nodes", State{},
			func(s *State) { s.OrderFailed(Failure{Now: now, RetryAfter: hour, Err: "429"}) }, func(s *State) {
				s.Phase, s.RetryAfter, s.NextAttempt, s.LastError, s.Outage = Unreachable, in(hour), in(hour), "429", Outage{1, in(5 * time.Second), "429"}
			}},
		{"a processing order stays resumable", State{Phase: Processing, OrderURL: "o", OrderCA: "a"},
			func(s *State) { s.OrderFailed(Failure{Now: now, Err: "no"}) }, func(s *State) {
				s.RetryAfter, s.NextAttempt, s.Outage = now, now, Outage{1, in(5 * time.Second), "no"}
			}},
	})
}

// An order that a shutdown interrupted is made again soon.
func TestInterrupted(t *testing.T) {
	runTransitions(t, []transition{
		{"validations stay counted; retried after a minute", State{Phase: Ordering, NextAttempt: in(15 * minute), FailedValidations: times(0), Unsettled: 1},
			func(s *State) { s.Interrupted(now) }, func(s *State) {
				s.NextAttempt, s.LastError = in(minute), "the order was interrupted by a shutdown"
			}},
		{"a processing order stays resumable", State{Phase: Processing, OrderURL: "o"},
			func(s *State) { s.Interrupted(now) }, func(s *State) {
				s.NextAttempt, s.LastError = in(minute), "the order was interrupted by a shutdown"
			}},
	})
}

// Each CA has a Retry-After of its own.
func TestRetryAfter(t *testing.T) {
	runTransitions(t, []transition{
		{"recorded for the CA", State{},
			func(s *State) { s.SetRetryAfter(now, "a", hour) }, func(s *State) { s.RetryAfterByCA = map[string]time.Time{"a": in(hour)} }},
		{"expired ones are removed", State{RetryAfterByCA: map[string]time.Time{"a": in(-1), "b": in(1)}},
			func(s *State) { s.SetRetryAfter(now, "a", 0) }, func(s *State) { s.RetryAfterByCA = map[string]time.Time{"b": in(1)} }},
	})
}

// equal compares states; nil and empty lists are the same.
func equal(a, b State) bool {
	normalize := func(s State) State {
		s = clone(s)
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

// A second check returns the same action and does not change the state.
func TestCheckIsRepeatable(t *testing.T) {
	s := State{NextAttempt: in(hour), Failures: 2, forced: true, LastAttempt: in(-minute)}
	action := s.Check(CheckInput{Now: now})
	once := s
	again := s.Check(CheckInput{Now: now})
	if !equal(once, s) || action != again {
		t.Errorf("got %+v and %+v, then %+v and %+v", once, action, s, again)
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
			before := clone(s)
			if got := s.ValidationsAllowedAt(tt.n, now).Sub(now); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			if !equal(s, before) {
				t.Error("the question changed the state")
			}
		})
	}
}

// At most four validations fail within an hour, in any sequence of orders, restarts and
// forced renewals.
func TestValidationBudgetHolds(t *testing.T) {
	var s State
	var failed []time.Time
	for at := now; at.Before(in(10 * hour)); at = at.Add(37 * time.Second) {
		s.Force()
		if action := s.Check(CheckInput{Now: at, Locked: true}); !action.Order {
			continue
		}
		for range 2 {
			if s.ValidationsAllowedAt(1, at).After(at) {
				s.BudgetExhausted(s.ValidationsAllowedAt(1, at), "")
				break
			}
			s.Begin(at, "a", 1)
			s.SettleValidations(1)
			failed = append(failed, at)
		}
		s.OrderFailed(Failure{Now: at, Outcome: ValidationFailed, Err: "no"})
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

// Short lifetimes have short intervals.
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
			m := clone(remembered)
			m.StagingPassed, m.NoOpRenewals = true, 1
			return m
		}()},
		{"another node has exhausted the budget with other CAs", remembered, State{FailedValidations: times(-3, -2, -1)}, func() State {
			m := clone(remembered)
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

// Of a state for other CAs, only the failed validations are kept.
func TestForCAs(t *testing.T) {
	stored := State{Phase: Failed, CAs: []string{"a", "b"}, NextAttempt: in(hour), Failures: 3, LastError: "no", FailedValidations: times(-1)}
	unnamed := stored
	unnamed.CAs = nil
	for _, tt := range []struct {
		name   string
		stored State
		cas    []string
		kept   bool
	}{
		{"the same", stored, []string{"a", "b"}, true},
		{"none before", unnamed, []string{"a", "b"}, true},
		{"another fallback", stored, []string{"a", "c"}, false},
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

// A damaged state counts as an order that has just failed.
func TestDamagedState(t *testing.T) {
	s := Damaged([]string{"a"}, now)
	action := s.Check(CheckInput{Now: now})
	if action.Order || !action.Next.Equal(in(15*minute)) || s.Err() == "" {
		t.Errorf("got %+v, %+v; want a wait of 15 minutes", s, action)
	}
}

// A state is stored and loaded without loss, except for the fields of the process.
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

// The horizon is the remaining validity, or the lifetime of an expired certificate.
func TestHorizon(t *testing.T) {
	got := []time.Duration{(*Certificate)(nil).Horizon(now), cert(-hour, 2*hour).Horizon(now), cert(-3*hour, -hour).Horizon(now)}
	if want := []time.Duration{0, 2 * hour, 2 * hour}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
