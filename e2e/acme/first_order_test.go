package acme

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"testing"
	"time"

	"inbox/tlsmgr"
)

const waitTimeout = time.Minute

// Each door alone suffices; the other one leads to a port where nobody listens.
func TestFirstOrder(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, engine, door string
		change             func(*tlsmgr.ACME)
	}{
		{"certmagic over HTTP", tlsmgr.CertMagic, "http", func(a *tlsmgr.ACME) { a.NoTLS = true }},
		{"certmagic over TLS", tlsmgr.CertMagic, "tls", func(a *tlsmgr.ACME) { a.NoHTTP = true }},
		{"certmagic finds the HTTP door", tlsmgr.CertMagic, "http", func(*tlsmgr.ACME) {}},
		{"certmagic, both", tlsmgr.CertMagic, "both", func(*tlsmgr.ACME) {}},
		{"autocert finds the HTTP door", tlsmgr.Autocert, "http", func(*tlsmgr.ACME) {}},
		{"autocert over TLS", tlsmgr.Autocert, "tls", func(a *tlsmgr.ACME) { a.NoHTTP = true }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := pebbleOptions{}
			if tt.door == "http" {
				o.tlsPort = freePort(t)
			}
			if tt.door == "tls" {
				o.httpPort = freePort(t)
			}
			r := newRig(t, o)
			name := newName()
			c := r.config(name)
			c.ACME.Engine = tt.engine
			tt.change(&c.ACME)
			s := r.serve(c)
			s.waitForCert(waitTimeout, name)
			if got := s.state(name); got.Source != "acme" || got.Engine != tt.engine || got.LastError != nil {
				t.Errorf("State = %+v, want one from acme over %s without an error", got, tt.engine)
			}
		})
	}
}

func TestSeveralNames(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{tlsmgr.CertMagic, tlsmgr.Autocert} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, pebbleOptions{})
			names := []string{newName(), newName(), newName()}
			c := r.config(names...)
			c.ACME.Engine = engine
			s := r.serve(c)
			s.waitForCert(waitTimeout, names...)
			if got := r.ca.orders(); got != len(names) {
				t.Errorf("%d orders, want one for each of %d names", got, len(names))
			}
			if _, err := s.servedCert("other.example.test"); err == nil {
				t.Error("a name that is not configured was answered")
			}
		})
	}
}

func TestExternalAccountBinding(t *testing.T) {
	t.Parallel()
	const id, key = "kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
	for _, engine := range []string{tlsmgr.CertMagic, tlsmgr.Autocert} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, pebbleOptions{eab: map[string]string{id: key}})
			name := newName()
			c := r.config(name)
			c.ACME.Engine = engine
			c.ACME.CA.EABKeyID = id
			c.ACME.CA.EABKeyFile = filepath.Join(t.TempDir(), "mac")
			writeFile(t, c.ACME.CA.EABKeyFile, []byte(key+"\n"))
			r.serve(c).waitForCert(waitTimeout, name)
		})
	}
}

func TestWrongAccountKeyReportsCAError(t *testing.T) {
	t.Parallel()
	key := base64.RawURLEncoding.EncodeToString([]byte("not the key that the authority knows"))
	r := newRig(t, pebbleOptions{eab: map[string]string{"kid-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"}})
	name := newName()
	c := r.config(name)
	c.ACME.CA.EABKeyID = "kid-1"
	c.ACME.CA.EABKeyFile = filepath.Join(t.TempDir(), "mac")
	writeFile(t, c.ACME.CA.EABKeyFile, []byte(key))
	s := r.serve(c)
	eventually(t, waitTimeout, "the refusal is in State", func() bool { return s.state(name).Failures == 1 })
	if !s.log.has("the authority says: unauthorized") {
		t.Error("the log has not the authority's words")
	}
	if wait := time.Until(s.state(name).NextAttempt); wait < 14*time.Minute {
		t.Errorf("the next attempt is in %v, want a quarter of an hour", wait)
	}
}

// An authority that rejects nonces and fails now and then still certifies.
func TestBadNoncesAndServerErrors(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{tlsmgr.CertMagic, tlsmgr.Autocert} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, pebbleOptions{badNonces: "30"})
			r.ca.failEvery.Store(7)
			name := newName()
			c := r.config(name)
			c.ACME.Engine = engine
			r.serve(c).waitForCert(40*time.Second, name)
		})
	}
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
