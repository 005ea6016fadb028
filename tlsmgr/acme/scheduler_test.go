package acme

import (
	"crypto/tls"
	"errors"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"inbox/tlsmgr/acme/schedule"
	"inbox/tlsmgr/internal/certs"
	"inbox/tlsmgr/internal/tlstest"
)

func TestOrderSchedule(t *testing.T) {
	tlsALPNOnly := []ChallengeType{{TLSALPN01, 1}}
	for _, tt := range []struct {
		name           string
		onOrder        func(Order) (int, error)
		challengeTypes []ChallengeType
		run            time.Duration
		want           []time.Duration
	}{
		{"CA unavailable: 5 s, doubling to 5 minutes", orderUnreachable, tlsALPNOnly, 21 * time.Minute,
			seconds(0, 5, 15, 35, 75, 155, 315, 615, 915, 1215)},
		{"rejected: 15 minutes, doubling to 6 hours", orderRefused, tlsALPNOnly, 14 * time.Hour,
			minutes(0, 15, 45, 105, 225, 465, 825)},
		{"validation failed: both challenge types, then the validation budget", orderFailsValidation, []ChallengeType{{TLSALPN01, 1}, {HTTP01, 1}}, 119 * time.Minute,
			minutes(0, 0, 15, 15, 60, 60)},
		{"validation failed, one challenge type", orderFailsValidation, tlsALPNOnly, 4 * time.Hour, minutes(0, 15, 45, 105, 225)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				s := newTestScheduler(t, dir, tt.onOrder)
				s.engine.challengeTypeList = tt.challengeTypes
				start := time.Now()
				s.runFor(t, tt.run)
				if got := s.engine.ordersSince(start); !slices.Equal(got, tt.want) {
					t.Errorf("got orders at\n%v, want\n%v", got, tt.want)
				}
			})
		})
	}
}

// After an outage of the CA at renewal time, a certificate with a lifetime of minutes
// is renewed before it expires.
func TestShortLivedCertificateSurvivesOutage(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newTestScheduler(t, dir, orderSucceeds)
		s.engine.lifetime = 6 * time.Minute
		start := time.Now()
		s.engine.setOnOrder(func(Order) (int, error) {
			if elapsed := time.Since(start); elapsed > 4*time.Minute-10*time.Second && elapsed < 4*time.Minute+90*time.Second {
				return 0, errors.New("connection refused")
			}
			return 0, nil
		})
		s.runFor(t, 6*time.Minute)
		if left := s.workers[0].get().cert.Leaf.NotAfter.Sub(start.Add(6 * time.Minute)); left <= 0 {
			t.Errorf("got orders at %v and an expired certificate, want a renewal within 30 s after the outage", s.engine.ordersSince(start))
		}
		if n := len(s.engine.ordersSince(start)); n > 15 {
			t.Errorf("got %d orders, want at most 15", n)
		}
	})
}

// After an outage longer than the certificate's lifetime, the retry interval is a
// quarter of the lifetime, up to 5*time.Minute.
func TestRetryIntervalAfterExpiry(t *testing.T) {
	for life, most := range map[time.Duration]time.Duration{24 * time.Second: 6 * time.Second, 6 * time.Minute: 90 * time.Second, 90 * 24 * time.Hour: 5 * time.Minute} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			s := newTestScheduler(t, dir, orderSucceeds)
			s.engine.lifetime = life
			start := time.Now()
			s.runFor(t, life/2)
			s.engine.setOnOrder(orderUnreachable)
			s.runFor(t, life/2+time.Hour)
			orders := s.engine.ordersSince(start)
			if got := orders[len(orders)-1] - orders[len(orders)-2]; got > most+2*time.Second || got < most/2 {
				t.Errorf("lifetime %v: got a retry interval of %v after expiry, want %v", life, got, most)
			}
		})
	}
}

// At most four validations fail in any hour, even with restarts and forced renewals.
func TestFailedValidationBudget(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var failed []time.Time
		onOrder := func(o Order) (int, error) {
			for range o.ChallengeType.Validations {
				failed = append(failed, time.Now())
			}
			return orderFailsValidation(o)
		}
		for range 400 {
			s := newTestScheduler(t, dir, onOrder)
			s.forceRenewal()
			s.runFor(t, 50*time.Second)
			s.forceRenewal()
		}
		if len(failed) < 8 {
			t.Errorf("got %d validations in five hours, want at least 8", len(failed))
		}
		for i := schedule.MaxFailedValidations; i < len(failed); i++ {
			if within := failed[i].Sub(failed[i-schedule.MaxFailedValidations]); within < schedule.ValidationWindow {
				t.Errorf("got failed validations %d to %d within %v, want at least an hour", i-schedule.MaxFailedValidations, i, within)
			}
		}
	})
}

