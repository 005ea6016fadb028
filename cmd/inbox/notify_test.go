//go:build unix

package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"inbox/cmd/inbox/systemd"
)

// inheritedSockets lists what a child of this process has open.
func inheritedSockets() (string, error) {
	out, err := exec.Command("sh", "-c", "ls -l /proc/self/fd /proc/$$/fd").CombinedOutput()
	return string(out), err
}

// The service manager hears of a whole life, in its own words.
func TestNotices(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	addr := m.hold(systemd.HTTP, "tcp", "127.0.0.1:0")
	c := m.start("-https=false")
	ready := m.next(20 * time.Second)
	if ready[0] != "READY=1" || len(ready) != 2 || !strings.HasPrefix(ready[1], "STATUS=Serves HTTP on "+addr.String()) {
		t.Errorf("first notice %q, want READY=1 and a status", ready)
	}
	if resp, err := newClient(t).Get("http://" + addr.String() + "/healthz"); err != nil {
		t.Errorf("it is ready, and does not answer: %v", err)
	} else {
		resp.Body.Close()
	}
	c.signal(syscall.SIGHUP)
	reloading := m.next(20 * time.Second)
	if reloading[0] != "RELOADING=1" {
		t.Fatalf("after SIGHUP: %q, want RELOADING=1", reloading)
	}
	if again := m.next(20 * time.Second); again[0] != "READY=1" {
		t.Errorf("after RELOADING: %q, want READY=1", again)
	}
	c.signal(syscall.SIGTERM)
	stopping := m.next(20 * time.Second)
	c.signal(syscall.SIGHUP) // of which nobody hears any more
	if stopping[0] != "STOPPING=1" || stopping[len(stopping)-1] != "EXTEND_TIMEOUT_USEC=20000000" {
		t.Errorf("after SIGTERM: %q, want STOPPING=1 and 20 s", stopping)
	}
	if saving := m.next(20 * time.Second); saving[0] != "EXTEND_TIMEOUT_USEC=60000000" {
		t.Errorf("before it saves: %q, want a minute more", saving)
	}
	c.cmd.Wait()
	if lines, more := m.poll(100 * time.Millisecond); more {
		t.Errorf("without WATCHDOG_USEC came %q", lines)
	}
}

// A hangup has the files read at once, though nothing tells that they changed.
func TestHangupReadsCertificateFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pair.pem")
	bring := func() { // another pair in the same file, of the same size and age
		dir := t.TempDir()
		start(t, "-state", dir).stop()
		text, err := os.ReadFile(filepath.Join(dir, "selfsigned.pem"))
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, file, fmt.Sprintf("%-4096s", text))
		anHourAgo := time.Now().Add(-time.Hour).Truncate(time.Hour)
		if err := os.Chtimes(file, anHourAgo, anHourAgo); err != nil {
			t.Fatal(err)
		}
	}
	bring()
	p := start(t, "-server-cert", file, "-server-key", file)
	bring()
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); !strings.Contains(p.log.String(), "certificate replaced"); time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > 20*time.Second {
			t.Fatalf("the files were not read again:\n%s", p.log)
		}
	}
}

// Signs of life come twice in the time granted, stop while the program hangs,
// and come again. Nothing connects to it meanwhile but itself.
func TestWatchdogStopsWhileTheProgramHangs(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	m.environ = append(m.environ, "WATCHDOG_USEC=2000000")
	m.hold(systemd.HTTP, "tcp", "127.0.0.1:0")
	c := m.start("-https=false", "-max-inboxes", "1", "-rate", "1", "-burst", "1", "-conn-rate", "1")
	for range 4 {
		m.await("WATCHDOG=1")
	}
	c.signal(syscall.SIGSTOP)
	for { // what was said before
		if _, more := m.poll(100 * time.Millisecond); !more {
			break
		}
	}
	if lines, more := m.poll(3 * time.Second); more {
		t.Errorf("stopped, it says %q", lines)
	}
	c.signal(syscall.SIGCONT)
	m.await("WATCHDOG=1")
	m.stop(c)
}

// A server that is busy for longer than a look waits is looked at again in
// time: it is not killed.
func TestWatchdogLooksAgain(t *testing.T) {
	t.Parallel()
	const granted, busy = 8 * time.Second, 2200 * time.Millisecond
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "n"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	h := watchedHouse(t)
	accepting(t, h.doors.main)
	h.process.environ = []string{"WATCHDOG_USEC=8000000", "NOTIFY_SOCKET=" + socket.LocalAddr().String()}
	h.notify = systemd.NewNotifier(h.process.getenv, h.log)
	var asked atomic.Int64
	serve := h.server.Handler
	h.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 3 { // of the second look; each asks twice
			time.Sleep(busy)
		}
		serve.ServeHTTP(w, r)
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); h.watch(ctx) }()
	defer func() { cancel(); <-ended }()
	var last time.Time
	for range 3 {
		socket.SetReadDeadline(time.Now().Add(2 * granted))
		if _, err := socket.Read(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		if gap := time.Since(last); !last.IsZero() && gap > granted-granted/20 {
			t.Errorf("no sign of life for %v, want one well within %v", gap, granted)
		}
		last = time.Now()
	}
}

