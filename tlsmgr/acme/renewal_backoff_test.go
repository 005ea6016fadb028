package acme

import (
	"context"
	"errors"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"inbox/tlsmgr/acme/schedule"
	"inbox/tlsmgr/internal/tlstest"
)

func TestNewestCertificate(t *testing.T) {
	const hour = time.Hour
	first, fallback := &CAClient{URL: "first"}, &CAClient{URL: "fallback"}
	type validity struct{ from, to time.Duration }
	for _, tt := range []struct {
		why         string
		first, last validity
		lastIssuer  string
		want        *CAClient
	}{
		{"issued last, though shorter", validity{-2 * hour, 2000 * hour}, validity{-hour, 5 * hour}, "", fallback},
		{"issued in the same hour, expires last", validity{-hour, 6 * hour}, validity{-hour, 5 * hour}, "", first},
		{"not an expired one", validity{-9 * hour, hour}, validity{-2 * hour, -hour}, "fallback", first},
		{"both expired, the one that expired last", validity{-3 * hour, -hour}, validity{-2 * hour, -2 * hour}, "fallback", first},
		{"backdated further, but from the last issuer", validity{-hour, 9 * hour}, validity{-14 * hour, 9 * hour}, "fallback", fallback},
	} {
		t.Run(tt.why, func(t *testing.T) {
			certs := []*Certificate{nil, storedPair(t, first, testName, tt.first.from, tt.first.to), storedPair(t, fallback, testName, tt.last.from, tt.last.to),
				storedPair(t, fallback, "other.example", 0, 9*hour)}
			for range 2 {
				if got := newest(certs, testName, tt.lastIssuer, time.Now()); got == nil || got.CA != tt.want {
					t.Errorf("got %v, want the certificate of the %s CA", got, tt.want.URL)
				}
				slices.Reverse(certs)
			}
		})
	}
	if got := newest([]*Certificate{nil}, testName, "", time.Now()); got != nil {
		t.Errorf("got %v from an empty list, want nil", got)
	}
}

// storedPair returns a certificate of a CA, with its validity relative to now.
func storedPair(t *testing.T, ca *CAClient, name string, from, to time.Duration) *Certificate {
	t.Helper()
	return &Certificate{tlstest.TLSPair(t, name, time.Now().Add(from), time.Now().Add(to)), ca}
}

// newTestSchedulerWithFallbackCA returns a scheduler with two CAs. Orders at the first
// fail, and orders at the fallback CA succeed.
func newTestSchedulerWithFallbackCA(t *testing.T, dir string) *testScheduler {
	t.Helper()
	s := newTestScheduler(t, dir, func(o Order) (int, error) {
		if o.CA.URL == "first" {
			return orderUnreachable(o)
		}
		return 0, nil
	})
	s.setCAs(s.Settings.CAs[0], &CAClient{URL: "fallback"})
	return s
}

// A 90-day certificate of the fallback CA is due immediately, and the first CA issues one
// for six days. It is ordered once and served, although it expires earlier.
func TestShorterLivedCertificateIsLoaded(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newTestSchedulerWithFallbackCA(t, dir)
		s.runFor(t, time.Minute)
		if s.workers[0].get().cert.CA.URL != "fallback" {
			t.Fatal("at the start: want the certificate of the fallback CA")
		}
		time.Sleep(3 * time.Hour)
		revoked := s.workers[0].get().cert.Serial()
		s.engine.ariResponse = func(c *Certificate) (schedule.ARI, error) {
			if c.Serial() != revoked {
				return schedule.ARI{}, ErrNoRenewalInfo
			}
			return ariWindow(time.Hour)(c)
		}
		s.engine.setOnOrder(orderSucceeds)
		s.engine.lifetime = 6 * 24 * time.Hour
		s.forceRenewal()
		start, before := time.Now(), len(s.engine.orderCAs)
		s.runFor(t, 24*time.Hour)
		if got := s.engine.orderCAs[before:]; len(got) != 1 {
			t.Errorf("got %d orders in a day, at %v, want 1", len(got), s.engine.ordersSince(start)[before:])
		}
		if got := s.workers[0].get().cert; got.CA.URL != "first" {
			t.Errorf("got the certificate of the %s CA until %v, want that of the first", got.CA.URL, got.Leaf.NotAfter)
		}
	})
}

