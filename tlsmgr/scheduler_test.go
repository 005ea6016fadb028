package tlsmgr

import (
	"errors"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestOrderSchedule(t *testing.T) {
	tlsALPNOnly := []challengeType{{tlsALPN01, 1}}
	for _, tt := range []struct {
		name   string
		answer func(order) (int, error)
		doors  []challengeType
		run    time.Duration
		want   []time.Duration
	}{
		{"not made: five seconds, doubling to five minutes", orderUnreachable, tlsALPNOnly, 21 * time.Minute,
			seconds(0, 5, 15, 35, 75, 155, 315, 615, 915, 1215)},
		{"refused: a quarter of an hour, doubling to six hours", orderRefused, tlsALPNOnly, 14 * time.Hour,
			minutes(0, 15, 45, 105, 225, 465, 825)},
		{"not validated: both doors, then the floor", orderFailsValidation, []challengeType{{tlsALPN01, 1}, {http01, 1}}, 119 * time.Minute,
			minutes(0, 0, 15, 15, 60, 60)},
		{"not validated over one door", orderFailsValidation, tlsALPNOnly, 4 * time.Hour, minutes(0, 15, 45, 105, 225)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				s := newTestScheduler(t, dir, tt.answer)
				s.engine.challengeTypeList = tt.doors
				start := time.Now()
				s.runFor(t, tt.run)
				if got := s.engine.ordersSince(start); !slices.Equal(got, tt.want) {
					t.Errorf("orders at\n%v, want\n%v", got, tt.want)
				}
			})
		})
	}
}

// An authority whose certificates live for minutes was away when one was due:
// what is left of it is enough to have the next in time.
func TestShortLivedCertificateSurvivesOutage(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newTestScheduler(t, dir, orderSucceeds)
		s.engine.lifetime = 6 * time.Minute
		start := time.Now()
		s.engine.setOnOrder(func(order) (int, error) {
			if elapsed := time.Since(start); elapsed > 4*time.Minute-10*time.Second && elapsed < 4*time.Minute+90*time.Second {
				return 0, errors.New("connection refused")
			}
			return 0, nil
		})
		s.runFor(t, 6*time.Minute)
		if left := s.workers[0].remaining(start.Add(6 * time.Minute)); left == 0 {
			t.Errorf("asked at %v, and the certificate has ended although the authority was back for half a minute", s.engine.ordersSince(start))
		}
		if n := len(s.engine.ordersSince(start)); n > 15 {
			t.Errorf("asked %d times, want no more than a quarter of what is left between two", n)
		}
	})
}

// One that was away for longer than a certificate lives is asked as often after
// its end as its life is short.
func TestRetryIntervalAfterExpiry(t *testing.T) {
	for life, most := range map[time.Duration]time.Duration{24 * time.Second: 6 * time.Second, 6 * time.Minute: 90 * time.Second, 90 * 24 * time.Hour: unavailableBackoffMax} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			s := newTestScheduler(t, dir, orderSucceeds)
			s.engine.lifetime = life
			start := time.Now()
			s.runFor(t, life/2)
			s.engine.setOnOrder(orderUnreachable)
			s.runFor(t, life/2+time.Hour)
			asked := s.engine.ordersSince(start)
			if got := asked[len(asked)-1] - asked[len(asked)-2]; got > most+2*time.Second || got < most/2 {
				t.Errorf("a life of %v: after its end the authority was asked again after %v, want %v", life, got, most)
			}
		})
	}
}

// However the answers come, however often a process is killed or urged: no
// more than four validations fail in any hour.
func TestFailedValidationBudget(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var failed []time.Time
		onOrder := func(o order) (int, error) {
			for range o.challengeType.validations {
				failed = append(failed, time.Now())
			}
			return orderFailsValidation(o)
		}
		for range 400 {
			s := newTestScheduler(t, dir, onOrder)
			s.forceRenewAll()
			s.runFor(t, 50*time.Second)
			s.forceRenewAll()
		}
		if len(failed) < 8 {
			t.Errorf("%d validations in five hours, want the name not to be given up", len(failed))
		}
		for i := maxFailedValidations; i < len(failed); i++ {
			if within := failed[i].Sub(failed[i-maxFailedValidations]); within < failedValidationWindow {
				t.Errorf("validations %d to %d failed within %v, want an hour", i-maxFailedValidations, i, within)
			}
		}
	})
}