// During an order the stored schedule assumes failure, in case the process crashes.
func TestCrashIsRecordedAsFailure(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var during schedule.State
		s := newTestScheduler(t, dir, nil)
		s.engine.setOnOrder(func(o Order) (int, error) {
			during = s.stored(t)
			return 0, nil
		})
		start := time.Now()
		s.runFor(t, time.Second)
		if want := start.Add(schedule.FailureBackoffMin); !during.NextAttempt.Equal(want) || len(during.FailedValidations) != 1 {
			t.Errorf("during the order: got schedule %+v, want the next order at %v and one validation", during, want)
		}
		if state := s.stored(t); len(state.FailedValidations) != 0 {
			t.Errorf("after the order: got schedule %+v, want no validation", state)
		}
	})
}

func TestRestartResumesSchedule(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var orderTimes []time.Duration
		for range 42 {
			s := newTestScheduler(t, dir, orderRefused)
			s.runFor(t, 70*time.Second)
			orderTimes = append(orderTimes, s.engine.ordersSince(start)...)
		}
		if want := minutes(0, 15, 45); !slices.Equal(orderTimes, want) {
			t.Errorf("with 42 restarts: got orders at %v, want %v", orderTimes, want)
		}
	})
}

func TestRetryAfterIsMinimumDelay(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newTestScheduler(t, dir, func(Order) (int, error) {
			return 0, &OrderError{RetryAfter: 20 * time.Minute, Err: errors.New("429")}
		})
		start := time.Now()
		s.runFor(t, 10*time.Minute)
		s.forceRenewal()
		s.runFor(t, 55*time.Minute)
		if got, want := s.engine.ordersSince(start), minutes(0, 20, 40, 60); !slices.Equal(got, want) {
			t.Errorf("got orders at %v, want %v", got, want)
		}
	})
}

// A forced renewal causes an order soon, but repeated ones cause no further orders.
func TestForcedRenewal(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newTestScheduler(t, dir, orderRefused)
		start := time.Now()
		var running sync.WaitGroup
		running.Go(func() { s.runFor(t, 5*time.Minute) })
		time.Sleep(10 * time.Second)
		for range 20 {
			s.forceRenewal()
			time.Sleep(time.Second)
		}
		running.Wait()
		if got, want := s.engine.ordersSince(start), minutes(0, 1); !slices.Equal(got, want) {
			t.Errorf("got orders at %v, want %v", got, want)
		}
	})
}

func TestRenewalTimes(t *testing.T) {
	const day = 24 * time.Hour
	for _, tt := range []struct {
		name string
		life time.Duration
		info func(*Certificate) (schedule.ARI, error)
		want time.Duration
	}{
		{"90 days, no ARI", 90 * day, nil, 60 * day},
		{"6 days", 6 * day, nil, 4 * day},
		{"one minute", time.Minute, nil, 40 * time.Second},
		{"ARI earlier", 90 * day, ariWindow(10 * day), 10 * day},
		{"ARI later", 90 * day, ariWindow(70 * day), 70 * day},
		{"ARI too late", 90 * day, ariWindow(89 * day), 75 * day},
		{"ARI unavailable", 90 * day, func(*Certificate) (schedule.ARI, error) { return schedule.ARI{}, errors.New("unavailable") }, 60 * day},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				s := newTestScheduler(t, dir, orderSucceeds)
				s.engine.lifetime, s.engine.ariResponse = tt.life, tt.info
				start := time.Now()
				s.runFor(t, tt.want+tt.life/10)
				got := s.engine.ordersSince(start)
				if len(got) != 2 || got[1] < tt.want-time.Second || got[1] > tt.want+schedule.CheckInterval(s.workers[0].get().cert.summary(), false) {
					t.Errorf("got orders at %v, want one at 0 and one at %v", got, tt.want)
				}
			})
		})
	}
}

// ariWindow returns an ARI response that proposes renewal at the given age of a
// certificate.
func ariWindow(age time.Duration) func(*Certificate) (schedule.ARI, error) {
	return func(s *Certificate) (schedule.ARI, error) {
		at := s.Leaf.NotBefore.Add(age)
		return schedule.ARI{Serial: s.Serial(), At: at, From: at, To: at, RefreshAfter: time.Now().Add(6 * time.Hour)}, nil
	}
}

