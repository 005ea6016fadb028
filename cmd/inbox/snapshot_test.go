package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"inbox/inbox"
	"inbox/inbox/memstore"
)

// startIn runs the program on a state directory that it shares with others of the test.
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
		p.t.Errorf("the log does not say «%s»:\n%s", what, p.log)
	}
}

// A restart keeps names, passwords, messages, their order and what is not acknowledged.
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
	wantMode(t, dir, snapshotName, 0o600)

	p = startIn(t, dir)
	p.wantLog(`msg="mailboxes taken up again" inboxes=2 messages=2`)
	wantNoFile(t, dir, snapshotName) // nobody has asked for anything yet
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
		t.Errorf("%s is there (%v), want none", name, err)
	}
}

// A password is in no snapshot, whatever the name and the message are.
func TestSnapshotOmitsPasswords(t *testing.T) {
	dir := t.TempDir()
	p := startIn(t, dir)
	p.claim("alice")
	p.want(http.StatusOK, "POST", "/inbox?to=alice", "bob", "hello")
	p.mustStop()
	text, err := os.ReadFile(filepath.Join(dir, snapshotName))
	if err != nil || !strings.Contains(string(text), "hello") {
		t.Fatalf("the message is not in the snapshot: %v", err)
	}
	if strings.Contains(string(text), "password of") || strings.Contains(string(text), "127.0.0.1") {
		t.Error("a password or an address is in the snapshot")
	}
}

// Limits by payer hold across a restart: the same address is the same payer.
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

// What cannot be read is set aside, a few of them, and the server begins.
func TestBadSnapshotsAreQuarantined(t *testing.T) {
	dir := t.TempDir()
	p := startIn(t, dir)
	p.claim("alice")
	p.mustStop()
	path := filepath.Join(dir, snapshotName)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	version := append([]byte(nil), good...)
	version[11] = 2
	for name, text := range map[string]string{
		"empty": "", "cut short": string(good[:len(good)-1]), "changed": strings.Replace(string(good), "alice", "malice", 1),
		"another version": string(version), "another file": "hello",
	} {
		writeFile(t, path, text)
		p := startIn(t, dir)
		p.wantLog("level=WARN msg=\"the saved mailboxes cannot be read")
		p.wantLog("file=mailboxes.bad-")
		if name == "another version" {
			p.wantLog("version 2")
		}
		p.want(http.StatusNotFound, "POST", "/inbox?to=alice", "bob", "hello")
		p.mustStop()
		if err := os.Remove(path); err != nil {
			t.Errorf("%s: the next snapshot: %v", name, err)
		}
	}
	if quarantined, _ := filepath.Glob(path + ".bad-*"); len(quarantined) != maxQuarantined {
		t.Errorf("%d files were set aside, want %d", len(quarantined), maxQuarantined)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	p = startIn(t, dir)
	p.wantLog("no regular file")
	p.mustStop()
	wantMode(t, dir, snapshotName, 0o600)
}

// Under another secret all passwords would be wrong, and their owners locked out.
func TestSnapshotWithOtherSecretIsQuarantined(t *testing.T) {
	dir := t.TempDir()
	p := startIn(t, dir)
	p.claim("alice")
	p.mustStop()
	if err := os.Remove(filepath.Join(dir, secretFile)); err != nil {
		t.Fatal(err)
	}
	p = startIn(t, dir)
	p.wantLog("another secret")
	p.claim("alice")
}

// Lower limits drop mailboxes and say how many.
func TestLowerLimitsAreLogged(t *testing.T) {
	dir := t.TempDir()
	p := startIn(t, dir)
	for _, name := range []string{"alice", "bob", "carol"} {
		p.claim(name)
	}
	p.mustStop()
	p = startIn(t, dir, "-max-inboxes", "2")
	p.wantLog("level=WARN msg=\"the limits are lower than before the restart")
	p.wantLog("inboxes=1 messages=0")
	p.want(http.StatusNotFound, "POST", "/inbox?to=alice", "carol", "she was longest away")
	p.want(http.StatusOK, "POST", "/inbox?to=bob", "carol", "hello")
}

// Who cannot save says so and exits with 1; what is left is no half of a file.
func TestFailedSaveExitCode(t *testing.T) {
	dir := t.TempDir()
	p := startIn(t, dir)
	p.claim("alice")
	if err := os.Mkdir(filepath.Join(dir, snapshotName+".new"), 0o700); err != nil {
		t.Fatal(err)
	}
	if code := p.stop(); code != exitFailure {
		t.Errorf("exit code %d, want 1", code)
	}
	p.wantLog("inbox: save the mailboxes for the next start")
	wantNoFile(t, dir, snapshotName)
	p = startIn(t, dir)
	p.mustStop()
	wantMode(t, dir, snapshotName, 0o600)
}

// Without a state directory a restart loses all, and a warning says so.
func TestNothingIsSavedWithoutStateDir(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	writeFile(t, file, "")
	p := startIn(t, filepath.Join(file, "state"))
	p.wantLog("has no mailboxes")
	p.claim("alice")
	p.mustStop()
}

// Of two servers on one directory the first keeps its mailboxes; the other
// neither loads nor saves. One that comes while the first is about to end waits for it.
func TestSnapshotFileIsExclusive(t *testing.T) {
	dir, key := t.TempDir(), []byte("key")
	out := newOutput()
	log := slog.New(slog.NewTextHandler(out, nil))
	limits := inbox.Limits{Timeout: time.Minute}
	first := openSnapshotFile(dir, key, 0, nil, log)
	if err := first.save(memstore.New(limits)); err != nil {
		t.Fatal(err)
	}
	second := openSnapshotFile(dir, key, 0, nil, log)
	second.load(limits)
	if err := second.markInUse(); err != nil {
		t.Fatal(err)
	}
	wantMode(t, dir, snapshotName, 0o600)
	if !strings.Contains(out.String(), "a restart will lose all mailboxes") {
		t.Errorf("the log does not tell:\n%s", out)
	}
	waited := make(chan *snapshotFile)
	go func() { waited <- openSnapshotFile(dir, key, time.Minute, nil, log) }()
	for !strings.Contains(out.String(), "waiting for its end") {
		time.Sleep(time.Millisecond)
	}
	first.close()
	third := <-waited
	defer third.close()
	if third.load(limits); !strings.Contains(out.String(), "taken up again") {
		t.Errorf("whoever waited did not load:\n%s", out)
	}
}

// A crash loses what was in memory and brings nothing old back.
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
	if strings.Contains(p.log.String(), "taken up") {
		t.Errorf("the start after a crash takes something up:\n%s", p.log)
	}
}

