package tlsmgr

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestNewestCertificate(t *testing.T) {
	const hour = time.Hour
	first, second := &caClient{url: "first"}, &caClient{url: "second"}
	type validity struct{ from, to time.Duration }
	for _, tt := range []struct {
		why         string
		first, last validity
		lastIssuer  string
		want        *caClient
	}{
		{"issued last, though shorter", validity{-2 * hour, 2000 * hour}, validity{-hour, 5 * hour}, "", second},
		{"issued in the same hour, expires last", validity{-hour, 6 * hour}, validity{-hour, 5 * hour}, "", first},
		{"not an expired one", validity{-9 * hour, hour}, validity{-2 * hour, -hour}, "second", first},
		{"both expired, the one that expired last", validity{-3 * hour, -hour}, validity{-2 * hour, -2 * hour}, "second", first},
		{"backdated further, but from the last issuer", validity{-hour, 9 * hour}, validity{-14 * hour, 9 * hour}, "second", second},
	} {
		t.Run(tt.why, func(t *testing.T) {
			certs := []*stored{nil, storedPair(t, first, testName, tt.first.from, tt.first.to), storedPair(t, second, testName, tt.last.from, tt.last.to),
				storedPair(t, second, "other.example", 0, 9*hour)}
			for range 2 {
				if got := newest(certs, testName, tt.lastIssuer, time.Now()); got == nil || got.ca != tt.want {
					t.Errorf("got %v, want the certificate of the %s CA", got, tt.want.url)
				}
				slices.Reverse(certs)
			}
		})
	}
	if got := newest([]*stored{nil}, testName, "", time.Now()); got != nil {
		t.Errorf("got %v from an empty list, want nil", got)
	}
}

// storedPair returns a certificate of a CA, with its validity relative to now.
func storedPair(t *testing.T, ca *caClient, name string, from, to time.Duration) *stored {
	t.Helper()
	return &stored{tlsPair(t, name, time.Now().Add(from), time.Now().Add(to)), ca}
}

// newTestSchedulerWithFallbackCA returns a scheduler with two CAs. Orders at the first
// fail, and orders at the second succeed.
func newTestSchedulerWithFallbackCA(t *testing.T, dir string) *testScheduler {
	t.Helper()
	s := newTestScheduler(t, dir, func(o order) (int, error) {
		if o.ca.url == "first" {
			return orderUnreachable(o)
		}
		return 0, nil
	})
	s.settings.cas = append(s.settings.cas, &caClient{url: "second"})
	s.schedules = newScheduleStore(dirStorage{dir, s.settings.Logger}, s.settings)
	return s
}

// A 90-day certificate of the fallback CA is due at once, and the first CA issues one
// for six days. That is ordered once and served, though it expires earlier.
func TestShorterLivedCertificateIsLoaded(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newTestSchedulerWithFallbackCA(t, dir)
		s.runFor(t, time.Minute)
		if s.workers[0].getState().stored.ca.url != "second" {
			t.Fatal("at the start: want the certificate of the second CA")
		}
		time.Sleep(3 * time.Hour)
		revoked := serial(s.workers[0].getState().stored.Leaf)
		s.engine.ariResponse = func(c *stored) (renewalInfo, error) {
			if serial(c.Leaf) != revoked {
				return renewalInfo{}, errNoRenewalInfo
			}
			return ariWindow(time.Hour)(c)
		}
		s.engine.setOnOrder(orderSucceeds)
		s.engine.lifetime = 6 * 24 * time.Hour
		s.forceRenewAll()
		start, before := time.Now(), len(s.engine.orderCAs)
		s.runFor(t, 24*time.Hour)
		if got := s.engine.orderCAs[before:]; len(got) != 1 {
			t.Errorf("got %d orders in a day, at %v, want 1", len(got), s.engine.ordersSince(start)[before:])
		}
		if got := s.workers[0].getState().stored; got.ca.url != "first" {
			t.Errorf("got the certificate of the %s CA until %v, want that of the first", got.ca.url, got.Leaf.NotAfter)
		}
	})
}

