package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"inbox/cmd/inbox/internal/snapshot"
)

// startIn runs the program with the given state directory.
func startIn(t *testing.T, dir string, args ...string) *program {
	t.Helper()
	return start(t, append([]string{"-https=false", "-state", dir}, args...)...)
}

func (p *program) mustStop() {
	p.t.Helper()
	if code := p.stop(); code != exitDone {
		p.t.Fatalf("exit code %d, want 0:\n%s", code, p.log)
	}
}

func (p *program) wantLog(what string) {
	p.t.Helper()
	if !strings.Contains(p.log.String(), what) {
		p.t.Errorf("the log lacks %q:\n%s", what, p.log)
	}
}

// TestRestartKeepsMailboxes checks that a restart keeps names, passwords, messages, their
// order and unacknowledged messages.
func TestRestartKeepsMailboxes(t *testing.T) {
	dir := t.TempDir()
	p := startIn(t, dir)
	p.claim("alice")
	for _, body := range []string{"one", "two", "three"} {
		p.want(http.StatusOK, "POST", "/inbox?to=alice", "bob", body)
	}
	one := p.want(http.StatusOK, "GET", "/inbox?after=", "alice", "").header.Get("X-Message-Id")
	two := p.want(http.StatusOK, "GET", "/inbox?after="+one, "alice", "") // not acknowledged
	p.mustStop()
	p.wantLog(`msg="mailboxes saved" inboxes=2 messages=2`)
	wantMode(t, dir, snapshot.FileName, 0o600)

	p = startIn(t, dir)
	p.wantLog(`msg="mailboxes restored" inboxes=2 messages=2`)
	wantNoFile(t, dir, snapshot.FileName) // removed before the first request
	if got := p.want(http.StatusOK, "GET", "/inbox?after="+one, "alice", ""); got.body != "two" || got.header.Get("X-Message-Id") != two.header.Get("X-Message-Id") {
		t.Errorf("got %q with ID %s, want two with ID %s", got.body, got.header.Get("X-Message-Id"), two.header.Get("X-Message-Id"))
	}
	r, _ := http.NewRequest("GET", p.url+"/inbox", nil)
	r.SetBasicAuth("alice", "another password")
	if a, err := p.send(r); err != nil || a.status != http.StatusUnauthorized {
		t.Errorf("another password: got %d, %v, want 401", a.status, err)
	}
	if got := p.want(http.StatusOK, "GET", "/inbox?after="+two.header.Get("X-Message-Id"), "alice", ""); got.body != "three" {
		t.Errorf("got %q, want three", got.body)
	}
}

func wantMode(t *testing.T, dir, name string, want os.FileMode) {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != want {
		t.Errorf("%s has mode %v, want %v", name, info.Mode(), want)
	}
}

func wantNoFile(t *testing.T, dir, name string) {
	t.Helper()
	if _, err := os.Lstat(filepath.Join(dir, name)); !os.IsNotExist(err) {
		t.Errorf("%s exists (%v), want none", name, err)
	}
}

// TestSnapshotOmitsPasswords checks that a snapshot contains no passwords or addresses.
func TestSnapshotOmitsPasswords(t *testing.T) {
	dir := t.TempDir()
	p := startIn(t, dir)
	p.claim("alice")
	p.want(http.StatusOK, "POST", "/inbox?to=alice", "bob", "hello")
	p.mustStop()
	text, err := os.ReadFile(filepath.Join(dir, snapshot.FileName))
	if err != nil || !strings.Contains(string(text), "hello") {
		t.Fatalf("the message is not in the snapshot: %v", err)
	}
	if strings.Contains(string(text), "password of") || strings.Contains(string(text), "127.0.0.1") {
		t.Error("a password or an address is in the snapshot")
	}
}

// TestPayersSurviveRestart checks that the limits per payer apply after a restart.
func TestPayersSurviveRestart(t *testing.T) {
	dir := t.TempDir()
	limit := []string{"-max-inboxes-per-ip", "2"}
	p := startIn(t, dir, limit...)
	p.claim("alice")
	p.claim("bob")
	p.mustStop()
	p = startIn(t, dir, limit...)
	p.want(http.StatusTooManyRequests, "GET", "/inbox?wait=0", "carol", "")
	p.claim("bob")
}

