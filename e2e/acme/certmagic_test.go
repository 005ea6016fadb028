package acme

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"inbox/tlsmgr"
)

// An address is certified over either door, with the short-lived profile that
// the authority lists, and shown to a client that sends no name.
func TestIPAddressCertificate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, addr string
		change     func(*tlsmgr.ACME)
	}{
		{"over TLS", "127.0.0.1", func(a *tlsmgr.ACME) { a.NoHTTP = true }},
		{"over HTTP", "127.0.0.2", func(a *tlsmgr.ACME) { a.NoTLS = true; a.ListenHost = "" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, pebbleOptions{profiles: map[string]time.Duration{"classic": 48 * time.Hour, "shortlived": time.Hour}})
			c := r.config(tt.addr)
			tt.change(&c.ACME)
			s := &testServer{t: t, rig: r, log: new(logBuffer), host: tt.addr}
			s.serve(c)
			eventually(t, waitTimeout, "the address is certified", func() bool { return s.state(tt.addr).Source == "acme" })
			leaf := s.verifiedCert(tt.addr)
			if life := leaf.NotAfter.Sub(leaf.NotBefore); life > 2*time.Hour {
				t.Errorf("the certificate lives %v, want the short-lived profile", life)
			}
		})
	}
}

// verifiedCert connects as to an address: without a name, checked against the root.
func (s *testServer) verifiedCert(addr string) *x509.Certificate {
	s.t.Helper()
	conn, err := tls.Dial("tcp", s.addr(s.rig.tlsPort), &tls.Config{RootCAs: s.rig.ca.issuerRoots, ServerName: addr})
	if err != nil {
		s.t.Fatalf("connect to the address: %v", err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

func TestProfile(t *testing.T) {
	t.Parallel()
	r := newRig(t, pebbleOptions{profiles: map[string]time.Duration{"classic": 48 * time.Hour, "other": 2 * time.Hour}})
	name := newName()
	c := r.config(name)
	c.ACME.Profile = "other"
	s := r.serve(c)
	s.waitForCert(waitTimeout, name)
	leaf, err := s.servedCert(name)
	if err != nil {
		t.Fatal(err)
	}
	if life := leaf.NotAfter.Sub(leaf.NotBefore); life > 3*time.Hour {
		t.Errorf("the certificate lives %v, want the two hours of the profile", life)
	}
}

// The second authority certifies when the first is silent, closed or refuses;
// a silent one costs no more than ten seconds.
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
			second := newPebble(t, pebbleOptions{httpPort: r.httpPort, tlsPort: r.tlsPort, nameserver: r.names.addr})
			name := newName()
			c := r.config(name)
			c.ACME.FallbackCA = tlsmgr.CA{URL: second.url(), RootsFile: second.serverRootFile}
			breakFirst(r)
			s := r.serve(c)
			eventually(t, waitTimeout, "the second authority certifies", func() bool { return s.state(name).Source == "acme" })
			if second.orders() != 1 {
				t.Errorf("%d orders at the second authority, want 1", second.orders())
			}
			s.stop()
			again := r.serve(c)
			if got := again.state(name); got.Source != "acme" {
				t.Errorf("after a restart State = %+v, want the kept certificate", got)
			}
		})
	}
}

