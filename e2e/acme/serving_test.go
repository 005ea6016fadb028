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

const selfSignedCN = "made by hand"

// writeSelfSigned writes a pair of files as an operator brings them.
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

// startTraffic asks for the page without pause, over new connections and over one
// that is kept. Its end returns how many requests there were; a failed one
// fails the test.
func (s *testServer) startTraffic(name string) (stopTraffic func() int64) {
	stop := make(chan struct{})
	var asked atomic.Int64
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
					s.t.Errorf("a request failed: %v", err)
					return
				}
				asked.Add(1)
			}
		})
	}
	return func() int64 { close(stop); clients.Wait(); return asked.Load() }
}

// The lives leave a quarter of a minute between renewal and end, as a busy machine needs.
func TestRenewalUnderTraffic(t *testing.T) {
	t.Parallel()
	for engine, life := range map[string]time.Duration{tlsmgr.CertMagic: time.Minute, tlsmgr.Autocert: 48 * time.Second} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, pebbleOptions{validity: life})
			name := newName()
			c := r.config(name)
			c.ACME.Engine = engine
			s := r.serve(c)
			s.waitForCert(waitTimeout, name)
			before := s.state(name)
			stopTraffic := s.startTraffic(name)
			eventually(t, life, "the renewal", func() bool { return s.state(name).Fingerprint != before.Fingerprint })
			eventually(t, life, "the end of the first certificate", func() bool { return time.Now().After(before.NotAfter) })
			asked := stopTraffic()
			if asked < 100 {
				t.Errorf("only %d requests were made", asked)
			}
			t.Logf("%d requests while a certificate was renewed; none failed", asked)
			// One may be under way.
			if got, obtained := r.ca.orders(), s.state(name).Obtained; obtained < 2 || got > obtained+1 {
				t.Errorf("%d orders for %d certificates, want one for each of two at least", got, obtained)
			}
		})
	}
}

// The authority is away at first: the files serve. It comes back: its
// certificate takes over, without a restart and without a failed handshake.
func TestCAUnavailableAtFirstOrder(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{tlsmgr.CertMagic, tlsmgr.Autocert} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, pebbleOptions{})
			r.ca.close()
			name := newName()
			c := r.config(name)
			c.ACME.Engine = engine
			c.CertFile, c.KeyFile = writeSelfSigned(t, time.Hour, "*.example.test")
			s := r.serve(c)
			eventually(t, waitTimeout, "the failure is in State", func() bool { return s.state(name).LastError != nil })
			if got := s.state(name); got.Source != "file" || time.Until(got.NextAttempt) > time.Minute {
				t.Errorf("State = %+v; want the files, and the next attempt soon", got)
			}
			if leaf, err := s.servedCert(name); err != nil || leaf.Subject.CommonName != selfSignedCN {
				t.Errorf("shown %v, %v; want the certificate of the files", leaf, err)
			}
			r.ca.listen()
			s.waitForCert(waitTimeout, name)
			if got := s.state(name); got.Source != "acme" {
				t.Errorf("State = %+v, want the authority's certificate", got)
			}
		})
	}
}

// The authority refuses at renewal: the old certificate serves to its end and,
// for want of a better one, beyond; then the new one does.
func TestCAUnavailableAtRenewal(t *testing.T) {
	t.Parallel()
	for mode, how := range map[int64]string{503: "503", 429: "429", 0: "refused"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, pebbleOptions{validity: 24 * time.Second})
			name := newName()
			s := r.serve(r.config(name))
			s.waitForCert(waitTimeout, name)
			old := s.state(name)
			if mode == 0 {
				r.ca.close()
			}
			r.ca.mode.Store(mode)
			eventually(t, waitTimeout, "a warning", func() bool { return s.log.has("the old one serves on") })
			eventually(t, waitTimeout, "the end of the certificate", func() bool { return time.Now().After(old.NotAfter.Add(time.Second)) })
			leaf, err := s.servedCert(name)
			if err != nil || tlsmgr.Fingerprint(leaf) != old.Fingerprint {
				t.Errorf("shown %v after its end, want the old certificate", err)
			}
			r.ca.mode.Store(modeUp)
			if mode == 0 {
				r.ca.listen()
			}
			s.waitForCert(waitTimeout, name)
		})
	}
}

// Neither an authority nor a disk that hangs is felt by a handshake.
func TestHandshakeWhileCAAndStorageHang(t *testing.T) {
	t.Parallel()
	r := newRig(t, pebbleOptions{})
	name := newName()
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
		if longest > 5*time.Second { // what hangs does so for ever; a busy machine takes a second
			t.Errorf("a handshake for %s took %v while the authority hung", n, longest)
		}
	}
	checkChallengeTimeout(t, r, other)
	began := time.Now()
	s.stop()
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("stopping took %v", took)
	}
}

// hangStorage puts a pipe where the certificate is looked for: to open it is to
// wait for a writer that never comes.
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

// checkChallengeTimeout makes sure that a stranger who asks like an authority does not
// wait for the disk for long.
func checkChallengeTimeout(t *testing.T, r *rig, name string) {
	t.Helper()
	began := time.Now()
	conn, err := tls.Dial("tcp", addrOf(r.tlsPort), &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: []string{"acme-tls/1"}})
	if err == nil {
		conn.Close()
		t.Error("a challenge was answered although there is none")
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("a challenge hello took %v", took)
	}
}

// The files are replaced under traffic, first by halves.
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
	var shown atomic.Int64
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
				shown.Add(1)
			}
		})
	}
	for n := 1; n <= 2; n++ {
		before := s.state(name).Fingerprint
		writeFile(t, c.CertFile, []byte("-----BEGIN CERTIFICATE-----\nhalf"))
		eventually(t, waitTimeout, "the half is refused", func() bool { return s.log.count("not usable") == n })
		if got := s.state(name).Fingerprint; got != before {
			t.Error("half a file replaced the certificate")
		}
		writePair(t, c.CertFile, c.KeyFile, time.Hour, "elsewhere.example.test")
		eventually(t, waitTimeout, "a pair for another name is refused", func() bool { return s.log.count("for other names") == n })
		writePair(t, c.CertFile, c.KeyFile, time.Hour, name)
		eventually(t, waitTimeout, "the whole pair is taken", func() bool { return s.state(name).Fingerprint != before })
	}
	close(stop)
	clients.Wait()
	if shown.Load() < 20 {
		t.Errorf("only %d handshakes were made", shown.Load())
	}
}

func openPipe(path string) {
	if fd, err := syscall.Open(path, syscall.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
		syscall.Close(fd)
	}
}