// The CA suggests to renew each new certificate immediately. The five orders per week that
// Let's Encrypt allows are not exceeded, even with forced renewals and restarts.
func TestNoOpRenewalsBackOff(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var orderTimes []time.Duration
		allCerts := map[string]*Certificate{}
		for range 12 {
			s := newTestScheduler(t, dir, orderSucceeds)
			s.engine.ariResponse = ariWindow(-time.Hour)
			s.forceRenewal()
			s.runFor(t, time.Minute) // without the stored certificate: checks every two seconds
			maps.Copy(allCerts, s.engine.certs)
			s.engine.certs = allCerts
			s.runFor(t, 3*time.Hour-time.Minute)
			s.forceRenewal()
			s.runFor(t, 3*time.Hour)
			orderTimes = append(orderTimes, s.engine.ordersSince(start)...)
		}
		if want := minutes(0, 60, 7*60, 43*60); !slices.Equal(orderTimes, want) {
			t.Errorf("with 12 restarts and 24 forced renewals: got orders at %v, want %v", orderTimes, want)
		}
	})
}

// A read error of the store does not replace the current certificate by an older one.
func TestStoreReadErrorKeepsCertificate(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newTestSchedulerWithFallbackCA(t, dir)
		old, fresh := storedPair(t, s.Settings.CAs[1], testName, -48*time.Hour, time.Hour), storedPair(t, s.Settings.CAs[0], testName, -time.Hour, time.Hour)
		s.engine.certs[testName] = fresh
		s.loadCertificate(t.Context(), s.workers[0], "")
		s.engine.certs[testName], s.engine.loadErr = old, errors.New("disk unavailable")
		s.loadCertificate(t.Context(), s.workers[0], "")
		if got := s.workers[0].get().cert; got != fresh {
			t.Errorf("got the older certificate of the %s CA, want the current one", got.CA.URL)
		}
	})
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
			state := s.stored(t)
			for _, at := range append([]*time.Time{&state.NextAttempt, &state.LastAttempt}, timePointers(state.FailedValidations)...) {
				*at = at.Add(-5 * time.Hour)
			}
			s.store(t, state)
		}
		if got := s.engine.ordersSince(start); len(got) != schedule.MaxFailedValidations {
			t.Errorf("got orders at %v within the hour, want %d", got, schedule.MaxFailedValidations)
		}
		s.runFor(t, 20*time.Minute)
		if got := s.engine.ordersSince(start); len(got) != schedule.MaxFailedValidations+2 || got[schedule.MaxFailedValidations] < time.Hour {
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
		s := newTestScheduler(t, dir, func(Order) (int, error) { cancel(); return 0, ctx.Err() })
		s.step(ctx, s.workers[0])
		state := s.stored(t)
		if state.Failures+state.Outage.Count > 0 || !state.NextAttempt.Equal(time.Now().Add(schedule.InterruptedRetryDelay)) || len(state.FailedValidations) != 1 {
			t.Errorf("got schedule %+v, want no failure, one validation and the next order in %v", state, schedule.InterruptedRetryDelay)
		}
	})
}

// A DNS error does not delay the order, since it does not show whether the name has an
// address.
func TestOrderWhenDNSFails(t *testing.T) {
	s := newTestScheduler(t, t.TempDir(), orderSucceeds)
	s.Settings.WaitForAddress = true
	s.Settings.Resolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("network is unreachable")
	}}
	s.step(t.Context(), s.workers[0])
	if got := len(s.engine.orderTimes); got != 1 {
		t.Errorf("got %d orders, want 1", got)
	}
}

// A damaged schedule counts as an order that has just failed.
func TestDamagedScheduleCountsAsFailure(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newTestScheduler(t, dir, orderSucceeds)
		s.store(t, schedule.State{})
		tlstest.MustWriteFile(t, filepath.Join(dir, recordKey(testName, ".json")), []byte("{half"))
		start := time.Now()
		s.runFor(t, 20*time.Minute)
		if got := s.engine.ordersSince(start); !slices.Equal(got, minutes(15)) {
			t.Errorf("got orders at %v, want one after 15 minutes", got)
		}
	})
}
