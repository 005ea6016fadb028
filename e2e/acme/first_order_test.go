package acme

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"testing"
	"time"

	"inbox/tlsmgr"
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

// Two keys for external account binding.
const (
	eabKey      = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
	otherEABKey = "b10lLJs8l1GPIzsLP0s6pMt8O0XVGnfTaCeROxQM0BIt2XrJMDHJZBM5NuQmQJQH"
)

// configEAB is config with external account binding.
func (r *rig) configEAB(name, id, key string) tlsmgr.Config {
	c := r.config(name)
	c.ACME.CA.EABKeyID, c.ACME.CA.EABKeyFile = id, filepath.Join(r.t.TempDir(), "mac")
	writeFile(r.t, c.ACME.CA.EABKeyFile, []byte(key+"\n"))
	return c
}

func TestExternalAccountBinding(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		r, name := newRig(t, pebbleOptions{eab: map[string]string{"kid-1": eabKey}}).with(engine), newName()
		r.serve(r.configEAB(name, "kid-1", eabKey)).waitForCert(waitTimeout, name)
	})
}

func TestWrongAccountKeyReportsCAError(t *testing.T) {
	t.Parallel()
	key := base64.RawURLEncoding.EncodeToString([]byte("not the key that the CA knows"))
	r, name := newRig(t, pebbleOptions{eab: map[string]string{"kid-1": eabKey}}), newName()
	s := r.serve(r.configEAB(name, "kid-1", key))
	eventually(t, waitTimeout, "the state contains the failure", func() bool { return s.state(name).Failures == 1 })
	if !s.log.has("the CA says: unauthorized") {
		t.Error("the log does not contain the error of the CA")
	}
	if wait := time.Until(s.state(name).NextAttempt); wait < 14*time.Minute {
		t.Errorf("got the next attempt in %v, want 15 minutes at least", wait)
	}
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
