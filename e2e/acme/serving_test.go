package acme

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"inbox/tlsmgr"
)

const selfSignedCN = "self-signed for tests"

// writeSelfSigned writes a certificate and its key, as an operator would.
func writeSelfSigned(t *testing.T, life time.Duration, names ...string) (cert, key string) {
	t.Helper()
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key")
	writePair(t, cert, key, life, names...)
	return cert, key
}

func writePair(t *testing.T, cert, key string, life time.Duration, names ...string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: selfSignedCN},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life), DNSNames: names,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	writeFile(t, key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

// startTraffic requests the page continuously, over new connections and over one that is
// kept alive. stopTraffic returns the number of requests. A failed request fails the test.
func (s *testServer) startTraffic(name string) (stopTraffic func() int64) {
	stop := make(chan struct{})
	var requests atomic.Int64
	var clients sync.WaitGroup
	for i := range 3 {
		client := s.client()
		client.Transport.(*http.Transport).DisableKeepAlives = i > 0
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(10 * time.Millisecond):
				}
				if err := s.get(client, name); err != nil {
					s.t.Errorf("request: %v", err)
					return
				}
				requests.Add(1)
			}
		})
	}
	return func() int64 { close(stop); clients.Wait(); return requests.Load() }
}

// The lifetimes leave 15 seconds between renewal and expiry, which a busy machine needs.
func TestRenewalUnderTraffic(t *testing.T) {
	t.Parallel()
	for engine, life := range map[string]time.Duration{"certmagic": time.Minute, "autocert": 48 * time.Second} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			r, name := newRig(t, pebbleOptions{validity: life}).with(engine), newName()
			s := r.serveCertified(name)
			before := s.state(name)
			stopTraffic := s.startTraffic(name)
			eventually(t, life, "the certificate is renewed", func() bool { return s.state(name).Fingerprint != before.Fingerprint })
			eventually(t, life, "the first certificate expires", func() bool { return time.Now().After(before.NotAfter) })
			requests := stopTraffic()
			if requests < 100 {
				t.Errorf("got %d requests, want 100 at least", requests)
			}
			t.Logf("%d requests during a renewal", requests)
			// One more order can be in progress.
			if got, obtained := r.ca.orders(), s.state(name).Obtained; obtained < 2 || got > obtained+1 {
				t.Errorf("got %d orders for %d certificates, want one for each of at least two", got, obtained)
			}
		})
	}
}

// While the CA is unavailable, the server uses the certificate files. When the CA is
// available again, its certificate replaces them without a restart.
func TestCAUnavailableAtFirstOrder(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		r := newRig(t, pebbleOptions{}).with(engine)
		r.ca.close()
		name := newName()
		c := r.config(name)
		c.CertFile, c.KeyFile = writeSelfSigned(t, time.Hour, "*.example.test")
		s := r.serve(c)
		eventually(t, waitTimeout, "the state contains the failure", func() bool { return s.state(name).LastError != nil })
		if got := s.state(name); got.Source != "file" || time.Until(got.NextAttempt) > time.Minute {
			t.Errorf("got state %+v, want source file and the next attempt within a minute", got)
		}
		if leaf, err := s.servedCert(name); err != nil || leaf.Subject.CommonName != selfSignedCN {
			t.Errorf("got certificate %v, %v; want the one of the files", leaf, err)
		}
		r.ca.listen()
		s.waitForCert(waitTimeout, name)
		if got := s.state(name); got.Source != "acme" {
			t.Errorf("got state %+v, want source acme", got)
		}
	})
}

// While the CA refuses a renewal, the server uses the old certificate, even after it has
// expired, and the new one as soon as the CA issues it.
func TestCAUnavailableAtRenewal(t *testing.T) {
	t.Parallel()
	for mode, how := range map[int64]string{503: "503", 429: "429", 0: "refused"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			r, name := newRig(t, pebbleOptions{validity: 24 * time.Second}), newName()
			s := r.serveCertified(name)
			old := s.state(name)
			if mode == 0 {
				r.ca.close()
			}
			r.ca.mode.Store(mode)
			eventually(t, waitTimeout, "the log contains a warning", func() bool { return s.log.has("the old one stays in use") })
			eventually(t, waitTimeout, "the certificate expires", func() bool { return time.Now().After(old.NotAfter.Add(time.Second)) })
			leaf, err := s.servedCert(name)
			if err != nil || tlsmgr.Fingerprint(leaf) != old.Fingerprint {
				t.Errorf("got another certificate after the expiry (%v), want the old one", err)
			}
			r.ca.mode.Store(modeUp)
			if mode == 0 {
				r.ca.listen()
			}
			s.waitForCert(waitTimeout, name)
		})
	}
}