// ARI that always proposes renewal now does not cause an order at each check.
func TestARIAlwaysDue(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newTestScheduler(t, dir, orderSucceeds)
		s.engine.ariResponse = ariWindow(-time.Hour)
		start := time.Now()
		s.runFor(t, 50*time.Hour)
		if got, want := s.engine.ordersSince(start), minutes(0, 60, 7*60, 43*60); !slices.Equal(got, want) {
			t.Errorf("got orders at %v, want %v", got, want)
		}
	})
}

func TestFallbackCA(t *testing.T) {
	for name, onOrder := range map[string]func(Order) (int, error){"unavailable": orderUnreachable, "rejected": orderRefused, "validation failed": orderFailsValidation} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				s := newTestScheduler(t, dir, nil)
				s.setCAs(s.Settings.CAs[0], &CAClient{URL: "fallback"})
				s.engine.setOnOrder(func(o Order) (int, error) {
					if o.CA.URL == "fallback" {
						return 0, nil
					}
					return onOrder(o)
				})
				s.runFor(t, time.Minute)
				if got := s.engine.orderCAs; len(got) < 2 || got[len(got)-1] != "fallback" || slices.Index(got, "fallback") != len(got)-1 {
					t.Errorf("got orders at %v, want the first CA and then the fallback CA once", got)
				}
			})
		})
	}
}

// No certificate is ordered while the schedule cannot be stored.
func TestNoOrderWithoutWritableState(t *testing.T) {
	file := t.TempDir() + "/file"
	tlstest.MustWriteFile(t, file, nil)
	for name, dir := range map[string]string{"none": "", "unusable": file} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newTestScheduler(t, dir, orderSucceeds)
				s.runFor(t, time.Hour)
				if got := s.engine.ordersSince(time.Now()); len(got) != 0 {
					t.Errorf("got %d orders, want none", len(got))
				}
				if got := s.log.Count("no certificate can be ordered"); got != 1 {
					t.Errorf("got the error logged %d times, want once:\n%s", got, s.log)
				}
				if s.err() == nil {
					t.Error("got no error in the state")
				}
			})
		})
	}
}

// A schedule written by a clock that was ahead does not block orders until that time.
// Its failed validations still count, because their real times are unknown.
func TestClockWasAhead(t *testing.T) {
	for _, ahead := range []time.Duration{24 * time.Hour, 5 * 365 * 24 * time.Hour} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			s := newTestScheduler(t, dir, orderSucceeds)
			future := time.Now().Add(ahead)
			s.store(t, schedule.State{LastAttempt: future, NextAttempt: future.Add(schedule.FailureBackoffMin), RetryAfter: future,
				FailedValidations: []time.Time{future, future, future, future}})
			start := time.Now()
			s.runFor(t, 2*time.Hour)
			if got := s.engine.ordersSince(start); !slices.Equal(got, minutes(60)) {
				t.Errorf("%v ahead: got orders at %v, want one after an hour", ahead, got)
			}
			if n := s.log.Count("the clock was ahead"); n != 1 {
				t.Errorf("%v ahead: got the repair logged %d times, want once:\n%s", ahead, n, s.log)
			}
		})
	}
}

// Two schedulers on one directory order once, and both load the certificate.
func TestTwoSchedulersOrderOnce(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		one, two := newTestScheduler(t, dir, nil), newTestScheduler(t, dir, nil)
		two.engine.certs = one.engine.certs
		slow := func(Order) (int, error) { time.Sleep(3 * time.Second); return 0, nil }
		one.engine.setOnOrder(slow)
		two.engine.setOnOrder(slow)
		two.scheduler.engine = one.engine // the storage and its lock are shared
		var both sync.WaitGroup
		both.Go(func() { one.runFor(t, time.Minute) })
		both.Go(func() { two.runFor(t, time.Minute) })
		both.Wait()
		if got := one.engine.ordersSince(time.Now()); len(got) != 1 {
			t.Errorf("got %d orders, want 1", len(got))
		}
		for _, s := range []*testScheduler{one, two} {
			if cert := s.served(); cert == nil {
				t.Error("a scheduler did not load the certificate")
			}
		}
	})
}

// The schedule is read again under the lock, because another process can have made an
// order that failed since the first read.
func TestScheduleIsRereadUnderLock(t *testing.T) {
	s := newTestScheduler(t, t.TempDir(), orderSucceeds)
	s.store(t, schedule.State{NextAttempt: time.Now().Add(time.Hour)})
	if wait := s.attempt(t.Context(), s.workers[0]); wait != 0 || len(s.engine.orderTimes) != 0 {
		t.Errorf("got %d orders and wait %v, want no order and an immediate check", len(s.engine.orderTimes), wait)
	}
}