// The CA proposes to renew each new certificate at once. Neither forced renewals nor
// restarts exceed the five orders per week that Let's Encrypt allows.
func TestNoOpRenewalsBackOff(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var orderTimes []time.Duration
		allCerts := map[string]*stored{}
		for range 12 {
			s := newTestScheduler(t, dir, orderSucceeds)
			s.engine.ariResponse = ariWindow(-time.Hour)
			s.forceRenewAll()
			s.runFor(t, time.Minute) // without the stored certificate: checks every two seconds
			maps.Copy(allCerts, s.engine.certs)
			s.engine.certs = allCerts
			s.runFor(t, 3*time.Hour-time.Minute)
			s.forceRenewAll()
			s.runFor(t, 3*time.Hour)
			orderTimes = append(orderTimes, s.engine.ordersSince(start)...)
		}
		if want := minutes(0, 60, 7*60, 43*60); !slices.Equal(orderTimes, want) {
			t.Errorf("with 12 restarts and 24 forced renewals: got orders at %v, want %v", orderTimes, want)
		}
	})
}

// A short lifetime has short minimum intervals, so that renewal is in time.
func TestMinRenewalInterval(t *testing.T) {
	for _, tt := range []struct {
		noOpRenewals int
		life         time.Duration
		want         time.Duration
	}{
		{0, 90 * 24 * time.Hour, time.Hour}, {1, 90 * 24 * time.Hour, 6 * time.Hour}, {90, 90 * 24 * time.Hour, 45 * 24 * time.Hour},
		{0, time.Minute, 6 * time.Second}, {1, time.Minute, 30 * time.Second}, {0, 0, time.Hour}, {3, -time.Hour, 216 * time.Hour}, {2, time.Millisecond, time.Second},
	} {
		if got := minRenewalInterval(tt.noOpRenewals, tt.life); got != tt.want {
			t.Errorf("minRenewalInterval(%d, %v): got %v, want %v", tt.noOpRenewals, tt.life, got, tt.want)
		}
	}
}

// A read error of the store does not replace the current certificate by an older one.
func TestStoreReadErrorKeepsCertificate(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newTestSchedulerWithFallbackCA(t, dir)
		old, fresh := storedPair(t, s.settings.cas[1], testName, -48*time.Hour, time.Hour), storedPair(t, s.settings.cas[0], testName, -time.Hour, time.Hour)
		s.engine.certs[testName] = fresh
		s.loadCertificate(t.Context(), s.workers[0])
		s.engine.certs[testName], s.engine.loadErr = old, errors.New("disk unavailable")
		s.loadCertificate(t.Context(), s.workers[0])
		if got := s.workers[0].getState().stored; got != fresh {
			t.Errorf("got the older certificate of the %s CA, want the current one", got.ca.url)
		}
	})
}

// A new order of the same CAs keeps the schedule. Other CAs start a new schedule, but
// failed validations still count.
func TestScheduleWhenCAsChange(t *testing.T) {
	now := time.Now().Round(0)
	before := scheduleState{LastAttempt: now, NextAttempt: now.Add(3 * time.Hour), RenewNotBefore: now.Add(time.Hour), LastIssuer: "a", NoOpRenewals: 2, FailureCount: 3, LastError: "no",
		FailedValidations: []time.Time{now, now}}
	for _, tt := range []struct {
		why   string
		cas   []string
		check func(*scheduleState) bool
	}{
		{"no CAs stored", nil, func(r *scheduleState) bool { return r.FailureCount == 3 }},
		{"same CAs", []string{"a", "b"}, func(r *scheduleState) bool { return r.FailureCount == 3 && r.NextAttempt.Equal(before.NextAttempt) }},
		{"other fallback CA", []string{"a", "c"}, func(r *scheduleState) bool {
			return r.FailureCount == 0 && r.NextAttempt.Equal(before.RenewNotBefore) && r.NoOpRenewals == 2
		}},
		{"other CAs", []string{"x"}, func(r *scheduleState) bool {
			return r.NextAttempt.IsZero() && r.RenewNotBefore.IsZero() && r.LastError == ""
		}},
	} {
		dir := t.TempDir()
		log, _ := newLog()
		s := &settings{Config: Config{Logger: log}}
		for _, url := range []string{"b", "a"} {
			s.cas = append(s.cas, &caClient{url: url})
		}
		sched := before
		if schedules := newScheduleStore(dirStorage{dir, s.Logger}, s); tt.cas != nil {
			sched.CAs = schedules.cas
			schedules.cas = tt.cas
			if err := schedules.write(t.Context(), testName, &sched); err != nil {
				t.Fatal(err)
			}
			got, err := schedules.read(testName, now)
			if err != nil || !tt.check(got) || len(got.FailedValidations) != 2 {
				t.Errorf("%s: got %+v, %v", tt.why, got, err)
			}
			continue
		}
		sched.switchCAs([]string{"a"})
		if !tt.check(&sched) {
			t.Errorf("%s: got %+v", tt.why, sched)
		}
	}
}