// TestBadSnapshotsAreQuarantined checks that unreadable snapshots are quarantined, up to
// maxQuarantined, and that the server starts.
func TestBadSnapshotsAreQuarantined(t *testing.T) {
	dir := t.TempDir()
	p := startIn(t, dir)
	p.claim("alice")
	p.mustStop()
	path := filepath.Join(dir, snapshot.FileName)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	version := append([]byte(nil), good...)
	version[11] = 9
	for name, text := range map[string]string{
		"empty": "", "cut short": string(good[:len(good)-1]), "changed": strings.Replace(string(good), "alice", "malice", 1),
		"another version": string(version), "another file": "hello",
	} {
		writeFile(t, path, text)
		p := startIn(t, dir)
		p.wantLog("level=WARN msg=\"cannot read the saved mailboxes")
		p.wantLog("quarantined=mailboxes.bad-")
		if name == "another version" {
			p.wantLog("version 9")
		}
		p.want(http.StatusNotFound, "POST", "/inbox?to=alice", "bob", "hello")
		p.mustStop()
		if err := os.Remove(path); err != nil {
			t.Errorf("%s: remove the next snapshot: %v", name, err)
		}
	}
	if quarantined, _ := filepath.Glob(path + ".bad-*"); len(quarantined) != 3 {
		t.Errorf("got %d quarantined files, want 3", len(quarantined))
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	p = startIn(t, dir)
	p.wantLog("not a regular file")
	p.mustStop()
	wantMode(t, dir, snapshot.FileName, 0o600)
}

// TestSnapshotWithOtherSecretIsQuarantined checks that a snapshot is not restored under
// another secret, which would invalidate all passwords.
func TestSnapshotWithOtherSecretIsQuarantined(t *testing.T) {
	dir := t.TempDir()
	p := startIn(t, dir)
	p.claim("alice")
	p.mustStop()
	if err := os.Remove(filepath.Join(dir, "secret")); err != nil {
		t.Fatal(err)
	}
	p = startIn(t, dir)
	p.wantLog("another secret")
	p.claim("alice")
}

// TestLowerLimitsAreLogged checks that mailboxes dropped by lower limits are logged.
func TestLowerLimitsAreLogged(t *testing.T) {
	dir := t.TempDir()
	p := startIn(t, dir)
	for _, name := range []string{"alice", "bob", "carol"} {
		p.claim(name)
	}
	p.mustStop()
	p = startIn(t, dir, "-max-inboxes", "2")
	p.wantLog("level=WARN msg=\"mailboxes or messages dropped")
	p.wantLog("inboxes=1 messages=0")
	p.want(http.StatusNotFound, "POST", "/inbox?to=alice", "carol", "least recently used")
	p.want(http.StatusOK, "POST", "/inbox?to=bob", "carol", "hello")
}

// TestFailedSaveExitCode checks that a failed save is logged, exits with code 1 and leaves
// no partial snapshot.
func TestFailedSaveExitCode(t *testing.T) {
	dir := t.TempDir()
	p := startIn(t, dir)
	p.claim("alice")
	if err := os.Mkdir(filepath.Join(dir, snapshot.FileName+".new"), 0o700); err != nil {
		t.Fatal(err)
	}
	if code := p.stop(); code != exitFailure {
		t.Errorf("exit code %d, want 1", code)
	}
	p.wantLog("inbox: mailboxes not saved")
	wantNoFile(t, dir, snapshot.FileName)
	p = startIn(t, dir)
	p.mustStop()
	wantMode(t, dir, snapshot.FileName, 0o600)
}

// TestNothingIsSavedWithoutStateDir checks the warning that a restart loses all mailboxes.
func TestNothingIsSavedWithoutStateDir(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	writeFile(t, file, "")
	p := startIn(t, filepath.Join(file, "state"))
	p.wantLog("mailboxes do not survive a restart")
	p.claim("alice")
	p.mustStop()
}

// TestCrashRestoresNothing checks that a start after a crash does not restore an old
// snapshot.
func TestCrashRestoresNothing(t *testing.T) {
	dir := t.TempDir()
	p := startIn(t, dir)
	p.claim("alice")
	p.want(http.StatusOK, "POST", "/inbox?to=alice", "bob", "read before the crash")
	p.mustStop()
	c := startChild(t, "-state", dir)
	if got := c.want(http.StatusOK, "GET", "/inbox", "alice", ""); got.body != "read before the crash" {
		t.Fatalf("got %q", got.body)
	}
	c.signal(os.Kill)
	c.cmd.Wait()
	p = startIn(t, dir)
	p.want(http.StatusNoContent, "GET", "/inbox?wait=0", "alice", "")
	if strings.Contains(p.log.String(), "mailboxes restored") {
		t.Errorf("the start after a crash restored mailboxes:\n%s", p.log)
	}
}

// TestCrashWhileSaving checks that a partial snapshot of a crash during saving is removed.
func TestCrashWhileSaving(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, snapshot.FileName+".new"), "half of a snap")
	p := startIn(t, dir)
	wantNoFile(t, dir, snapshot.FileName+".new")
	p.claim("alice")
	p.mustStop()
	p.wantLog(`msg="mailboxes saved" inboxes=1`)
}