// A process that dies in the middle of an order has recorded the worst.
func TestCrashIsRecordedAsFailure(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var during scheduleState
		s := newTestScheduler(t, dir, nil)
		s.engine.setOnOrder(func(o order) (int, error) {
			sched, err := s.schedules.read(testName, time.Now())
			if err != nil {
				t.Error(err)
			}
			during = *sched
			return 0, nil
		})
		start := time.Now()
		s.runFor(t, time.Second)
		if want := start.Add(failureBackoffMin); !during.NextAttempt.Equal(want) || len(during.FailedValidations) != 1 {
			t.Errorf("recorded during the order: %+v, want the next at %v and one validation", during, want)
		}
		sched, err := s.schedules.read(testName, time.Now())
		if err != nil || len(sched.FailedValidations) != 0 {
			t.Errorf("recorded afterwards: %+v, %v; want no validation", sched, err)
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
			t.Errorf("orders over 42 restarts at %v, want %v", orderTimes, want)
		}
	})
}

func TestRetryAfterIsMinimumDelay(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newTestScheduler(t, dir, func(order) (int, error) {
			return 0, &orderError{retryAfter: 20 * time.Minute, err: errors.New("429")}
		})
		start := time.Now()
		s.runFor(t, 10*time.Minute)
		s.forceRenewAll()
		s.runFor(t, 55*time.Minute)
		if got, want := s.engine.ordersSince(start), minutes(0, 20, 40, 60); !slices.Equal(got, want) {
			t.Errorf("orders at %v, want %v", got, want)
		}
	})
}

// A person who urges is heard, but not each second.
func TestForcedRenewal(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newTestScheduler(t, dir, orderRefused)
		start := time.Now()
		var running sync.WaitGroup
		running.Go(func() { s.runFor(t, 5*time.Minute) })
		time.Sleep(10 * time.Second)
		for range 20 {
			s.forceRenewAll()
			time.Sleep(time.Second)
		}
		running.Wait()
		if got, want := s.engine.ordersSince(start), minutes(0, 1); !slices.Equal(got, want) {
			t.Errorf("orders at %v, want %v", got, want)
		}
	})
}

func TestRenewalTimes(t *testing.T) {
	const day = 24 * time.Hour
	for _, tt := range []struct {
		name string
		life time.Duration
		info func(*stored) (renewalInfo, error)
		want time.Duration
	}{
		{"90 days, without information", 90 * day, nil, 60 * day},
		{"6 days", 6 * day, nil, 4 * day},
		{"a minute", time.Minute, nil, 40 * time.Second},
		{"the authority proposes earlier", 90 * day, ariWindow(10 * day), 10 * day},
		{"the authority proposes later", 90 * day, ariWindow(70 * day), 70 * day},
		{"the authority proposes too late", 90 * day, ariWindow(89 * day), 75 * day},
		{"the authority is not reached", 90 * day, func(*stored) (renewalInfo, error) { return renewalInfo{}, errors.New("away") }, 60 * day},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				s := newTestScheduler(t, dir, orderSucceeds)
				s.engine.lifetime, s.engine.ariResponse = tt.life, tt.info
				start := time.Now()
				s.runFor(t, tt.want+tt.life/10)
				got := s.engine.ordersSince(start)
				if len(got) != 2 || got[1] < tt.want-time.Second || got[1] > tt.want+s.checkInterval(s.workers[0]) {
					t.Errorf("orders at %v, want one at 0 and one at %v", got, tt.want)
				}
			})
		})
	}
}

// ariWindow is what an authority says that wants certificates renewed at an age.
func ariWindow(age time.Duration) func(*stored) (renewalInfo, error) {
	return func(s *stored) (renewalInfo, error) {
		at := s.Leaf.NotBefore.Add(age)
		return renewalInfo{Serial: serial(s.Leaf), At: at, From: at, To: at, RefreshAfter: time.Now().Add(6 * time.Hour)}, nil
	}
}

// An authority that always says «now» does not get an order at each look.
func TestARIAlwaysDue(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newTestScheduler(t, dir, orderSucceeds)
		s.engine.ariResponse = ariWindow(-time.Hour)
		start := time.Now()
		s.runFor(t, 50*time.Hour)
		if got, want := s.engine.ordersSince(start), minutes(0, 60, 7*60, 43*60); !slices.Equal(got, want) {
			t.Errorf("orders at %v, want %v", got, want)
		}
	})
}

func TestFallbackCA(t *testing.T) {
	for name, onOrder := range map[string]func(order) (int, error){"unreachable": orderUnreachable, "declined": orderRefused, "unproved": orderFailsValidation} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				s := newTestScheduler(t, dir, nil)
				s.settings.cas = append(s.settings.cas, &caClient{url: "second"})
				s.engine.setOnOrder(func(o order) (int, error) {
					if o.ca.url == "second" {
						return 0, nil
					}
					return onOrder(o)
				})
				s.runFor(t, time.Minute)
				if got := s.engine.orderCAs; len(got) < 2 || got[len(got)-1] != "second" || slices.Index(got, "second") != len(got)-1 {
					t.Errorf("asked %v, want the first and then, once, the second", got)
				}
			})
		})
	}
}

