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

	"inbox/cmd/inbox/internal/sdnotify"
)

// inheritedSockets lists the open files of a child process.
func inheritedSockets() (string, error) {
	out, err := exec.Command("sh", "-c", "ls -l /proc/self/fd /proc/$$/fd").CombinedOutput()
	return string(out), err
}

// TestServiceManagerNotifications checks the sd_notify messages of a start, a reload and a
// shutdown.
func TestServiceManagerNotifications(t *testing.T) {
	t.Parallel()
	m := newServiceManager(t)
	addr := m.passListener(sdnotify.HTTP, "tcp", "127.0.0.1:0")
	c := m.start("-https=false")
	ready := m.next(20 * time.Second)
	if ready[0] != "READY=1" || len(ready) != 2 || !strings.HasPrefix(ready[1], "STATUS=Serves HTTP on "+addr.String()) {
		t.Errorf("got first message %q, want READY=1 and a status", ready)
	}
	if resp, err := newClient(t).Get("http://" + addr.String() + "/healthz"); err != nil {
		t.Errorf("request after READY=1: %v", err)
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
	c.signal(syscall.SIGHUP) // must not cause another message
	if stopping[0] != "STOPPING=1" || stopping[len(stopping)-1] != "EXTEND_TIMEOUT_USEC=20000000" {
		t.Errorf("after SIGTERM: %q, want STOPPING=1 and 20 s", stopping)
	}
	if saving := m.next(20 * time.Second); saving[0] != "EXTEND_TIMEOUT_USEC=60000000" {
		t.Errorf("before saving: got %q, want an extension of 60 s", saving)
	}
	c.cmd.Wait()
	if lines, more := m.tryNext(100 * time.Millisecond); more {
		t.Errorf("unexpected message without WATCHDOG_USEC: %q", lines)
	}
}

// TestSIGHUPReloadsCertificateFiles checks that SIGHUP reloads files whose size and
// modification time have not changed.
func TestSIGHUPReloadsCertificateFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pair.pem")
	replacePair := func() { // another pair in the same file, with the same size and modification time
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
	replacePair()
	p := start(t, "-server-cert", file, "-server-key", file)
	replacePair()
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); !strings.Contains(p.log.String(), "certificate replaced"); time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > 20*time.Second {
			t.Fatalf("the files were not reloaded:\n%s", p.log)
		}
	}
}

// TestWatchdogStopsWhileSuspended checks that watchdog messages are sent, stop while the
// process is suspended, and resume. Only the watchdog itself connects to the server.
func TestWatchdogStopsWhileSuspended(t *testing.T) {
	t.Parallel()
	m := newServiceManager(t)
	m.environ = append(m.environ, "WATCHDOG_USEC=2000000")
	m.passListener(sdnotify.HTTP, "tcp", "127.0.0.1:0")
	c := m.start("-https=false", "-max-inboxes", "1", "-rate", "1", "-burst", "1", "-conn-rate", "1")
	for range 4 {
		m.await("WATCHDOG=1")
	}
	c.signal(syscall.SIGSTOP)
	for { // drain earlier messages
		if _, more := m.tryNext(100 * time.Millisecond); !more {
			break
		}
	}
	if lines, more := m.tryNext(3 * time.Second); more {
		t.Errorf("unexpected message while suspended: %q", lines)
	}
	c.signal(syscall.SIGCONT)
	m.await("WATCHDOG=1")
	m.stop(c)
}

// TestWatchdogRetries checks that a failed probe is retried in time, so that systemd does
// not kill a server that was busy for a moment.
func TestWatchdogRetries(t *testing.T) {
	t.Parallel()
	const timeout, busy = 8 * time.Second, 2200 * time.Millisecond
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "n"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	srv := newWatchdogServer(t)
	acceptAll(t, srv.listeners.main)
	srv.process.environ = []string{"WATCHDOG_USEC=8000000", "NOTIFY_SOCKET=" + socket.LocalAddr().String()}
	srv.notify = sdnotify.NewNotifier(srv.process.getenv, srv.log)
	var probes atomic.Int64
	serve := srv.mainServer.Handler
	srv.mainServer.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if probes.Add(1) == 3 { // of the second check; each sends two requests
			time.Sleep(busy)
		}
		serve.ServeHTTP(w, r)
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); srv.runWatchdog(ctx) }()
	defer func() { cancel(); <-ended }()
	var last time.Time
	for range 3 {
		socket.SetReadDeadline(time.Now().Add(2 * timeout))
		if _, err := socket.Read(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		if gap := time.Since(last); !last.IsZero() && gap > timeout-timeout/20 {
			t.Errorf("no watchdog message for %v, want one well within %v", gap, timeout)
		}
		last = time.Now()
	}
}

// TestWatchdogDoesNotNotifyWhenHung checks that a hung server sends no watchdog message, so
// that systemd restarts it.
func TestWatchdogDoesNotNotifyWhenHung(t *testing.T) {
	t.Parallel()
	m := newServiceManager(t)
	srv := newWatchdogServer(t) // nothing accepts connections
	srv.process.environ = append(m.environ, "WATCHDOG_USEC=400000")
	srv.notify = sdnotify.NewNotifier(srv.process.getenv, srv.log)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	srv.runWatchdog(ctx)
	if lines, more := m.tryNext(100 * time.Millisecond); more {
		t.Errorf("unexpected message from a hung server: %q", lines)
	}
}

