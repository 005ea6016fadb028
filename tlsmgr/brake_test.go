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

func TestNewest(t *testing.T) {
	const hour = time.Hour
	first, second := &caClient{url: "first"}, &caClient{url: "second"}
	type term struct{ from, to time.Duration }
	for _, tt := range []struct {
		why         string
		first, last term
		from        string
		want        *caClient
	}{
		{"the one issued last, however short", term{-2 * hour, 2000 * hour}, term{-hour, 5 * hour}, "", second},
		{"of the same hour, the one that ends last", term{-hour, 6 * hour}, term{-hour, 5 * hour}, "", first},
		{"not one that has ended", term{-9 * hour, hour}, term{-2 * hour, -hour}, "second", first},
		{"both ended: the one that ended last", term{-3 * hour, -hour}, term{-2 * hour, -2 * hour}, "second", first},
		{"one dated back further, when its authority was the last to give one", term{-hour, 9 * hour}, term{-14 * hour, 9 * hour}, "second", second},
	} {
		t.Run(tt.why, func(t *testing.T) {
			all := []*stored{nil, pairOf(t, first, theName, tt.first.from, tt.first.to), pairOf(t, second, theName, tt.last.from, tt.last.to),
				pairOf(t, second, "other.example", 0, 9*hour)}
			for range 2 {
				if got := newest(all, theName, tt.from, time.Now()); got == nil || got.ca != tt.want {
					t.Errorf("got %v, want that of the %s", got, tt.want.url)
				}
				slices.Reverse(all)
			}
		})
	}
	if got := newest([]*stored{nil}, theName, "", time.Now()); got != nil {
		t.Errorf("got %v of none", got)
	}
}

// pairOf is a certificate of an authority, with its term counted from now.
func pairOf(t *testing.T, ca *caClient, name string, from, to time.Duration) *stored {
	t.Helper()
	return &stored{pairIn(t, name, time.Now().Add(from), time.Now().Add(to)), ca}
}

// withSecond is a supervisor with two authorities; the second gives
// certificates, and the first has been asked in vain.
func withSecond(t *testing.T, dir string) *supervised {
	t.Helper()
	s := newSupervised(t, dir, func(o order) (int, error) {
		if o.ca.url == "first" {
			return unreachable(o)
		}
		return 0, nil
	})
	s.settings.cas = append(s.settings.cas, &caClient{url: "second"})
	s.schedules = newScheduleStore(dirStorage{dir, s.settings.Logger}, s.settings)
	return s
}

// The second authority gave ninety days and wants them back; the first gives
// six. That is ordered once, and serves.
func TestShorterLivedCertificateIsTakenUp(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := withSecond(t, dir)
		s.runFor(t, time.Minute)
		if s.workers[0].getState().stored.ca.url != "second" {
			t.Fatal("want the certificate of the second authority at first")
		}
		time.Sleep(3 * time.Hour)
		revoked := serial(s.workers[0].getState().stored.Leaf)
		s.engine.info = func(c *stored) (renewalInfo, error) {
			if serial(c.Leaf) != revoked {
				return renewalInfo{}, errNoRenewalInfo
			}
			return window(time.Hour)(c)
		}
		s.engine.set(granted)
		s.engine.life = 6 * 24 * time.Hour
		s.forceRenewAll()
		start, before := time.Now(), len(s.engine.places)
		s.runFor(t, 24*time.Hour)
		if got := s.engine.places[before:]; len(got) != 1 {
			t.Errorf("%d orders in a day, at %v, want 1", len(got), s.engine.since(start)[before:])
		}
		if got := s.workers[0].getState().stored; got.ca.url != "first" {
			t.Errorf("serves the certificate of the %s until %v, want that of the first", got.ca.url, got.Leaf.NotAfter)
		}
	})
}

// Orders that succeed and change nothing: the authority wants each certificate
// replaced at once. Neither a person nor a restart gets more orders than the
// five a week that Let's Encrypt allows.
func TestBrakeIsNotLifted(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var all []time.Duration
		kept := map[string]*stored{}
		for range 12 {
			s := newSupervised(t, dir, granted)
			s.engine.info = window(-time.Hour)
			s.forceRenewAll()
			s.runFor(t, time.Minute) // without what was stored: a look each two seconds
			maps.Copy(kept, s.engine.store)
			s.engine.store = kept
			s.runFor(t, 3*time.Hour-time.Minute)
			s.forceRenewAll()
			s.runFor(t, 3*time.Hour)
			all = append(all, s.engine.since(start)...)
		}
		if want := minutes(0, 60, 7*60, 43*60); !slices.Equal(all, want) {
			t.Errorf("orders over 12 restarts and 24 urges at %v, want %v", all, want)
		}
	})
}

// A short life has short rests, so that it is renewed in time.
func TestGap(t *testing.T) {
	for _, tt := range []struct {
		idle int
		life time.Duration
		want time.Duration
	}{
		{0, 90 * 24 * time.Hour, time.Hour}, {1, 90 * 24 * time.Hour, 6 * time.Hour}, {90, 90 * 24 * time.Hour, 45 * 24 * time.Hour},
		{0, time.Minute, 6 * time.Second}, {1, time.Minute, 30 * time.Second}, {0, 0, time.Hour}, {3, -time.Hour, 216 * time.Hour}, {2, time.Millisecond, time.Second},
	} {
		if got := minRenewalInterval(tt.idle, tt.life); got != tt.want {
			t.Errorf("gap(%d, %v) = %v, want %v", tt.idle, tt.life, got, tt.want)
		}
	}
}

