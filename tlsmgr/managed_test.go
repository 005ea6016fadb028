package tlsmgr

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func mustAddrPort(text string) netip.AddrPort { return netip.MustParseAddrPort(text) }

func newTestManaged(t *testing.T, c Config) (*managed, *logBuffer) {
	t.Helper()
	log, buf := newLog()
	c.Logger = log
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	m := s.(*managed)
	t.Cleanup(m.engine.close)
	return m, buf
}

func TestStartLogsCertificateSources(t *testing.T) {
	p := newPairFiles(t)
	chain, key := validPair(t, "one.example.org")
	p.write(t, chain, key)
	c := acmeConfig(t, "one.example.org", "two.example.org")
	c.CertFile, c.KeyFile = p.cert, p.key
	_, buf := newTestManaged(t, c)
	if n := buf.count("source=acme why="); n != 1 {
		t.Errorf("got %d log lines about the source, want one", n)
	}
	for _, part := range []string{"one.example.org by the files", "two.example.org by nothing yet", "ca.internal"} {
		if buf.count(part) != 1 {
			t.Errorf("want %q in the log line:\n%s", part, buf)
		}
	}
}

// With domains the files are only a fallback, so invalid files do not prevent the start.
func TestFilesAsFallback(t *testing.T) {
	good, goodKey := validPair(t, "*.example.org")
	other, otherKey := validPair(t, "elsewhere.example")
	past, pastKey := makePair(t, "one.example.org", time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
	future, futureKey := makePair(t, "one.example.org", time.Now().Add(time.Hour), time.Now().Add(2*time.Hour))
	for _, tt := range []struct {
		name       string
		chain, key []byte
		source     string
		warned     string
	}{
		{"wildcard", good, goodKey, "file", ""},
		{"expired", past, pastKey, "file", "of no use now"},
		{"not yet valid", future, futureKey, "", "of no use now"},
		{"other name", other, otherKey, "", "for other names"},
		{"truncated", good[:50], goodKey, "", "of no use now"},
		{"mismatched", good, otherKey, "", "of no use now"},
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
			if tt.warned != "" && buf.count(tt.warned) != 1 {
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
	chain, key := validPair(t, "one.example.org")
	p.write(t, chain, key)
	m.static.check()
	m.applyStatic()
	before := m.State()[0]
	if before.Source != "file" {
		t.Fatalf("got State %+v, want source file", before)
	}
	other, otherKey := validPair(t, "elsewhere.example")
	for _, invalid := range [][2][]byte{{chain[:50], key}, {other, otherKey}, {chain, otherKey}} {
		p.write(t, invalid[0], invalid[1])
		m.static.check()
		m.applyStatic()
		if got := m.State()[0]; got.Fingerprint != before.Fingerprint {
			t.Errorf("got State %+v, want the previous certificate", got)
		}
	}
}

// Reload reads the files even if their stamps are unchanged, and wakes the worker of
// each name.
func TestReloadWakesNames(t *testing.T) {
	p := newPairFiles(t)
	chain, key := validPair(t, "one.example.org")
	p.write(t, chain, key)
	c := acmeConfig(t, "one.example.org")
	c.CertFile, c.KeyFile = p.cert, p.key
	m, _ := newTestManaged(t, c)
	before := m.State()[0].Fingerprint
	chain, key = validPair(t, "one.example.org")
	p.write(t, chain, key)
	m.Reload()
	if got := m.State()[0].Fingerprint; got == before {
		t.Error("Reload did not read the files")
	}
	select {
	case <-m.scheduler.workers[0].wake:
	default:
		t.Error("Reload did not wake the worker")
	}
}

func TestReloadWithoutFiles(t *testing.T) {
	m, buf := newTestManaged(t, acmeConfig(t, "one.example.org"))
	m.Reload()
	if buf.count("ignoring invalid") != 0 {
		t.Errorf("want no log line about files that never existed:\n%s", buf)
	}
}

// New restores the state of the previous run, because the doctor reads State without
// calling Run.
func TestStateRestoredAfterRestart(t *testing.T) {
	c := acmeConfig(t, "one.example.org")
	before, _ := newTestManaged(t, c)
	tried := time.Now().Add(-time.Minute).Round(time.Second)
	sched := &scheduleState{LastAttempt: tried, NextAttempt: tried.Add(time.Hour), FailureCount: 2, LastError: "forbidden by CAA", CAs: before.scheduler.schedules.cas}
	if err := before.scheduler.schedules.write(t.Context(), "one.example.org", sched); err != nil {
		t.Fatal(err)
	}
	m, _ := newTestManaged(t, c)
	got := m.State()[0]
	if got.LastError == nil || got.LastError.Error() != sched.LastError || got.Failures != 2 || !got.LastAttempt.Equal(tried) || !got.NextAttempt.Equal(sched.NextAttempt) {
		t.Errorf("got State %+v, want the stored schedule %+v", got, sched)
	}
}

func TestNoOrderWithoutStateDirectory(t *testing.T) {
	c := acmeConfig(t, "one.example.org")
	c.StateDir = ""
	_, buf := newTestManaged(t, c)
	if buf.count("no certificate will be ordered") != 1 {
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
	chain, key := validPair(t, "*.example.org")
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

// Values that cannot be written to disk are kept in memory and written later.
func TestBufferedStorageKeepsFailedWrites(t *testing.T) {
	log, buf := newLog()
	dir := filepath.Join(t.TempDir(), "state")
	mustWriteFile(t, dir, nil) // a file where the directory should be
	k := newBufferedStorage(certmagicStorage(dirStorage{dir, log}), log)
	ctx := t.Context()
	for _, key := range []string{"a/one", "a/two"} {
		if err := k.Store(ctx, key, []byte(key)); err != nil {
			t.Fatal(err)
		}
		if got, err := k.Load(ctx, key); err != nil || string(got) != key || !k.Exists(ctx, key) {
			t.Errorf("Load(%s): got %q, %v, want the stored value", key, got, err)
		}
	}
	if buf.count("takes no files") != 1 {
		t.Errorf("want one log line about the failed writes:\n%s", buf)
	}
	_ = k.Store(ctx, "a/three", nil)
	_ = k.Delete(ctx, "a/three") // fails on disk
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if err := k.Store(canceled, "a/late", nil); err == nil {
		t.Error("Store with an ended context: got no error")
	}
	if len(k.pending) != 2 {
		t.Errorf("got %d pending values, want 2, without the deleted and the late one", len(k.pending))
	}
	k.flush(ctx) // still fails
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	k.flush(ctx)
	got, err := os.ReadFile(filepath.Join(dir, "a", "one"))
	if err != nil || string(got) != "a/one" || len(k.pending) != 0 {
		t.Errorf("after flush: got %q, %v, %d pending, want the value on disk", got, err, len(k.pending))
	}
	if err := k.Delete(ctx, "a/one"); err != nil || k.Exists(ctx, "a/one") {
		t.Errorf("Delete: got %v, exists %v, want nil, false", err, k.Exists(ctx, "a/one"))
	}
}

// A damaged lock file is quarantined only if it is old, since a recent one can be
// partially written.
func TestQuarantineSkipsRecentLocks(t *testing.T) {
	log, buf := newLog()
	dir := t.TempDir()
	m := fileQuarantine{dir, log}
	locks := filepath.Join(dir, "locks")
	if err := os.Mkdir(locks, 0o700); err != nil {
		t.Fatal(err)
	}
	lock := filepath.Join(locks, "issue_cert_one.lock")
	mustWriteFile(t, lock, bytes.Repeat([]byte{0}, 100))
	m.checkCertmagicFiles("one")
	if !exists(lock) {
		t.Error("a recent lock file was quarantined")
	}
	setTimes(t, time.Now().Add(-time.Minute), lock)
	m.checkCertmagicFiles("one")
	if exists(lock) || buf.count("set aside") != 1 {
		t.Errorf("an old lock file of zeros was not quarantined:\n%s", buf)
	}
}

// New does not write to the state directory and does not create it.
func TestNewWritesNothing(t *testing.T) {
	p := newPairFiles(t)
	chain, key := validPair(t, "one.example.org")
	p.write(t, chain, key)
	c := acmeConfig(t, "one.example.org")
	c.CertFile, c.KeyFile = p.cert, p.key
	state := c.StateDir
	damaged := filepath.Join(state, "acme", "schedule", "one.example.org.json")
	if err := os.MkdirAll(filepath.Dir(damaged), 0o700); err != nil {
		t.Fatal(err)
	}
	mustWriteFile(t, damaged, []byte("{"))
	for _, engine := range []string{CertMagic, Autocert} {
		c.ACME.Engine = engine
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
	log, buf := newLog()
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
	if buf.count("ignoring invalid") != 1 {
		t.Errorf("want one log line about new, invalid files:\n%s", buf)
	}
}