// newWatchdogServer builds a server with a listener on which nothing accepts connections.
func newWatchdogServer(t *testing.T, args ...string) *server {
	t.Helper()
	c, err := parse(append([]string{"-https=false", "-state", t.TempDir()}, args...), nil)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := newServerWithoutListeners(c, process{stderr: newOutput(), timeouts: defaultTimeouts()})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "[::]:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	srv.listeners.main = srv.withAcceptProbe(l)
	srv.health.serving.Store(true)
	return srv
}

// acceptAll accepts and closes connections until the test ends.
func acceptAll(t *testing.T, l net.Listener) {
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

func TestSelfTest(t *testing.T) {
	t.Parallel()
	const timeout = 300 * time.Millisecond
	var probing sync.Mutex
	waitProbe := func() { // until the pending request ends
		probing.Lock()
		defer probing.Unlock()
	}

	srv := newWatchdogServer(t)
	if err := srv.selfTest(t.Context(), &probing, timeout); err == nil || !strings.Contains(err.Error(), "is not accepted") {
		t.Errorf("no accept: got %v", err)
	}
	srv.health.serving.Store(false)
	if err := srv.selfTest(t.Context(), &probing, timeout); err != nil {
		t.Errorf("no accept while stopping: got %v, want nil", err)
	}

	srv = newWatchdogServer(t)
	acceptAll(t, srv.listeners.main)
	for range 3 {
		if err := srv.selfTest(t.Context(), &probing, 10*time.Second); err != nil {
			t.Errorf("healthy server: got %v, want nil", err)
		}
	}
	if got := srv.store.Stats().Inboxes; got != 0 {
		t.Errorf("got %d mailboxes after the self-test, want 0", got)
	}

	release, serve := make(chan struct{}), srv.mainServer.Handler
	srv.mainServer.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release })
	if err := srv.selfTest(t.Context(), &probing, timeout); err == nil || !strings.Contains(err.Error(), "was not answered") {
		t.Errorf("the handler hangs: got %v", err)
	}
	if err := srv.selfTest(t.Context(), &probing, timeout); err == nil || !strings.Contains(err.Error(), "still not answered") {
		t.Errorf("the handler still hangs: got %v", err)
	}
	close(release)
	waitProbe()
	srv.mainServer.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a bug") })
	if err := srv.selfTest(t.Context(), &probing, timeout); err == nil || !strings.Contains(err.Error(), "a bug") {
		t.Errorf("the handler panics: got %v", err)
	}
	waitProbe()
	for _, status := range []int{http.StatusInternalServerError, http.StatusMisdirectedRequest} {
		srv.mainServer.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		if err := srv.selfTest(t.Context(), &probing, 10*time.Second); err == nil {
			t.Errorf("the handler answers %d: got no error", status)
		}
		waitProbe()
	}
	srv.mainServer.Handler = serve
	if err := srv.selfTest(t.Context(), &probing, 10*time.Second); err != nil {
		t.Errorf("healthy again: got %v, want nil", err)
	}
}

// TestAcceptProbeWithoutDial checks the probe of a socket to which the server cannot
// connect: a pending Accept suffices, also one that starts shortly after the probe.
func TestAcceptProbeWithoutDial(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "socket")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	probe := &acceptProbe{Listener: l}
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := probe.check(short); err == nil || !strings.Contains(err.Error(), "cannot connect") {
		t.Errorf("no accept: got %v", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		time.Sleep(50 * time.Millisecond)
		_, _ = probe.Accept() // until the listener closes
	}()
	t.Cleanup(func() { l.Close(); <-done })
	for range 2 {
		if err := probe.check(t.Context()); err != nil {
			t.Errorf("pending Accept: got %v, want nil", err)
		}
	}
}

// TestWatchdogIsNotLimited checks that the watchdog's requests pass every layer without
// being rejected or counted against a client, also with -trusted-proxies.
func TestWatchdogIsNotLimited(t *testing.T) {
	t.Parallel()
	srv := newWatchdogServer(t, "-rate", "1", "-burst", "1", "-max-inboxes", "1", "-max-inboxes-per-ip", "1", "-max-conns-per-ip", "1", "-trusted-proxies", "10.0.0.0/8")
	for range 200 {
		if err := srv.selfTestMailbox(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := srv.limits.Requests.Refused() + srv.limits.Polls.Refused(); n != 0 {
		t.Errorf("got %d rejected watchdog requests, want 0", n)
	}
	for kind, n := range srv.handler.Refusals() {
		if n != 0 {
			t.Errorf("got %d watchdog requests rejected with %s, want 0", n, kind)
		}
	}
}

// TestSelfTestWithInternationalName checks that the watchdog uses the canonical form of the
// name of the server.
func TestSelfTestWithInternationalName(t *testing.T) {
	t.Parallel()
	srv := newWatchdogServer(t, "-domain", "Bücher.example.", "-acme-agree", "-acme-ca", "https://127.0.0.1:1/dir", "-http-bind", "127.0.0.1:0", "-https=true")
	if err := srv.selfTestMailbox(t.Context()); err != nil {
		t.Error(err)
	}
}
