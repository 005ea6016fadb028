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
func TestUselessCertificates(t *testing.T) {
	const hour = time.Hour
	now := time.Now
	for _, tt := range []struct {
		why  string
		make func(t *testing.T) *tls.Certificate
		say  string
	}{
		{"for another name", func(t *testing.T) *tls.Certificate { return pairIn(t, "two.example", now(), now().Add(2000*hour)) }, "for other names"},
		{"that has not begun", func(t *testing.T) *tls.Certificate {
			return pairIn(t, theName, now().Add(100*hour), now().Add(2000*hour))
		}, "begins only on"},
		{"that has ended", func(t *testing.T) *tls.Certificate {
			return pairIn(t, theName, now().Add(-90*hour), now().Add(-hour))
		}, "it ended on"},
		{"that ends before it begins", func(t *testing.T) *tls.Certificate {
			return pairIn(t, theName, now().Add(-hour), now().Add(-90*hour))
		}, "it ended on"},
	} {
		for _, first := range []bool{true, false} {
			name := tt.why + ", at a renewal"
			if first {
				name = tt.why + ", at first"
			}
			t.Run(name, func(t *testing.T) {
				dir := t.TempDir()
				synctest.Test(t, func(t *testing.T) { testUseless(t, dir, tt.make, tt.say, first) })
			})
		}
	}
}

func testUseless(t *testing.T, dir string, useless func(*testing.T) *tls.Certificate, say string, first bool) {
	s := newSupervised(t, dir, granted)
	good := pairIn(t, theName, time.Now().Add(-70*time.Hour), time.Now().Add(30*time.Hour))
	if !first {
		s.engine.store[theName] = &stored{good, s.settings.cas[0]}
	}
	s.engine.make = func(string, time.Duration) *tls.Certificate { return useless(t) }
	s.runFor(t, 3*time.Hour)
	if n := len(s.engine.asked); n < 1 || n > 4 {
		t.Errorf("%d orders in three hours, want few", n)
	}
	if s.log.count("of no use") == 0 || s.log.count(say) == 0 {
		t.Errorf("the log does not say %q:\n%s", say, s.log)
	}
	if problem := s.workers[0].getState().lastErr; problem == nil || !strings.Contains(problem.Error(), say) {
		t.Errorf("the state's problem is %v, want one that says %q", problem, say)
	}
	if cert, _ := s.certs.pick(theName, time.Now()); !first && (cert == nil || !sameChain(cert, good)) {
		t.Error("the good certificate is served no more")
	}
}

// A certificate that had not begun is taken up when it has, and is no problem any more.
func TestCertificateBegins(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newSupervised(t, dir, granted)
		s.engine.make = func(name string, life time.Duration) *tls.Certificate {
			return pairIn(t, name, time.Now().Add(3*time.Minute), time.Now().Add(life))
		}
		old := pairIn(t, theName, time.Now().Add(-70*time.Hour), time.Now().Add(30*time.Hour))
		s.engine.store[theName] = &stored{old, s.settings.cas[0]}
		s.runFor(t, 30*time.Minute)
		cert, _ := s.certs.pick(theName, time.Now())
		if sameChain(cert, old) || len(s.engine.asked) != 1 || s.workers[0].getState().lastErr != nil {
			t.Errorf("%d orders, problem %v, still the old one: %v", len(s.engine.asked), s.workers[0].getState().lastErr, sameChain(cert, old))
		}
	})
}

// The text of an authority goes to logs and terminals.
func TestErrorsOfAuthoritiesAreBounded(t *testing.T) {
	e := &orderError{err: errors.New("no\r\n\x1b[2J" + strings.Repeat("ä", 1<<20))}
	text := e.Error()
	if len(text) > maxErrorTextBytes+10 || strings.ContainsAny(text, "\r\n\x1b") {
		t.Errorf("%d bytes: %.40q", len(text), text)
	}
}

// An urge that has to wait does not have the authority asked at each look.
func TestUrgeIsHeardOnce(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newSupervised(t, dir, granted)
		questions := 0
		s.engine.info = func(c *stored) (renewalInfo, error) { questions++; return window(-time.Hour)(c) }
		for range 2 {
			s.runFor(t, 61*time.Minute) // two orders: the name rests for six hours
		}
		before := questions
		s.forceRenewAll()
		s.runFor(t, 4*time.Hour)
		if got := questions - before; got > 2 {
			t.Errorf("the authority was asked %d times when to renew, want once", got)
		}
	})
}
