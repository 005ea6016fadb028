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
		t.Errorf("said in %d lines, want one", n)
	}
	for _, part := range []string{"one.example.org by the files", "two.example.org by nothing yet", "ca.internal"} {
		if buf.count(part) != 1 {
			t.Errorf("the line lacks %q:\n%s", part, buf)
		}
	}
}

// Beside domains the files only stand in, so what is wrong with them stops nothing.
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
		{"a wildcard", good, goodKey, "file", ""},
		{"ended", past, pastKey, "file", "of no use now"},
		{"not begun", future, futureKey, "", "of no use now"},
		{"for another name", other, otherKey, "", "for other names"},
		{"half written", good[:50], goodKey, "", "of no use now"},
		{"mismatched", good, otherKey, "", "of no use now"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPairFiles(t)
			p.write(t, tt.chain, tt.key)
			c := acmeConfig(t, "one.example.org")
			c.CertFile, c.KeyFile = p.cert, p.key
			m, buf := newTestManaged(t, c)
			if got := m.State()[0].Source; got != tt.source {
				t.Errorf("served from %q, want %q", got, tt.source)
			}
			if tt.warned != "" && buf.count(tt.warned) != 1 {
				t.Errorf("no warning %q:\n%s", tt.warned, buf)
			}
		})
	}
}

// Files that appear later are taken up, and a bad pair never replaces them.
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
		t.Fatalf("State = %+v, want the files", before)
	}
	other, otherKey := validPair(t, "elsewhere.example")
	for _, bad := range [][2][]byte{{chain[:50], key}, {other, otherKey}, {chain, otherKey}} {
		p.write(t, bad[0], bad[1])
		m.static.check()
		m.applyStatic()
		if got := m.State()[0]; got.Fingerprint != before.Fingerprint {
			t.Errorf("State = %+v, want the certificate of before", got)
		}
	}
}

// A reload reads the files at once, changed by their stamps or not, and has
// each name looked at sooner.
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
		t.Error("the files were not read again")
	}
	select {
	case <-m.scheduler.workers[0].wake:
	default:
		t.Error("the name is not looked at sooner")
	}
}

func TestReloadWithoutFiles(t *testing.T) {
	m, buf := newTestManaged(t, acmeConfig(t, "one.example.org"))
	m.Reload()
	if buf.count("ignoring invalid") != 0 {
		t.Errorf("a reload complains of files that nobody brought:\n%s", buf)
	}
}

// What the last run left on record is known before anything is done: a doctor
// looks without running.
func TestStateRestoredAfterRestart(t *testing.T) {
	c := acmeConfig(t, "one.example.org")
	before, _ := newTestManaged(t, c)
	tried := time.Now().Add(-time.Minute).Round(time.Second)
	sched := &scheduleState{LastAttempt: tried, NextAttempt: tried.Add(time.Hour), FailureCount: 2, LastError: "caa forbids it", CAs: before.scheduler.schedules.cas}
	if err := before.scheduler.schedules.write(t.Context(), "one.example.org", sched); err != nil {
		t.Fatal(err)
	}
	m, _ := newTestManaged(t, c)
	got := m.State()[0]
	if got.LastError == nil || got.LastError.Error() != sched.LastError || got.Failures != 2 || !got.LastAttempt.Equal(tried) || !got.NextAttempt.Equal(sched.NextAttempt) {
		t.Errorf("State = %+v, want what is on record: %+v", got, sched)
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
		t.Errorf("protocols %v", got)
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
			t.Errorf("asked for %q: %v, want success %v", name, err, ok)
		}
		if err != nil && !strings.Contains(err.Error(), tls.AlertError(112).Error()) {
			t.Errorf("asked for %q: %v, want the alert unrecognized_name", name, err)
		}
	}
}

// What the disk does not take is held in memory, and written when it does.
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
			t.Errorf("Load(%s) = %q, %v", key, got, err)
		}
	}
	if buf.count("takes no files") != 1 {
		t.Errorf("want one line:\n%s", buf)
	}
	_ = k.Store(ctx, "a/three", nil)
	_ = k.Delete(ctx, "a/three") // which the disk refuses
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if err := k.Store(canceled, "a/late", nil); err == nil {
		t.Error("what came after the lock was lost is taken")
	}
	if len(k.pending) != 2 {
		t.Errorf("%d values are held, want neither the one that was deleted nor the late one", len(k.pending))
	}
	k.flush(ctx) // still refused
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	k.flush(ctx)
	got, err := os.ReadFile(filepath.Join(dir, "a", "one"))
	if err != nil || string(got) != "a/one" || len(k.pending) != 0 {
		t.Errorf("after the flush: %q, %v, %d held; want it on the disk", got, err, len(k.pending))
	}
	if err := k.Delete(ctx, "a/one"); err != nil || k.Exists(ctx, "a/one") {
		t.Errorf("Delete: %v, still there: %v", err, k.Exists(ctx, "a/one"))
	}
}

// A lock that is just being written is left alone.
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
		t.Error("a lock written just now was set aside")
	}
	setTimes(t, time.Now().Add(-time.Minute), lock)
	m.checkCertmagicFiles("one")
	if exists(lock) || buf.count("set aside") != 1 {
		t.Errorf("an old lock of zeros was not set aside:\n%s", buf)
	}
}

// New only looks: what is in store, and what is not, stays as it was.
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
			t.Errorf("%s: New made a state directory", engine)
		}
		c.StateDir = state
	}
}

// listFiles is all that is below a directory, with times and sizes.
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

// Files that were never there are no fault beside an authority; files that go away are.
func TestMissingFallbackFilesAreNotLogged(t *testing.T) {
	log, buf := newLog()
	pair := newPairFiles(t)
	f := newUnloadedFiles(Config{CertFile: pair.cert, KeyFile: pair.key, Logger: log})
	f.readInitial()
	f.check()
	f.check()
	if buf.String() != "" {
		t.Errorf("said of files that never were:\n%s", buf)
	}
	pair.write(t, []byte("x"), []byte("x"))
	f.check()
	if buf.count("ignoring invalid") != 1 {
		t.Errorf("nothing is said of files that came and are none:\n%s", buf)
	}
}