// One that dies while it saves leaves half a snapshot beside, which is in
// nobody's way.
func TestCrashWhileSaving(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, snapshotName+".new"), "half of a snap")
	p := startIn(t, dir)
	wantNoFile(t, dir, snapshotName+".new")
	p.claim("alice")
	p.mustStop()
	p.wantLog(`msg="mailboxes saved" inboxes=1`)
}

// What a restart kept and lost is in the metrics of the next server, and a
// loss in its log; a restart in order, and a first start, lose nothing.
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
				t.Errorf("the metrics do not say %q", line)
			}
		}
		if told := strings.Contains(p.log.String(), "ended without saving"); told != (unsaved > 0) {
			t.Errorf("a loss is logged: %v, want %v", told, unsaved > 0)
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
	if err := os.Mkdir(filepath.Join(dir, snapshotName+".new"), 0o700); err != nil { // it cannot save
		t.Fatal(err)
	}
	p.stop()
	p = next(0, 0, 0, 0, 1, 0)
	p.mustStop()
	next(0, 0, 0, 0, 0, 0).mustStop()
	writeFile(t, filepath.Join(dir, snapshotName), "nonsense")
	next(0, 0, 0, 0, 0, 1).mustStop()
	c := startChild(t, "-state", dir)
	c.signal(os.Kill)
	c.cmd.Wait()
	next(0, 0, 0, 0, 1, 0).mustStop()
}

// A post that was answered with 200 while the server stopped is saved.
func TestPostDuringShutdownIsSaved(t *testing.T) {
	dir := t.TempDir()
	c := startChild(t, "-state", dir)
	polls := c.holdPoll("alice")
	post := c.slowPost("alice", "bob")
	c.signal(os.Interrupt)
	<-polls
	io.WriteString(post, "hello")
	if got := post.answer(t).StatusCode; got != http.StatusOK {
		t.Fatalf("the post got %d, want 200", got)
	}
	if err := c.cmd.Wait(); err != nil {
		t.Fatalf("the program ended with %v:\n%s", err, c.log)
	}
	p := startIn(t, dir)
	if got := p.want(http.StatusOK, "GET", "/inbox", "alice", ""); got.body != "hello" {
		t.Errorf("got %q, want hello", got.body)
	}
}

// A server whose listener fails saves, too.
func TestFailedServerSavesSnapshot(t *testing.T) {
	dir := t.TempDir()
	c, err := parse([]string{"-bind", "127.0.0.1:0", "-https=false", "-state", dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	log := newLogger(c, io.Discard)
	ls, err := listenAll(c, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := newServer(c, process{stderr: io.Discard, timeouts: defaultTimeouts()}, ls, log)
	if err != nil {
		t.Fatal(err)
	}
	defer srv.snapshot.close()
	ls.close()
	if err := srv.run(context.Background()); err == nil {
		t.Error("got no error from a closed listener")
	}
	wantMode(t, dir, snapshotName, 0o600)
}