// The second authority gives two days while the first is away, and then wants
// its certificate back. The first gives one that ends much sooner: it serves all
// the same, and nothing is ordered but its renewals.
func TestShorterLivedCertificateOfPrimaryCA(t *testing.T) {
	t.Parallel()
	r := newRig(t, pebbleOptions{validity: 24 * time.Second})
	second := newPebble(t, pebbleOptions{validity: 48 * time.Hour, httpPort: r.httpPort, tlsPort: r.tlsPort, nameserver: r.names.addr})
	name := newName()
	c := r.config(name)
	c.ACME.FallbackCA = tlsmgr.CA{URL: second.url(), RootsFile: second.serverRootFile}
	r.ca.close()
	s := r.serve(c)
	eventually(t, waitTimeout, "the second authority certifies", func() bool { return s.state(name).Source == "acme" })
	old, err := s.servedCert(name)
	if err != nil {
		t.Fatal(err)
	}
	r.ca.listen()
	second.setRenewalWindow(old, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
	s.source.Reload()
	s.waitForCert(waitTimeout, name) // by the first
	eventually(t, 2*waitTimeout, "the first authority's certificate is renewed twice", func() bool { return s.state(name).Obtained >= 4 })
	began := time.Now()
	for range 5 {
		s.source.Reload()
		time.Sleep(time.Second) // the interval of looks, so that a wrong one would order
	}
	// Each renewal takes two thirds of a life; one more may be under way.
	most := 5 + int(time.Since(began)/(16*time.Second))
	if got, obtained := r.ca.orders()+second.orders(), s.state(name).Obtained; obtained > most || got > obtained+1 {
		t.Errorf("%d orders for %d certificates, want %d at most", got, obtained, most)
	}
	if got := second.orders(); got != 1 {
		t.Errorf("%d orders at the second authority, want 1", got)
	}
	s.stop()
	s.serve(c)
	s.waitForCert(waitTimeout, name) // and not by what the second gave, which is in force still
}

// Each certificate is wanted back as soon as it is there. However often the name
// is looked at, and the program told to reload or started anew, the authority
// sees two orders.
func TestNoOpRenewalsAreLimited(t *testing.T) {
	t.Parallel()
	r := newRig(t, pebbleOptions{validity: 48 * time.Hour})
	name := newName()
	s := r.serve(r.config(name))
	s.waitForCert(waitTimeout, name)
	makeDue := func(n int) {
		t.Helper()
		eventually(t, waitTimeout, "the renewal information was asked for", func() bool { return s.state(name).RenewAt.After(time.Now()) })
		leaf, err := s.servedCert(name)
		if err != nil {
			t.Fatal(err)
		}
		r.ca.setRenewalWindow(leaf, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
		s.source.Reload()
		eventually(t, waitTimeout, "the authority's wish is known", func() bool {
			return s.state(name).RenewAt.Before(time.Now()) || r.ca.orders() == n
		})
	}
	makeDue(2)
	eventually(t, waitTimeout, "it is replaced once", func() bool { return s.state(name).Obtained == 2 })
	makeDue(3)
	for range 3 {
		s.stop()
		s = r.serve(r.config(name))
		for range 3 {
			s.source.Reload()
			time.Sleep(300 * time.Millisecond) // so that a wrong one would have the time to order
		}
	}
	if got := r.ca.orders(); got != 2 {
		t.Errorf("%d orders, want 2", got)
	}
	if got := s.state(name); got.RenewAt.After(time.Now()) || time.Until(got.NextAttempt) < 4*time.Hour {
		t.Errorf("State = %+v, want a name that is due, and a rest of hours", got)
	}
}

// A certificate that the authority revokes is announced through its renewal
// information, and replaced once that is asked for.
func TestRevokedCertificateIsReplaced(t *testing.T) {
	t.Parallel()
	r := newRig(t, pebbleOptions{validity: 48 * time.Hour})
	name := newName()
	s := r.serve(r.config(name))
	s.waitForCert(waitTimeout, name)
	leaf, err := s.servedCert(name)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, waitTimeout, "the renewal information was asked for", func() bool { return s.state(name).RenewAt.After(time.Now()) })
	r.ca.setRenewalWindow(leaf, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
	s.source.Reload()
	eventually(t, waitTimeout, "the certificate is replaced", func() bool {
		now, err := s.servedCert(name)
		return err == nil && !now.Equal(leaf)
	})
	if !s.log.has("wants the certificate replaced at once") {
		t.Error("the log does not say why")
	}
	// The new one is not due, so nothing more is ordered.
	s.source.Reload()
	s.source.Reload()
	eventually(t, waitTimeout, "the new one is not due", func() bool { return s.state(name).Status == "renewal is not due" })
	if got := r.ca.orders(); got != 2 {
		t.Errorf("%d orders, want 2", got)
	}
	if got := r.ca.requestCount("replaces"); got != 1 {
		t.Errorf("%d orders say what they replace, want 1", got)
	}
}