// TestRestoreMetrics checks that the metrics show what a restart restored and lost, and
// that a loss is logged. A clean restart and a first start lose nothing.
func TestRestoreMetrics(t *testing.T) {
	dir := t.TempDir()
	next := func(inboxes, messages, droppedInboxes, droppedMessages, unsaved, unreadable int, args ...string) *program {
		t.Helper()
		p := startIn(t, dir, append(args, "-metrics-bind", "127.0.0.1:0")...)
		_, text := p.metrics("/metrics", "")
		for name, want := range map[string]int{
			"inbox_restored_inboxes": inboxes, "inbox_restored_messages": messages,
			"inbox_restore_dropped_inboxes": droppedInboxes, "inbox_restore_dropped_messages": droppedMessages,
			`inbox_restore_failed{reason="unsaved"}`: unsaved, `inbox_restore_failed{reason="unreadable"}`: unreadable,
		} {
			if line := fmt.Sprintf("\n%s %d\n", name, want); !strings.Contains(text, line) {
				t.Errorf("the metrics lack %q", line)
			}
		}
		if logged := strings.Contains(p.log.String(), "did not save its mailboxes"); logged != (unsaved > 0) {
			t.Errorf("loss logged: %v, want %v", logged, unsaved > 0)
		}
		return p
	}
	p := next(0, 0, 0, 0, 0, 0)
	p.claim("alice")
	for range 3 {
		p.want(http.StatusOK, "POST", "/inbox?to=alice", "bob", "hello")
	}
	p.mustStop()
	p = next(2, 2, 0, 1, 0, 0, "-inbox-capacity", "2")
	p.mustStop()
	p = next(1, 0, 1, 2, 0, 0, "-max-inboxes", "1")
	if err := os.Mkdir(filepath.Join(dir, snapshot.FileName+".new"), 0o700); err != nil { // makes saving fail
		t.Fatal(err)
	}
	p.stop()
	p = next(0, 0, 0, 0, 1, 0)
	p.mustStop()
	next(0, 0, 0, 0, 0, 0).mustStop()
	writeFile(t, filepath.Join(dir, snapshot.FileName), "nonsense")
	next(0, 0, 0, 0, 0, 1).mustStop()
	c := startChild(t, "-state", dir)
	c.signal(os.Kill)
	c.cmd.Wait()
	next(0, 0, 0, 0, 1, 0).mustStop()
}

// TestPostDuringShutdownIsSaved checks that a post accepted during shutdown is saved.
func TestPostDuringShutdownIsSaved(t *testing.T) {
	dir := t.TempDir()
	c := startChild(t, "-state", dir)
	polls := c.startWaitingPoll("alice")
	post := c.slowPost("alice", "bob")
	c.signal(os.Interrupt)
	<-polls
	io.WriteString(post, "hello")
	if got := post.answer(t).StatusCode; got != http.StatusOK {
		t.Fatalf("post: got %d, want 200", got)
	}
	if err := c.cmd.Wait(); err != nil {
		t.Fatalf("the program exited with %v:\n%s", err, c.log)
	}
	p := startIn(t, dir)
	if got := p.want(http.StatusOK, "GET", "/inbox", "alice", ""); got.body != "hello" {
		t.Errorf("got %q, want hello", got.body)
	}
}
