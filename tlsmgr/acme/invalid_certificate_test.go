package acme

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"inbox/tlsmgr/acme/schedule"
	"inbox/tlsmgr/internal/certs"
	"inbox/tlsmgr/internal/tlstest"
)

// An issued certificate that clients do not accept is logged. It does not replace a valid
// one, and the next order waits.
func TestInvalidCertificates(t *testing.T) {
	const hour = time.Hour
	now := time.Now
	for _, tt := range []struct {
		why  string
		make func(t *testing.T) *tls.Certificate
		want string // in the log
	}{
		{"other name", func(t *testing.T) *tls.Certificate {
			return tlstest.TLSPair(t, "two.example", now(), now().Add(2000*hour))
		}, "for other names"},
		{"not yet valid", func(t *testing.T) *tls.Certificate {
			return tlstest.TLSPair(t, testName, now().Add(100*hour), now().Add(2000*hour))
		}, "not valid before"},
		{"expired", func(t *testing.T) *tls.Certificate {
			return tlstest.TLSPair(t, testName, now().Add(-90*hour), now().Add(-hour))
		}, "expired on"},
		{"expires before it is valid", func(t *testing.T) *tls.Certificate {
			return tlstest.TLSPair(t, testName, now().Add(-hour), now().Add(-90*hour))
		}, "expired on"},
		{"key that no client can use", func(t *testing.T) *tls.Certificate {
			key, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			cert, err := tls.X509KeyPair(tlstest.PairOf(t, key, testName, now().Add(-hour), now().Add(2000*hour)))
			if err != nil {
				t.Fatal(err)
			}
			return &cert
		}, "no client can use"},
	} {
		for _, first := range []bool{true, false} {
			name := tt.why + ", renewal"
			if first {
				name = tt.why + ", first order"
			}
			t.Run(name, func(t *testing.T) {
				dir := t.TempDir()
				synctest.Test(t, func(t *testing.T) { testInvalidCertificate(t, dir, tt.make, tt.want, first) })
			})
		}
	}
}

func testInvalidCertificate(t *testing.T, dir string, makeInvalid func(*testing.T) *tls.Certificate, wantText string, first bool) {
	s := newTestScheduler(t, dir, orderSucceeds)
	good := tlstest.TLSPair(t, testName, time.Now().Add(-70*time.Hour), time.Now().Add(30*time.Hour))
	if !first {
		s.engine.certs[testName] = &Certificate{good, s.Settings.CAs[0]}
	}
	s.engine.makeCert = func(string, time.Duration) *tls.Certificate { return makeInvalid(t) }
	s.runFor(t, 3*time.Hour)
	if n := len(s.engine.orderTimes); n < 1 || n > 4 {
		t.Errorf("got %d orders in three hours, want 1 to 4", n)
	}
	if s.log.Count("invalid certificate") == 0 || s.log.Count(wantText) == 0 {
		t.Errorf("want %q in the log:\n%s", wantText, s.log)
	}
	if err := s.err(); err == nil || !strings.Contains(err.Error(), wantText) {
		t.Errorf("got state error %v, want one containing %q", err, wantText)
	}
	if cert := s.served(); !first && (cert == nil || !certs.SameChain(cert, good)) {
		t.Error("the valid certificate is no longer served")
	}
}

// A certificate that is not yet valid is served once it is valid, and clears the error.
func TestCertificateBecomesValid(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newTestScheduler(t, dir, orderSucceeds)
		s.engine.makeCert = func(name string, life time.Duration) *tls.Certificate {
			return tlstest.TLSPair(t, name, time.Now().Add(3*time.Minute), time.Now().Add(life))
		}
		old := tlstest.TLSPair(t, testName, time.Now().Add(-70*time.Hour), time.Now().Add(30*time.Hour))
		s.engine.certs[testName] = &Certificate{old, s.Settings.CAs[0]}
		s.runFor(t, 30*time.Minute)
		cert := s.served()
		if certs.SameChain(cert, old) || len(s.engine.orderTimes) != 1 || s.err() != nil {
			t.Errorf("got %d orders, error %v, old certificate served %v, want 1, nil, false",
				len(s.engine.orderTimes), s.err(), certs.SameChain(cert, old))
		}
	})
}

// Error texts of a CA are limited in length and contain no control characters, since
// they reach logs and terminals.
func TestCAErrorsAreBounded(t *testing.T) {
	e := &OrderError{Err: errors.New("no\r\n\x1b[2J" + strings.Repeat("ä", 1<<20))}
	text := e.Error()
	if len(text) > maxErrorTextBytes+10 || strings.ContainsAny(text, "\r\n\x1b") {
		t.Errorf("got %d bytes, %.40q, want at most %d and no control characters", len(text), text, maxErrorTextBytes+10)
	}
}

// A forced renewal that must wait does not cause an ARI request at each check.
func TestForcedRenewalRunsOnce(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newTestScheduler(t, dir, orderSucceeds)
		ariRequests := 0
		s.engine.ariResponse = func(c *Certificate) (schedule.ARI, error) { ariRequests++; return ariWindow(-time.Hour)(c) }
		for range 2 {
			s.runFor(t, 61*time.Minute) // two orders: the next one is due after six hours
		}
		before := ariRequests
		s.forceRenewal()
		s.runFor(t, 4*time.Hour)
		if got := ariRequests - before; got > 2 {
			t.Errorf("got %d ARI requests after the forced renewal, want at most 2", got)
		}
	})
}
