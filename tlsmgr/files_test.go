package tlsmgr

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"inbox/tlsmgr/internal/certs"
	"inbox/tlsmgr/internal/tlstest"
)

// fileManager is a manager with its certificate files.
type fileManager struct {
	*Manager
	*files
}

func startFileSource(t *testing.T, p pairFiles) (*fileManager, *tlstest.LogBuffer) {
	t.Helper()
	log, buf := tlstest.NewLog()
	m, err := New(Config{CertFile: p.cert, KeyFile: p.key, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	return &fileManager{m, m.source.(*files)}, buf
}

func TestFilesFollowChanges(t *testing.T) {
	p := newPairFiles(t)
	chain, key := tlstest.ValidPair(t, "one.example")
	p.write(t, chain, key)
	f, buf := startFileSource(t, p)
	if got := servedName(t, f); got != "one.example" {
		t.Fatalf("at the start: got certificate for %q, want one.example", got)
	}
	chain, key = tlstest.ValidPair(t, "two.example")
	p.write(t, chain, key)
	f.check()
	if got := servedName(t, f); got != "two.example" {
		t.Errorf("after the change: got certificate for %q, want two.example", got)
	}
	f.check()
	if n := buf.Count("certificate replaced"); n != 1 {
		t.Errorf("got the change logged %d times, want once", n)
	}
}

// Files that were modified recently are read again, since a rewrite of the same size
// within the granularity of modification times does not change the stamp.
func TestFilesRereadRecentlyModified(t *testing.T) {
	p := newPairFiles(t)
	one, oneKey := tlstest.ValidPair(t, "one.example")
	two, twoKey := tlstest.ValidPair(t, "two.example")
	for len(one) != len(two) { // the length of a signature varies
		two, twoKey = tlstest.ValidPair(t, "two.example")
	}
	now := time.Now()
	p.write(t, one, oneKey)
	setTimes(t, now, p.cert, p.key)
	f, _ := startFileSource(t, p)
	p.write(t, two, twoKey)
	setTimes(t, now, p.cert, p.key)
	f.check()
	if got := servedName(t, f); got != "two.example" {
		t.Errorf("got certificate for %q, want two.example", got)
	}
}

func TestFilesNotReloadedWhenUnchanged(t *testing.T) {
	p := newPairFiles(t)
	chain, key := tlstest.ValidPair(t, "one.example")
	p.write(t, chain, key)
	setTimes(t, time.Now().Add(-time.Hour), p.cert, p.key)
	f, _ := startFileSource(t, p)
	before := f.current.Load()
	f.check()
	f.Reload()
	if f.current.Load() != before {
		t.Error("got a new certificate, want none while the files are unchanged")
	}
}

func setTimes(t *testing.T, at time.Time, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
}

func TestInvalidPairNeverReplacesValidOne(t *testing.T) {
	chain, key := tlstest.ValidPair(t, "new.example")
	_, otherKey := tlstest.ValidPair(t, "other.example")
	past, pastKey := tlstest.MakePair(t, "past.example", time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
	p224Chain, p224Key := tlstest.PairOf(t, newECKey(t, elliptic.P224()), "p224.example", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	rsa512Chain, rsa512Key := rsa512Pair(t)
	future, futureKey := tlstest.MakePair(t, "future.example", time.Now().Add(time.Hour), time.Now().Add(2*time.Hour))
	for _, tt := range []struct {
		name       string
		chain, key []byte
	}{
		{"truncated", chain[:len(chain)/2], key},
		{"empty", nil, key},
		{"mismatched", chain, otherKey},
		{"expired", past, pastKey},
		{"not yet valid", future, futureKey},
		{"P-224", p224Chain, p224Key},
		{"RSA 512", rsa512Chain, rsa512Key},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPairFiles(t)
			good, goodKey := tlstest.ValidPair(t, "good.example")
			p.write(t, good, goodKey)
			f, buf := startFileSource(t, p)
			p.write(t, tt.chain, tt.key)
			for range 3 {
				f.check()
			}
			if got := servedName(t, f); got != "good.example" {
				t.Errorf("got certificate for %q, want good.example", got)
			}
			if n := buf.Count("ignoring invalid"); n != 1 {
				t.Errorf("got the error logged %d times, want once:\n%s", n, buf)
			}
			if err := f.State()[0].LastError; err == nil {
				t.Error("got no LastError in State")
			}
			p.write(t, chain, key)
			f.check()
			if got := servedName(t, f); got != "new.example" {
				t.Errorf("after the files are complete: got certificate for %q, want new.example", got)
			}
			if err := f.State()[0].LastError; err != nil {
				t.Errorf("got LastError %v, want none", err)
			}
		})
	}
}

func TestFilesSurviveTheirRemoval(t *testing.T) {
	p := newPairFiles(t)
	chain, key := tlstest.ValidPair(t, "one.example")
	p.write(t, chain, key)
	f, buf := startFileSource(t, p)
	os.Remove(p.key)
	f.check()
	if got := servedName(t, f); got != "one.example" {
		t.Errorf("got certificate for %q, want one.example", got)
	}
	if buf.Count("read key") != 1 {
		t.Errorf("want one log line about the missing key:\n%s", buf)
	}
}

func TestFilesFollowLinks(t *testing.T) {
	p := newPairFiles(t)
	dir := filepath.Dir(p.cert)
	for _, name := range []string{"one", "two"} {
		chain, key := tlstest.ValidPair(t, name+".example")
		tlstest.MustWriteFile(t, filepath.Join(dir, name+".crt"), chain)
		tlstest.MustWriteFile(t, filepath.Join(dir, name+".key"), key)
	}
	relink := func(name string) {
		for path, ending := range map[string]string{p.cert: ".crt", p.key: ".key"} {
			os.Remove(path)
			if err := os.Symlink(name+ending, path); err != nil {
				t.Fatal(err)
			}
		}
	}
	relink("one")
	f, _ := startFileSource(t, p)
	relink("two")
	f.check()
	if got := servedName(t, f); got != "two.example" {
		t.Errorf("after the link was replaced: got certificate for %q, want two.example", got)
	}
}

func TestInvalidFilesFailStart(t *testing.T) {
	chain, key := tlstest.ValidPair(t, "one.example")
	_, otherKey := tlstest.ValidPair(t, "two.example")
	p224Chain, p224Key := tlstest.PairOf(t, newECKey(t, elliptic.P224()), "one.example", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	encrypted := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")})
	for _, tt := range []struct {
		name       string
		chain, key []byte
		want       string
	}{
		{"certificate missing", nil, key, "read certificate"},
		{"key missing", chain, nil, "read key"},
		{"not PEM", []byte("hello"), key, "server.crt"},
		{"too large", bytes.Repeat([]byte("x"), certs.MaxFileBytes+1), key, "larger than 4194304 bytes"},
		{"mismatched", chain, otherKey, "private key does not match"},
		{"unusable", p224Chain, p224Key, "no client can use"},
		{"encrypted key", chain, encrypted, "passphrase"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPairFiles(t)
			for path, data := range map[string][]byte{p.cert: tt.chain, p.key: tt.key} {
				if data != nil {
					tlstest.MustWriteFile(t, path, data)
				}
			}
			_, err := New(Config{CertFile: p.cert, KeyFile: p.key, StateDir: t.TempDir()})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("New: got error %v, want one containing %q", err, tt.want)
			}
		})
	}
}

func TestFilesRunReloadsWhileServing(t *testing.T) {
	p := newPairFiles(t)
	chain, key := tlstest.ValidPair(t, "one.example")
	p.write(t, chain, key)
	f, _ := startFileSource(t, p)
	f.interval = time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	var background sync.WaitGroup
	background.Go(func() { f.Run(ctx) })
	defer background.Wait()
	defer cancel()
	chain, key = tlstest.ValidPair(t, "two.example")
	p.write(t, chain, key)
	for deadline := time.Now().Add(10 * time.Second); servedName(t, f) != "two.example"; {
		if time.Now().After(deadline) {
			t.Fatal("Run did not load the new files within ten seconds")
		}
	}
}

func TestFilesState(t *testing.T) {
	p := newPairFiles(t)
	chain, key := tlstest.ValidPair(t, "one.example")
	p.write(t, chain, key)
	f, _ := startFileSource(t, p)
	states := f.State()
	if len(states) != 1 || states[0].Name != "one.example" || states[0].Source != "file" {
		t.Errorf("got State %+v, want one.example from a file", states)
	}
	seen, err := handshake(t, f, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := states[0].Fingerprint, Fingerprint(seen.PeerCertificates[0]); got != want {
		t.Errorf("got fingerprint %s, want that of the served certificate, %s", got, want)
	}
}

func newECKey(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// rsa512Pair returns a pair from OpenSSL: Go does not generate such keys.
func rsa512Pair(t *testing.T) (chain, key []byte) {
	t.Helper()
	dir := t.TempDir()
	cert, private := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	out, err := exec.Command("openssl", "req", "-x509", "-newkey", "rsa:512", "-nodes", "-subj", "/CN=rsa.example",
		"-addext", "subjectAltName=DNS:rsa.example", "-days", "2", "-keyout", private, "-out", cert).CombinedOutput()
	if err != nil {
		t.Skipf("openssl does not make the key: %v\n%s", err, out)
	}
	for path, into := range map[string]*[]byte{cert: &chain, private: &key} {
		if *into, err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	return chain, key
}

// Files that are not valid now are served, because a server that exits would be restarted
// again and again. The state, and so the readiness, shows it. Of two invalid certificates,
// the one that expires later is served. A valid one replaces both.
func TestInvalidNowIsServed(t *testing.T) {
	now := time.Now()
	for what, from := range map[string]time.Duration{"expired": -3 * time.Hour, "not valid yet": 24 * time.Hour} {
		t.Run(what, func(t *testing.T) {
			p := newPairFiles(t)
			chain, key := tlstest.MakePair(t, "one.example", now.Add(from), now.Add(from+time.Hour))
			p.write(t, chain, key)
			f, buf := startFileSource(t, p)
			if got := servedName(t, f); got != "one.example" {
				t.Fatalf("got certificate for %q, want one.example", got)
			}
			if buf.Count("level=ERROR") != 1 || f.State()[0].LastError == nil || f.CheckValid(now) == nil {
				t.Errorf("want one error in the log, in the state and from CheckValid:\n%s", buf)
			}
			earlier, earlierKey := tlstest.MakePair(t, "early.example", now.Add(-9*time.Hour), now.Add(-8*time.Hour))
			p.write(t, earlier, earlierKey)
			f.check()
			if got := servedName(t, f); got != "one.example" {
				t.Errorf("after files that expired earlier: got certificate for %q, want one.example", got)
			}
			later, laterKey := tlstest.MakePair(t, "later.example", now.Add(from), now.Add(from+2*time.Hour))
			p.write(t, later, laterKey)
			f.check()
			if got := servedName(t, f); got != "later.example" {
				t.Errorf("after files that expire later: got certificate for %q, want later.example", got)
			}
			good, goodKey := tlstest.ValidPair(t, "good.example")
			p.write(t, good, goodKey)
			f.check()
			if got := servedName(t, f); got != "good.example" || f.State()[0].LastError != nil || f.CheckValid(now) != nil {
				t.Errorf("after valid files: got certificate for %q, %v", got, f.State()[0].LastError)
			}
		})
	}
}