// What cannot be read of the store leaves the better certificate in place.
func TestUnreadStoreLeavesTheBetterOne(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := withSecond(t, dir)
		old, fresh := pairOf(t, s.settings.cas[1], theName, -48*time.Hour, time.Hour), pairOf(t, s.settings.cas[0], theName, -time.Hour, time.Hour)
		s.engine.store[theName] = fresh
		s.loadCertificate(t.Context(), s.workers[0])
		s.engine.store[theName], s.engine.unread = old, errors.New("the disk is away")
		s.loadCertificate(t.Context(), s.workers[0])
		if got := s.workers[0].getState().stored; got != fresh {
			t.Errorf("took the older certificate of the %s up", got.ca.url)
		}
	})
}

// Authorities that change places are the same ones: what failed stays on record.
// With others a new schedule begins, and what failed stays counted.
func TestRecordWhenAuthoritiesChange(t *testing.T) {
	now := time.Now().Round(0)
	before := scheduleState{LastAttempt: now, NextAttempt: now.Add(3 * time.Hour), RenewNotBefore: now.Add(time.Hour), LastIssuer: "a", NoOpRenewals: 2, FailureCount: 3, LastError: "no",
		FailedValidations: []time.Time{now, now}}
	for _, tt := range []struct {
		why   string
		asked []string
		check func(*scheduleState) bool
	}{
		{"none before", nil, func(r *scheduleState) bool { return r.FailureCount == 3 }},
		{"the same", []string{"a", "b"}, func(r *scheduleState) bool { return r.FailureCount == 3 && r.NextAttempt.Equal(before.NextAttempt) }},
		{"another second", []string{"a", "c"}, func(r *scheduleState) bool {
			return r.FailureCount == 0 && r.NextAttempt.Equal(before.RenewNotBefore) && r.NoOpRenewals == 2
		}},
		{"all others", []string{"x"}, func(r *scheduleState) bool {
			return r.NextAttempt.IsZero() && r.RenewNotBefore.IsZero() && r.LastError == ""
		}},
	} {
		dir := t.TempDir()
		log, _ := newLog()
		s := &settings{Config: Config{Logger: log}}
		for _, url := range []string{"b", "a"} {
			s.cas = append(s.cas, &caClient{url: url})
		}
		rec := before
		if recs := newScheduleStore(dirStorage{dir, s.Logger}, s); tt.asked != nil {
			rec.CAs = recs.cas
			recs.cas = tt.asked
			if err := recs.write(t.Context(), theName, &rec); err != nil {
				t.Fatal(err)
			}
			got, err := recs.read(theName, now)
			if err != nil || !tt.check(got) || len(got.FailedValidations) != 2 {
				t.Errorf("%s: read %+v, %v", tt.why, got, err)
			}
			continue
		}
		rec.switchCAs([]string{"a"})
		if !tt.check(&rec) {
			t.Errorf("%s: %+v", tt.why, rec)
		}
	}
}

// A clock that is set forward makes what is recorded look old. The floor holds
// all the same, in true time.
func TestFloorWhenTheClockIsSetForward(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newSupervised(t, dir, unproved)
		start := time.Now()
		for range 6 {
			s.runFor(t, 9*time.Minute)
			rec, err := s.schedules.read(theName, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			for _, at := range append([]*time.Time{&rec.NextAttempt, &rec.LastAttempt}, pointers(rec.FailedValidations)...) {
				*at = at.Add(-5 * time.Hour)
			}
			if err := s.schedules.write(t.Context(), theName, rec); err != nil {
				t.Fatal(err)
			}
		}
		if got := s.engine.since(start); len(got) != maxFailedValidations {
			t.Errorf("orders within the hour at %v, want %d", got, maxFailedValidations)
		}
		s.runFor(t, 20*time.Minute)
		if got := s.engine.since(start); len(got) != maxFailedValidations+2 || got[maxFailedValidations] < time.Hour {
			t.Errorf("orders at %v, want two more once the hour is over", got)
		}
	})
}

func pointers(times []time.Time) (all []*time.Time) {
	for i := range times {
		all = append(all, &times[i])
	}
	return all
}

// An order that our own end breaks off is no failure, and is taken up soon; how
// it went is unknown, so its validation counts.
func TestOrderThatOurEndBreaksOff(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := newSupervised(t, dir, func(order) (int, error) { cancel(); return 0, ctx.Err() })
		s.step(ctx, s.workers[0])
		rec, err := s.schedules.read(theName, time.Now())
		if err != nil || rec.FailureCount+rec.UnavailableCount > 0 || !rec.NextAttempt.Equal(time.Now().Add(interruptedRetryDelay)) || len(rec.FailedValidations) != 1 {
			t.Errorf("recorded %+v, %v; want no failure, one validation, and the next order in %v", rec, err, interruptedRetryDelay)
		}
	})
}

// A look-up that fails says nothing of a name, so the order is made: the
// authority will say.
func TestOrderWhenNamesCannotBeLookedUp(t *testing.T) {
	s := newSupervised(t, t.TempDir(), granted)
	s.settings.ACME.WaitForAddress = true
	s.settings.ACME.Resolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("the network is unreachable")
	}}
	s.step(t.Context(), s.workers[0])
	if got := len(s.engine.asked); got != 1 {
		t.Errorf("%d orders, want 1", got)
	}
}

// A record that is damaged may have told of anything, so it counts as an order
// that failed just now.
func TestDamagedRecordIsNoLicence(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newSupervised(t, dir, granted)
		if err := s.schedules.write(t.Context(), theName, new(scheduleState)); err != nil {
			t.Fatal(err)
		}
		write(t, dirStorage{dir, nil}.path(s.schedules.key(theName, ".json")), []byte("{half"))
		start := time.Now()
		s.runFor(t, 20*time.Minute)
		if got := s.engine.since(start); !slices.Equal(got, minutes(15)) {
			t.Errorf("orders at %v, want one after a quarter of an hour", got)
		}
	})
}
