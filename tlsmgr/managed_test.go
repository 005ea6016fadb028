package tlsmgr

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"inbox/tlsmgr/acme"
	"inbox/tlsmgr/acme/autocert"
	"inbox/tlsmgr/acme/certmagic"
	"inbox/tlsmgr/acme/schedule"
	"inbox/tlsmgr/internal/tlstest"
)

func mustAddrPort(text string) netip.AddrPort { return netip.MustParseAddrPort(text) }

func newTestManaged(t *testing.T, c Config) (*Manager, *tlstest.LogBuffer) {
	t.Helper()
	log, buf := tlstest.NewLog()
	c.Logger = log
	m, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.managed.acme.Run(canceled(t)) }) // ends what runs in the background
	return m, buf
}

// canceled returns a context that has ended.
func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	cancel()
	return ctx
}

func TestStartLogsCertificateSources(t *testing.T) {
	p := newPairFiles(t)
	chain, key := tlstest.ValidPair(t, "one.example.org")
	p.write(t, chain, key)
	c := acmeConfig(t, "one.example.org", "two.example.org")
	c.CertFile, c.KeyFile = p.cert, p.key
	_, buf := newTestManaged(t, c)
	if n := buf.Count("source=acme why="); n != 1 {
		t.Errorf("got %d log lines about the source, want one", n)
	}
	for _, part := range []string{"one.example.org by the files", "two.example.org by nothing yet", "ca.internal"} {
		if buf.Count(part) != 1 {
			t.Errorf("want %q in the log line:\n%s", part, buf)
		}
	}
}

// With domains the files are only a fallback, so invalid files do not prevent the start.
func TestFilesAsFallback(t *testing.T) {
	good, goodKey := tlstest.ValidPair(t, "*.example.org")
	other, otherKey := tlstest.ValidPair(t, "elsewhere.example")
	past, pastKey := tlstest.MakePair(t, "one.example.org", time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
	future, futureKey := tlstest.MakePair(t, "one.example.org", time.Now().Add(time.Hour), time.Now().Add(2*time.Hour))
	for _, tt := range []struct {
		name       string
		chain, key []byte
		source     string
		warned     string
	}{
		{"wildcard", good, goodKey, "file", ""},
		{"expired", past, pastKey, "file", "not valid now"},
		{"not yet valid", future, futureKey, "file", "not valid now"},
		{"other name", other, otherKey, "", "for other names"},
		{"truncated", good[:50], goodKey, "", "not valid now"},
		{"mismatched", good, otherKey, "", "not valid now"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPairFiles(t)
			p.write(t, tt.chain, tt.key)
			c := acmeConfig(t, "one.example.org")
			c.CertFile, c.KeyFile = p.cert, p.key
			m, buf := newTestManaged(t, c)
			if got := m.State()[0].Source; got != tt.source {
				t.Errorf("got source %q, want %q", got, tt.source)
			}
			if tt.warned != "" && buf.Count(tt.warned) != 1 {
				t.Errorf("want one warning %q:\n%s", tt.warned, buf)
			}
		})
	}
}

// Files that appear after the start are loaded. An invalid pair does not replace them.
func TestFilesAppearLater(t *testing.T) {
	p := newPairFiles(t)
	c := acmeConfig(t, "one.example.org")
	c.CertFile, c.KeyFile = p.cert, p.key
	m, _ := newTestManaged(t, c)
	chain, key := tlstest.ValidPair(t, "one.example.org")
	p.write(t, chain, key)
	m.managed.static.check()
	m.managed.applyStatic()
	before := m.State()[0]
	if before.Source != "file" {
		t.Fatalf("got State %+v, want source file", before)
	}
	other, otherKey := tlstest.ValidPair(t, "elsewhere.example")
	for _, invalid := range [][2][]byte{{chain[:50], key}, {other, otherKey}, {chain, otherKey}} {
		p.write(t, invalid[0], invalid[1])
		m.managed.static.check()
		m.managed.applyStatic()
		if got := m.State()[0]; got.Fingerprint != before.Fingerprint {
			t.Errorf("got State %+v, want the previous certificate", got)
		}
	}
}

// Reload reads the files even if their stamps are unchanged.
func TestReloadReadsFiles(t *testing.T) {
	p := newPairFiles(t)
	chain, key := tlstest.ValidPair(t, "one.example.org")
	p.write(t, chain, key)
	c := acmeConfig(t, "one.example.org")
	c.CertFile, c.KeyFile = p.cert, p.key
	m, _ := newTestManaged(t, c)
	before := m.State()[0].Fingerprint
	chain, key = tlstest.ValidPair(t, "one.example.org")
	p.write(t, chain, key)
	m.Reload()
	if got := m.State()[0].Fingerprint; got == before {
		t.Error("Reload did not read the files")
	}
}

func TestReloadWithoutFiles(t *testing.T) {
	m, buf := newTestManaged(t, acmeConfig(t, "one.example.org"))
	m.Reload()
	if buf.Count("ignoring invalid") != 0 {
		t.Errorf("want no log line about files that never existed:\n%s", buf)
	}
}