// A clock that is set forward makes recorded times look old. The validation budget
// holds in real time nevertheless.
func TestValidationBudgetAfterClockJump(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newTestScheduler(t, dir, orderFailsValidation)
		start := time.Now()
		for range 6 {
			s.runFor(t, 9*time.Minute)
			sched, err := s.schedules.read(testName, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			for _, at := range append([]*time.Time{&sched.NextAttempt, &sched.LastAttempt}, timePointers(sched.FailedValidations)...) {
				*at = at.Add(-5 * time.Hour)
			}
			if err := s.schedules.write(t.Context(), testName, sched); err != nil {
				t.Fatal(err)
			}
		}
		if got := s.engine.ordersSince(start); len(got) != maxFailedValidations {
			t.Errorf("got orders at %v within the hour, want %d", got, maxFailedValidations)
		}
		s.runFor(t, 20*time.Minute)
		if got := s.engine.ordersSince(start); len(got) != maxFailedValidations+2 || got[maxFailedValidations] < time.Hour {
			t.Errorf("got orders at %v, want two more after the hour", got)
		}
	})
}

func timePointers(times []time.Time) (all []*time.Time) {
	for i := range times {
		all = append(all, &times[i])
	}
	return all
}

// An order canceled by shutdown is not a failure and is retried soon. Its outcome is
// unknown, so its validation counts as failed.
func TestCanceledOrderIsNoFailure(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := newTestScheduler(t, dir, func(order) (int, error) { cancel(); return 0, ctx.Err() })
		s.step(ctx, s.workers[0])
		sched, err := s.schedules.read(testName, time.Now())
		if err != nil || sched.FailureCount+sched.UnavailableCount > 0 || !sched.NextAttempt.Equal(time.Now().Add(interruptedRetryDelay)) || len(sched.FailedValidations) != 1 {
			t.Errorf("got schedule %+v, %v, want no failure, one validation and the next order in %v", sched, err, interruptedRetryDelay)
		}
	})
}

// A DNS error does not delay the order, since it does not show whether the name has an
// address.
func TestOrderWhenDNSFails(t *testing.T) {
	s := newTestScheduler(t, t.TempDir(), orderSucceeds)
	s.settings.ACME.WaitForAddress = true
	s.settings.ACME.Resolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("network is unreachable")
	}}
	s.step(t.Context(), s.workers[0])
	if got := len(s.engine.orderTimes); got != 1 {
		t.Errorf("got %d orders, want 1", got)
	}
}

// A damaged schedule counts as an order that failed just now, since its content is
// unknown.
func TestDamagedScheduleCountsAsFailure(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newTestScheduler(t, dir, orderSucceeds)
		if err := s.schedules.write(t.Context(), testName, new(scheduleState)); err != nil {
			t.Fatal(err)
		}
		mustWriteFile(t, dirStorage{dir, nil}.path(s.schedules.key(testName, ".json")), []byte("{half"))
		start := time.Now()
		s.runFor(t, 20*time.Minute)
		if got := s.engine.ordersSince(start); !slices.Equal(got, minutes(15)) {
			t.Errorf("got orders at %v, want one after 15 minutes", got)
		}
	})
}