func TestRunEndsWhileEngineHangs(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		unblock := make(chan struct{})
		s := newTestScheduler(t, dir, func(Order) (int, error) { <-unblock; return 0, nil })
		start := time.Now()
		s.runFor(t, time.Minute)
		if took := time.Since(start); took > time.Minute+ShutdownTimeout {
			t.Errorf("run returned after %v, want at most %v after its context ended", took, ShutdownTimeout)
		}
		close(unblock)
	})
}

// While the schedule cannot be stored, the certificate is not renewed. Reminders are
// logged over the last third of its lifetime and after it has expired.
func TestOverdueRenewalIsLogged(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	tlstest.MustWriteFile(t, file, nil)
	synctest.Test(t, func(t *testing.T) {
		s := newTestScheduler(t, file, orderSucceeds)
		s.engine.certs[testName] = &Certificate{s.engine.makeCert(testName, 3*time.Hour), s.Settings.CAs[0]}
		s.runFor(t, 119*time.Minute)
		if n := s.log.Count("not renewed"); n != 0 {
			t.Errorf("before renewal is due: got %d reminders, want none:\n%s", n, s.log)
		}
		s.runFor(t, 60*time.Minute)
		if n := s.log.Count("not renewed yet"); n < 9 || n > 11 {
			t.Errorf("in the last third: got %d reminders, want 9 to 11", n)
		}
		s.runFor(t, 30*time.Minute)
		if n := s.log.Count("has expired and is not renewed"); n < 4 || n > 6 {
			t.Errorf("after expiry: got %d reminders, want 4 to 6", n)
		}
	})
}

// With ARI, a renewal is overdue from the time that the CA suggests, and not when a third of
// the lifetime is left.
func TestOverdueRenewalByARI(t *testing.T) {
	for wantedAfter, want := range map[time.Duration]int{time.Hour: 14, 150 * time.Minute: 0} {
		dir := t.TempDir()
		file := filepath.Join(dir, "file")
		tlstest.MustWriteFile(t, file, nil)
		synctest.Test(t, func(t *testing.T) {
			s := newTestScheduler(t, file, orderSucceeds)
			s.engine.certs[testName] = &Certificate{s.engine.makeCert(testName, 3*time.Hour), s.Settings.CAs[0]}
			wantedAt := time.Now().Add(wantedAfter)
			s.engine.ariResponse = func(cert *Certificate) (schedule.ARI, error) {
				return schedule.ARI{Serial: cert.Serial(), At: wantedAt}, nil
			}
			s.runFor(t, 145*time.Minute)
			if n := s.log.Count("not renewed yet"); n < want || n > want+2 {
				t.Errorf("wanted after %v: got %d reminders in 145 minutes, want about %d", wantedAfter, n, want)
			}
		})
	}
}

// A stored certificate for another name, or an expired one, does not replace a valid
// certificate.
func TestWorseStoredCertificateIsIgnored(t *testing.T) {
	for name, ends := range map[string]time.Duration{"wrong.example": time.Hour, testName: -time.Hour} {
		s := newTestScheduler(t, t.TempDir(), orderSucceeds)
		s.engine.certs[testName] = &Certificate{s.engine.makeCert(testName, time.Hour), s.Settings.CAs[0]}
		s.loadCertificate(t.Context(), s.workers[0], "")
		good := s.served()
		chain, key := tlstest.MakePair(t, name, time.Now().Add(-2*time.Hour), time.Now().Add(ends))
		worse, err := tls.X509KeyPair(chain, key)
		if err != nil {
			t.Fatal(err)
		}
		s.engine.certs[testName] = &Certificate{&worse, s.Settings.CAs[0]}
		s.loadCertificate(t.Context(), s.workers[0], "")
		if got := s.served(); got != good {
			t.Errorf("stored for %s, expiring in %v: got certificate for %v until %v, want the valid one", name, ends, certs.Names(got.Leaf), got.Leaf.NotAfter)
		}
	}
}

// A forced renewal wakes the worker of each name.
func TestForceRenewalWakesWorker(t *testing.T) {
	s := newTestScheduler(t, t.TempDir(), orderSucceeds)
	s.forceRenewal()
	select {
	case <-s.workers[0].wake:
	default:
		t.Error("the worker was not woken")
	}
}
