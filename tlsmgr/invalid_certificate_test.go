package tlsmgr

import (
	"crypto/tls"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// An authority can give what no client accepts. That is said, and neither taken
// up over what is good nor ordered again at once.
func TestInvalidCertificates(t *testing.T) {
	const hour = time.Hour
	now := time.Now
	for _, tt := range []struct {
		why  string
		make func(t *testing.T) *tls.Certificate
		say  string
	}{
		{"for another name", func(t *testing.T) *tls.Certificate { return tlsPair(t, "two.example", now(), now().Add(2000*hour)) }, "for other names"},
		{"that has not begun", func(t *testing.T) *tls.Certificate {
			return tlsPair(t, testName, now().Add(100*hour), now().Add(2000*hour))
		}, "not valid before"},
		{"that has ended", func(t *testing.T) *tls.Certificate {
			return tlsPair(t, testName, now().Add(-90*hour), now().Add(-hour))
		}, "expired on"},
		{"that ends before it begins", func(t *testing.T) *tls.Certificate {
			return tlsPair(t, testName, now().Add(-hour), now().Add(-90*hour))
		}, "expired on"},
	} {
		for _, first := range []bool{true, false} {
			name := tt.why + ", at a renewal"
			if first {
				name = tt.why + ", at first"
			}
			t.Run(name, func(t *testing.T) {
				dir := t.TempDir()
				synctest.Test(t, func(t *testing.T) { testInvalidCertificate(t, dir, tt.make, tt.say, first) })
			})
		}
	}
}

func testInvalidCertificate(t *testing.T, dir string, makeInvalid func(*testing.T) *tls.Certificate, wantText string, first bool) {
	s := newTestScheduler(t, dir, orderSucceeds)
	good := tlsPair(t, testName, time.Now().Add(-70*time.Hour), time.Now().Add(30*time.Hour))
	if !first {
		s.engine.certs[testName] = &stored{good, s.settings.cas[0]}
	}
	s.engine.makeCert = func(string, time.Duration) *tls.Certificate { return makeInvalid(t) }
	s.runFor(t, 3*time.Hour)
	if n := len(s.engine.orderTimes); n < 1 || n > 4 {
		t.Errorf("%d orders in three hours, want few", n)
	}
	if s.log.count("of no use") == 0 || s.log.count(wantText) == 0 {
		t.Errorf("the log does not say %q:\n%s", wantText, s.log)
	}
	if problem := s.workers[0].getState().lastErr; problem == nil || !strings.Contains(problem.Error(), wantText) {
		t.Errorf("the state's problem is %v, want one that says %q", problem, wantText)
	}
	if cert, _ := s.certs.pick(testName, time.Now()); !first && (cert == nil || !sameChain(cert, good)) {
		t.Error("the good certificate is served no more")
	}
}

// A certificate that had not begun is taken up when it has, and is no problem any more.
func TestCertificateBecomesValid(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newTestScheduler(t, dir, orderSucceeds)
		s.engine.makeCert = func(name string, life time.Duration) *tls.Certificate {
			return tlsPair(t, name, time.Now().Add(3*time.Minute), time.Now().Add(life))
		}
		old := tlsPair(t, testName, time.Now().Add(-70*time.Hour), time.Now().Add(30*time.Hour))
		s.engine.certs[testName] = &stored{old, s.settings.cas[0]}
		s.runFor(t, 30*time.Minute)
		cert, _ := s.certs.pick(testName, time.Now())
		if sameChain(cert, old) || len(s.engine.orderTimes) != 1 || s.workers[0].getState().lastErr != nil {
			t.Errorf("%d orders, problem %v, still the old one: %v", len(s.engine.orderTimes), s.workers[0].getState().lastErr, sameChain(cert, old))
		}
	})
}

// The text of an authority goes to logs and terminals.
func TestCAErrorsAreBounded(t *testing.T) {
	e := &orderError{err: errors.New("no\r\n\x1b[2J" + strings.Repeat("ä", 1<<20))}
	text := e.Error()
	if len(text) > maxErrorTextBytes+10 || strings.ContainsAny(text, "\r\n\x1b") {
		t.Errorf("%d bytes: %.40q", len(text), text)
	}
}

// An urge that has to wait does not have the authority asked at each look.
func TestForcedRenewalRunsOnce(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newTestScheduler(t, dir, orderSucceeds)
		ariRequests := 0
		s.engine.ariResponse = func(c *stored) (renewalInfo, error) { ariRequests++; return ariWindow(-time.Hour)(c) }
		for range 2 {
			s.runFor(t, 61*time.Minute) // two orders: the name rests for six hours
		}
		before := ariRequests
		s.forceRenewAll()
		s.runFor(t, 4*time.Hour)
		if got := ariRequests - before; got > 2 {
			t.Errorf("the authority was asked %d times when to renew, want once", got)
		}
	})
}