// Nothing is ordered that cannot be recorded.
func TestNoOrderWithoutWritableState(t *testing.T) {
	file := t.TempDir() + "/file"
	mustWriteFile(t, file, nil)
	for name, dir := range map[string]string{"none": "", "unusable": file} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newTestScheduler(t, dir, orderSucceeds)
				s.runFor(t, time.Hour)
				if got := s.engine.ordersSince(time.Now()); len(got) != 0 {
					t.Errorf("%d orders, want none", len(got))
				}
				if got := s.log.count("no certificate can be ordered"); got != 1 {
					t.Errorf("logged %d times, want once:\n%s", got, s.log)
				}
				if s.workers[0].getState().lastErr == nil {
					t.Error("State has no problem")
				}
			})
		})
	}
}

// A clock that was ahead must not silence a name for as long, nor may its mending
// make the name forget what failed: how long ago that was is not known any more.
func TestClockWasAhead(t *testing.T) {
	for _, ahead := range []time.Duration{24 * time.Hour, 5 * 365 * 24 * time.Hour} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			s := newTestScheduler(t, dir, orderSucceeds)
			future := time.Now().Add(ahead)
			err := s.schedules.write(t.Context(), testName, &scheduleState{LastAttempt: future, NextAttempt: future.Add(failureBackoffMin), RetryAfter: future,
				FailedValidations: []time.Time{future, future, future, future}})
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			s.runFor(t, 2*time.Hour)
			if got := s.engine.ordersSince(start); !slices.Equal(got, minutes(60)) {
				t.Errorf("%v ahead: orders at %v, want one after the hour of the floor", ahead, got)
			}
			if n := s.log.count("the clock was ahead"); n != 1 {
				t.Errorf("%v ahead: logged %d times, want once:\n%s", ahead, n, s.log)
			}
		})
	}
}

// Two supervisors on one directory order once; both take the certificate up.
func TestTwoSchedulersOrderOnce(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		one, two := newTestScheduler(t, dir, nil), newTestScheduler(t, dir, nil)
		two.engine.certs = one.engine.certs
		slow := func(order) (int, error) { time.Sleep(3 * time.Second); return 0, nil }
		one.engine.setOnOrder(slow)
		two.engine.setOnOrder(slow)
		two.scheduler.engine = one.engine // the store is shared, and its lock
		var both sync.WaitGroup
		both.Go(func() { one.runFor(t, time.Minute) })
		both.Go(func() { two.runFor(t, time.Minute) })
		both.Wait()
		if got := one.engine.ordersSince(time.Now()); len(got) != 1 {
			t.Errorf("%d orders, want 1", len(got))
		}
		for _, s := range []*testScheduler{one, two} {
			if cert, _ := s.certs.pick(testName, time.Now()); cert == nil {
				t.Error("a supervisor did not take the certificate up")
			}
		}
	})
}

// Between the reading of the record and the lock another process may have
// ordered, and failed.
func TestScheduleIsRereadUnderLock(t *testing.T) {
	s := newTestScheduler(t, t.TempDir(), orderSucceeds)
	if err := s.schedules.write(t.Context(), testName, &scheduleState{NextAttempt: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if wait := s.attempt(t.Context(), s.workers[0], false); wait != 0 || len(s.engine.orderTimes) != 0 {
		t.Errorf("%d orders and a wait of %v, want none, and another look", len(s.engine.orderTimes), wait)
	}
}

func TestRunEndsWhileEngineHangs(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		unblock := make(chan struct{})
		s := newTestScheduler(t, dir, func(order) (int, error) { <-unblock; return 0, nil })
		start := time.Now()
		s.runFor(t, time.Minute)
		if took := time.Since(start); took > time.Minute+shutdownTimeout {
			t.Errorf("run ended after %v, want %v after its context", took, shutdownTimeout)
		}
		close(unblock)
	})
}

// A directory that takes no records keeps a name from being renewed. That is
// said when it begins, and over the last third of the certificate's life.
func TestOverdueRenewalIsLogged(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	mustWriteFile(t, file, nil)
	synctest.Test(t, func(t *testing.T) {
		s := newTestScheduler(t, file, orderSucceeds)
		s.engine.certs[testName] = &stored{s.engine.makeCert(testName, 3*time.Hour), s.settings.cas[0]}
		s.runFor(t, 119*time.Minute)
		if n := s.log.count("not renewed"); n != 0 {
			t.Errorf("%d reminders while nothing is due:\n%s", n, s.log)
		}
		s.runFor(t, 60*time.Minute)
		if n := s.log.count("not renewed yet"); n < 9 || n > 11 {
			t.Errorf("%d reminders in the last third, want one in each thirtieth", n)
		}
		s.runFor(t, 30*time.Minute)
		if n := s.log.count("has ended and is not renewed"); n < 4 || n > 6 {
			t.Errorf("%d reminders after the end", n)
		}
	})
}
