package acme

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"inbox/tlsmgr/acme"
)

const waitTimeout = time.Minute

// One reachable port is sufficient. Connections of the CA to the other port are refused.
func TestFirstOrder(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, engine, reachable string
		change                  func(*acme.Config)
	}{
		{"certmagic, only http-01", "certmagic", "http", func(a *acme.Config) { a.NoTLS = true }},
		{"certmagic, only tls-alpn-01", "certmagic", "tls", func(a *acme.Config) { a.NoHTTP = true }},
		{"certmagic, HTTP port reachable", "certmagic", "http", func(*acme.Config) {}},
		{"certmagic, both ports reachable", "certmagic", "both", func(*acme.Config) {}},
		{"autocert, HTTP port reachable", "autocert", "http", func(*acme.Config) {}},
		{"autocert, only tls-alpn-01", "autocert", "tls", func(a *acme.Config) { a.NoHTTP = true }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := pebbleOptions{}
			if tt.reachable == "http" {
				o.tlsPort = freePort(t)
			}
			if tt.reachable == "tls" {
				o.httpPort = freePort(t)
			}
			r, name := newRig(t, o).with(tt.engine), newName()
			c := r.config(name)
			tt.change(&c.ACME)
			s := r.serve(c)
			s.waitForCert(waitTimeout, name)
			if got := s.state(name); got.Source != "acme" || got.Engine != tt.engine || got.LastError != nil {
				t.Errorf("got state %+v, want source acme, engine %s and no error", got, tt.engine)
			}
		})
	}
}

func TestSeveralNames(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		r := newRig(t, pebbleOptions{}).with(engine)
		names := []string{newName(), newName(), newName()}
		s := r.serveCertified(names...)
		if got := r.ca.orders(); got != len(names) {
			t.Errorf("got %d orders, want one for each of %d names", got, len(names))
		}
		if _, err := s.servedCert("other.example.test"); err == nil {
			t.Error("got a certificate for a name that is not configured, want an error")
		}
	})
}

// Rejected nonces and occasional server errors of the CA do not prevent a certificate.
func TestBadNoncesAndServerErrors(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		r := newRig(t, pebbleOptions{badNonces: "30"}).with(engine)
		r.ca.failEvery.Store(7)
		name := newName()
		r.serve(r.config(name)).waitForCert(40*time.Second, name)
	})
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
