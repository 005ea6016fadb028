//go:build unix

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
	if ready[0] != "READY=1" || len(ready) != 2 || !strings.HasPrefix(ready[1], "STATUS=Serving HTTP on "+addr.String()) {
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
// process is suspended, and resume. No client connects to the server.
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