// A server that hangs says nothing: it is killed then, and started anew.
func TestWatchdogKeepsSilent(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	h := watchedHouse(t) // nobody accepts
	h.process.environ = append(m.environ, "WATCHDOG_USEC=400000")
	h.notify = systemd.NewNotifier(h.process.getenv, h.log)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	h.watch(ctx)
	if lines, more := m.poll(100 * time.Millisecond); more {
		t.Errorf("it hangs, and says %q", lines)
	}
}

// watchedHouse is a house whose door nobody accepts at.
func watchedHouse(t *testing.T, args ...string) *house {
	t.Helper()
	c, err := parse(append([]string{"-https=false", "-state", t.TempDir()}, args...), nil)
	if err != nil {
		t.Fatal(err)
	}
	h, err := buildShut(c, process{stderr: newOutput(), times: defaultTimes()})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "[::]:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	h.doors.main = h.watched(l)
	h.health.serving.Store(true)
	return h
}

// accepting accepts all that comes until the test ends.
func accepting(t *testing.T, l net.Listener) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
}

func TestAliveFindsWhatHangs(t *testing.T) {
	t.Parallel()
	const patience = 300 * time.Millisecond
	var asking sync.Mutex
	over := func() { // the request under way
		asking.Lock()
		defer asking.Unlock()
	}

	h := watchedHouse(t)
	if err := h.alive(t.Context(), &asking, patience); err == nil || !strings.Contains(err.Error(), "is not accepted") {
		t.Errorf("nobody accepts: got %v", err)
	}
	h.health.serving.Store(false)
	if err := h.alive(t.Context(), &asking, patience); err != nil {
		t.Errorf("nobody accepts while the server stops: got %v", err)
	}

	h = watchedHouse(t)
	accepting(t, h.doors.main)
	for range 3 {
		if err := h.alive(t.Context(), &asking, 10*time.Second); err != nil {
			t.Errorf("all is well: got %v", err)
		}
	}
	if got := h.store.Stats().Inboxes; got != 0 {
		t.Errorf("the watchdog leaves %d mailboxes behind", got)
	}

	release, serve := make(chan struct{}), h.server.Handler
	h.server.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release })
	if err := h.alive(t.Context(), &asking, patience); err == nil || !strings.Contains(err.Error(), "was not answered") {
		t.Errorf("the handler hangs: got %v", err)
	}
	if err := h.alive(t.Context(), &asking, patience); err == nil || !strings.Contains(err.Error(), "still not answered") {
		t.Errorf("the handler hangs on: got %v", err)
	}
	close(release)
	over()
	h.server.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a bug") })
	if err := h.alive(t.Context(), &asking, patience); err == nil || !strings.Contains(err.Error(), "a bug") {
		t.Errorf("the handler panics: got %v", err)
	}
	over()
	for _, status := range []int{http.StatusInternalServerError, http.StatusMisdirectedRequest} {
		h.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		if err := h.alive(t.Context(), &asking, 10*time.Second); err == nil {
			t.Errorf("the handler answers %d: got no error", status)
		}
		over()
	}
	h.server.Handler = serve
	if err := h.alive(t.Context(), &asking, 10*time.Second); err != nil {
		t.Errorf("all is well again: got %v", err)
	}
}

// A socket may be for others, as for a proxy: then it counts that somebody
// waits for a connection, also one that begins to a moment after it was asked.
func TestAliveWhereNobodyMayKnock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "socket")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	loop := &acceptLoop{Listener: l}
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := loop.accepts(short); err == nil || !strings.Contains(err.Error(), "cannot connect") {
		t.Errorf("nobody accepts: got %v", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		time.Sleep(50 * time.Millisecond)
		_, _ = loop.Accept() // until the end
	}()
	t.Cleanup(func() { l.Close(); <-done })
	for range 2 {
		if err := loop.accepts(t.Context()); err != nil {
			t.Errorf("somebody does: got %v", err)
		}
	}
}

// The watchdog's requests go through every layer, and none refuses them, or
// counts them against anyone: not under a name of the server, nor behind proxies.
func TestWatchdogIsNotLimited(t *testing.T) {
	t.Parallel()
	h := watchedHouse(t, "-rate", "1", "-burst", "1", "-max-inboxes", "1", "-max-inboxes-per-ip", "1", "-max-conns-per-ip", "1", "-trusted-proxies", "10.0.0.0/8")
	for range 200 {
		if err := h.askMailbox(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := h.limits.requests.Refused() + h.limits.held.Refused(); n != 0 {
		t.Errorf("%d of the watchdog's requests were refused", n)
	}
	for kind, n := range h.handler.Refusals() {
		if n != 0 {
			t.Errorf("%d of the watchdog's requests were refused: %s", n, kind)
		}
	}
}

// Names may be written in many ways; the watchdog asks by the one that is served.
func TestWatchdogComesToTheMailboxes(t *testing.T) {
	t.Parallel()
	h := watchedHouse(t, "-domain", "Bücher.example.", "-acme-agree", "-acme-ca", "https://127.0.0.1:1/dir", "-http-bind", "127.0.0.1:0", "-https=true")
	if err := h.askMailbox(t.Context()); err != nil {
		t.Error(err)
	}
}