// A hanging CA and hanging storage do not delay handshakes.
func TestHandshakeWhileCAAndStorageHang(t *testing.T) {
	t.Parallel()
	r, name := newRig(t, pebbleOptions{}), newName()
	first := r.serve(r.config(name))
	first.waitForCert(waitTimeout, name)
	first.stop()

	r.ca.mode.Store(modeHang)
	other := newName()
	c := r.config(name, other)
	c.CertFile, c.KeyFile = writeSelfSigned(t, time.Hour, other)
	s := r.serve(c)
	hangStorage(t, r, other)
	times := map[string][]time.Duration{}
	for deadline := time.Now().Add(3 * time.Second); time.Now().Before(deadline); {
		for _, n := range []string{name, other} {
			began := time.Now()
			if _, err := s.servedCert(n); err != nil {
				t.Fatalf("handshake for %s: %v", n, err)
			}
			times[n] = append(times[n], time.Since(began))
		}
	}
	for n, all := range times {
		slices.Sort(all)
		longest := all[len(all)-1]
		t.Logf("%d handshakes, median %v, longest %v", len(all), all[len(all)/2], longest)
		if longest > 5*time.Second { // a blocked handshake would hang forever; a busy machine takes a second
			t.Errorf("handshake for %s: got %v while the CA hangs, want at most 5s", n, longest)
		}
	}
	checkChallengeTimeout(t, r, other)
	began := time.Now()
	s.stop()
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("shutdown: got %v, want at most 30s", took)
	}
}

// hangStorage creates a named pipe in place of the certificate, so that opening it blocks.
func hangStorage(t *testing.T, r *rig, name string) {
	t.Helper()
	dir := statePath(r, "certificates", "127.0.0.1"+r.ca.addr[len("127.0.0.1"):]+"-dir", name)
	pipe := filepath.Join(filepath.Dir(dir), name, name+".crt")
	writeFile(t, filepath.Join(filepath.Dir(pipe), "note"), nil)
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { openPipe(pipe) })
}

// checkChallengeTimeout checks that the lookup of a challenge in hanging storage ends with
// a timeout, since any client can cause it.
func checkChallengeTimeout(t *testing.T, r *rig, name string) {
	t.Helper()
	began := time.Now()
	conn, err := tls.Dial("tcp", addrOf(r.tlsPort), &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: []string{"acme-tls/1"}})
	if err == nil {
		conn.Close()
		t.Error("got a challenge certificate without a pending order, want an error")
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("challenge handshake: got %v, want at most 15s", took)
	}
}

// The certificate files are replaced under traffic, with incomplete and mismatched files in
// between.
func TestFilesReplacedUnderTraffic(t *testing.T) {
	t.Parallel()
	r := newRig(t, pebbleOptions{})
	r.ca.mode.Store(503)
	name := newName()
	c := r.config(name)
	c.CertFile, c.KeyFile = writeSelfSigned(t, time.Hour, name)
	s := r.serve(c)
	stop := make(chan struct{})
	var clients sync.WaitGroup
	var handshakes atomic.Int64
	for range 2 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := s.servedCert(name); err != nil {
					t.Errorf("handshake: %v", err)
					return
				}
				handshakes.Add(1)
			}
		})
	}
	for n := 1; n <= 2; n++ {
		before := s.state(name).Fingerprint
		writeFile(t, c.CertFile, []byte("-----BEGIN CERTIFICATE-----\nhalf"))
		eventually(t, waitTimeout, "the incomplete file is rejected", func() bool {
			return s.log.count("ignoring invalid certificate files")+s.log.count("the certificate files are not valid now") == n
		})
		if got := s.state(name).Fingerprint; got != before {
			t.Error("an incomplete file replaced the certificate")
		}
		writePair(t, c.CertFile, c.KeyFile, time.Hour, "elsewhere.example.test")
		eventually(t, waitTimeout, "a certificate for another name is rejected", func() bool { return s.log.count("for other names") == n })
		writePair(t, c.CertFile, c.KeyFile, time.Hour, name)
		eventually(t, waitTimeout, "the valid files are loaded", func() bool { return s.state(name).Fingerprint != before })
	}
	close(stop)
	clients.Wait()
	if handshakes.Load() < 20 {
		t.Errorf("got %d handshakes, want 20 at least", handshakes.Load())
	}
}

// openPipe unblocks the readers of a named pipe.
func openPipe(path string) {
	if fd, err := syscall.Open(path, syscall.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
		syscall.Close(fd)
	}
}
