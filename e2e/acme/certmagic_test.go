package acme

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"inbox/tlsmgr/acme"
)

// Either challenge type obtains a certificate for an IP address, with the short-lived
// profile that the CA lists. It is served to clients that send no server name.
func TestIPAddressCertificate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, addr string
		change     func(*acme.Config)
	}{
		{"tls-alpn-01", "127.0.0.1", func(a *acme.Config) { a.NoHTTP = true }},
		{"http-01", "127.0.0.2", func(a *acme.Config) { a.NoTLS = true; a.ListenHost = "" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, pebbleOptions{profiles: map[string]time.Duration{"classic": 48 * time.Hour, "shortlived": time.Hour}})
			c := r.config(tt.addr)
			tt.change(&c.ACME)
			s := &testServer{t: t, rig: r, log: new(logBuffer), host: tt.addr}
			s.serve(c)
			eventually(t, waitTimeout, "the address has a certificate of the CA", func() bool { return s.state(tt.addr).Source == "acme" })
			leaf := s.verifiedCert(tt.addr)
			if life := leaf.NotAfter.Sub(leaf.NotBefore); life > 2*time.Hour {
				t.Errorf("got a certificate lifetime of %v, want that of the short-lived profile", life)
			}
		})
	}
}

// verifiedCert connects without a server name and verifies the certificate for the
// address.
func (s *testServer) verifiedCert(addr string) *x509.Certificate {
	s.t.Helper()
	conn, err := tls.Dial("tcp", s.addr(s.rig.tlsPort), &tls.Config{RootCAs: s.rig.ca.issuerRoots, ServerName: addr})
	if err != nil {
		s.t.Fatalf("connect to %s: %v", addr, err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

func TestProfile(t *testing.T) {
	t.Parallel()
	r, name := newRig(t, pebbleOptions{profiles: map[string]time.Duration{"classic": 48 * time.Hour, "other": 2 * time.Hour}}), newName()
	c := r.config(name)
	c.ACME.Profile = "other"
	s := r.serve(c)
	s.waitForCert(waitTimeout, name)
	leaf, err := s.servedCert(name)
	if err != nil {
		t.Fatal(err)
	}
	if life := leaf.NotAfter.Sub(leaf.NotBefore); life > 3*time.Hour {
		t.Errorf("got a certificate lifetime of %v, want the two hours of the profile", life)
	}
}

// The fallback CA issues the certificate if the first CA is closed, hangs or refuses. A
// hanging CA delays the order by at most ten seconds.
func TestFallbackCA(t *testing.T) {
	t.Parallel()
	for name, breakFirst := range map[string]func(*rig){
		"first closed":  func(r *rig) { r.ca.close() },
		"first hanging": func(r *rig) { r.ca.mode.Store(modeHang) },
		"first refuses": func(r *rig) { r.ca.mode.Store(403) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, pebbleOptions{})
			fallback := r.newCA(pebbleOptions{})
			name := newName()
			c := r.config(name)
			c.ACME.FallbackCA = fallback.option()
			breakFirst(r)
			s := r.serve(c)
			eventually(t, waitTimeout, "the name has a certificate of the fallback CA", func() bool { return s.state(name).Source == "acme" })
			if fallback.orders() != 1 {
				t.Errorf("got %d orders at the fallback CA, want 1", fallback.orders())
			}
			s.stop()
			again := r.serve(c)
			if got := again.state(name); got.Source != "acme" {
				t.Errorf("after a restart: got state %+v, want the stored certificate", got)
			}
		})
	}
}

// While the first CA is unavailable, the fallback CA issues a certificate for two days. Its
// ARI then requests a renewal. The first CA issues a certificate that expires much sooner.
// The server must serve it, and order only its renewals.
func TestShorterLivedCertificateOfPrimaryCA(t *testing.T) {
	t.Parallel()
	r := newRig(t, pebbleOptions{validity: 24 * time.Second})
	fallback := r.newCA(pebbleOptions{validity: 48 * time.Hour})
	name := newName()
	c := r.config(name)
	c.ACME.FallbackCA = fallback.option()
	r.ca.close()
	s := r.serve(c)
	eventually(t, waitTimeout, "the name has a certificate of the fallback CA", func() bool { return s.state(name).Source == "acme" })
	r.ca.listen()
	s.makeDue(fallback, name)
	s.waitForCert(waitTimeout, name) // of the first CA
	eventually(t, 2*waitTimeout, "the certificate of the first CA is renewed twice", func() bool { return s.state(name).Obtained >= 4 })
	began := time.Now()
	for range 5 {
		s.source.Reload()
		time.Sleep(time.Second) // the check interval, so that there is time for an unwanted order
	}
	// A renewal is due after two thirds of the lifetime. One more can be in progress.
	most := 5 + int(time.Since(began)/(16*time.Second))
	if got, obtained := r.ca.orders()+fallback.orders(), s.state(name).Obtained; obtained > most || got > obtained+1 {
		t.Errorf("got %d orders for %d certificates, want at most %d", got, obtained, most)
	}
	if got := fallback.orders(); got != 1 {
		t.Errorf("got %d orders at the fallback CA, want 1", got)
	}
	s.stop()
	s.serve(c)
	s.waitForCert(waitTimeout, name) // not that of the fallback CA, which is still valid
}

// The ARI of the CA requests a renewal of each certificate at once. Despite reloads and
// restarts, the server makes only two orders.
func TestNoOpRenewalsAreLimited(t *testing.T) {
	t.Parallel()
	r, name := newRig(t, pebbleOptions{validity: 48 * time.Hour}), newName()
	s := r.serveCertified(name)
	makeDue := func(n int) {
		t.Helper()
		eventually(t, waitTimeout, "the renewal information is loaded", func() bool { return s.state(name).RenewAt.After(time.Now()) })
		s.makeDue(r.ca, name)
		eventually(t, waitTimeout, "the renewal is due, or made", func() bool {
			return s.state(name).RenewAt.Before(time.Now()) || r.ca.orders() == n
		})
	}
	makeDue(2)
	eventually(t, waitTimeout, "the certificate is replaced once", func() bool { return s.state(name).Obtained == 2 })
	makeDue(3)
	for range 3 {
		s.stop()
		s = r.serve(r.config(name))
		for range 3 {
			s.source.Reload()
			time.Sleep(300 * time.Millisecond) // time for an unwanted order
		}
	}
	if got := r.ca.orders(); got != 2 {
		t.Errorf("got %d orders, want 2", got)
	}
	if got := s.state(name); got.RenewAt.After(time.Now()) || time.Until(got.NextAttempt) < 4*time.Hour {
		t.Errorf("got state %+v, want a due renewal and the next attempt in 4 hours at least", got)
	}
}

// The CA announces a revocation through ARI. The server then replaces the certificate.
func TestRevokedCertificateIsReplaced(t *testing.T) {
	t.Parallel()
	r, name := newRig(t, pebbleOptions{validity: 48 * time.Hour}), newName()
	s := r.serveCertified(name)
	eventually(t, waitTimeout, "the renewal information is loaded", func() bool { return s.state(name).RenewAt.After(time.Now()) })
	s.renew(r.ca, name)
	if !s.log.has("requests immediate replacement") {
		t.Error("the log does not contain the reason")
	}
	// The new certificate is not due, so no further order is made.
	s.source.Reload()
	s.source.Reload()
	eventually(t, waitTimeout, "the renewal of the new certificate is not due", func() bool { return s.state(name).Status == "renewal is not due" })
	if got := r.ca.orders(); got != 2 {
		t.Errorf("got %d orders, want 2", got)
	}
	if got := r.ca.requestCount("replaces"); got != 1 {
		t.Errorf("got %d orders with a replaces field, want 1", got)
	}
}