// New restores the state of the previous run, because the doctor reads State without
// calling Run.
func TestStateRestoredAfterRestart(t *testing.T) {
	c := acmeConfig(t, "one.example.org")
	tried := time.Now().Add(-time.Minute).Round(time.Second)
	stored := schedule.State{Phase: schedule.Failed, LastAttempt: tried, NextAttempt: tried.Add(time.Hour), Failures: 2, LastError: "forbidden by CAA", CAs: []string{c.ACME.CA.URL}}
	text, err := json.Marshal(stored)
	if err != nil {
		t.Fatal(err)
	}
	log, _ := tlstest.NewLog()
	if err := acmeDirectory(c.StateDir, log).Store(t.Context(), "schedule/one.example.org.json", text); err != nil {
		t.Fatal(err)
	}
	m, _ := newTestManaged(t, c)
	got := m.State()[0]
	if got.LastError == nil || got.LastError.Error() != stored.LastError || got.Failures != 2 || !got.LastAttempt.Equal(tried) || !got.NextAttempt.Equal(stored.NextAttempt) {
		t.Errorf("got State %+v, want the stored schedule %+v", got, stored)
	}
}

func TestNoOrderWithoutStateDirectory(t *testing.T) {
	c := acmeConfig(t, "one.example.org")
	c.StateDir = ""
	_, buf := newTestManaged(t, c)
	if buf.Count("no certificate will be ordered") != 1 {
		t.Errorf("want one warning:\n%s", buf)
	}
}

func TestManagedOffersTheChallengeProtocol(t *testing.T) {
	m, _ := newTestManaged(t, acmeConfig(t, "one.example.org"))
	if got := m.TLSConfig().NextProtos; strings.Join(got, " ") != "h2 http/1.1 acme-tls/1" {
		t.Errorf("got protocols %v, want h2, http/1.1 and acme-tls/1", got)
	}
}

func TestUnknownNamesGetAnAlert(t *testing.T) {
	p := newPairFiles(t)
	chain, key := tlstest.ValidPair(t, "*.example.org")
	p.write(t, chain, key)
	c := acmeConfig(t, "one.example.org")
	c.CertFile, c.KeyFile = p.cert, p.key
	m, _ := newTestManaged(t, c)
	for name, ok := range map[string]bool{"one.example.org": true, "two.example.org": false, "": false} {
		_, err := handshake(t, m, &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if (err == nil) != ok {
			t.Errorf("SNI %q: got %v, want success %v", name, err, ok)
		}
		if err != nil && !strings.Contains(err.Error(), tls.AlertError(112).Error()) {
			t.Errorf("SNI %q: got %v, want the unrecognized_name alert", name, err)
		}
	}
}

// New does not write to the state directory and does not create it.
func TestNewWritesNothing(t *testing.T) {
	p := newPairFiles(t)
	chain, key := tlstest.ValidPair(t, "one.example.org")
	p.write(t, chain, key)
	c := acmeConfig(t, "one.example.org")
	c.CertFile, c.KeyFile = p.cert, p.key
	state := c.StateDir
	damaged := filepath.Join(state, "acme", "schedule", "one.example.org.json")
	if err := os.MkdirAll(filepath.Dir(damaged), 0o700); err != nil {
		t.Fatal(err)
	}
	tlstest.MustWriteFile(t, damaged, []byte("{"))
	for engine, newEngine := range map[string]acme.EngineFactory{"certmagic": certmagic.New, "autocert": autocert.New} {
		c.ACME.Engine = newEngine
		before := listFiles(t, state)
		m, _ := newTestManaged(t, c)
		m.State()
		if after := listFiles(t, state); after != before {
			t.Errorf("%s: New changed the state directory from\n%sto\n%s", engine, before, after)
		}
		c.StateDir = filepath.Join(t.TempDir(), "none")
		newTestManaged(t, c)
		if exists(c.StateDir) {
			t.Errorf("%s: New created the state directory", engine)
		}
		c.StateDir = state
	}
}

// listFiles lists all files below a directory with modes, sizes and times.
func listFiles(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			fmt.Fprintln(&all, path, info.Mode(), info.Size(), info.ModTime())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// With domains, missing certificate files are not logged unless they existed before.
func TestMissingFallbackFilesAreNotLogged(t *testing.T) {
	log, buf := tlstest.NewLog()
	pair := newPairFiles(t)
	f := newUnloadedFiles(Config{CertFile: pair.cert, KeyFile: pair.key, Logger: log})
	f.readInitial()
	f.check()
	f.check()
	if buf.String() != "" {
		t.Errorf("want no log line about files that never existed:\n%s", buf)
	}
	pair.write(t, []byte("x"), []byte("x"))
	f.check()
	if buf.Count("ignoring invalid") != 1 {
		t.Errorf("want one log line about new, invalid files:\n%s", buf)
	}
}

// InUse reports whether a server uses the state directory, so that it responds to the
// challenges of the doctor.
func TestInUseWhileServerRuns(t *testing.T) {
	c := acmeConfig(t, "one.example.org")
	c.ACME.CA.URL = "https://127.0.0.1:1/directory" // unreachable, so nothing is ordered
	m, _ := newTestManaged(t, c)
	if InUse(c.StateDir) {
		t.Error("got InUse true before a server runs")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	for began := time.Now(); !InUse(c.StateDir); time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > 30*time.Second {
			t.Fatal("got InUse false while a server runs")
		}
	}
	cancel()
	<-done
	if InUse(c.StateDir) {
		t.Error("got InUse true after the server has stopped")
	}
}
