//go:build unix

package sdnotify

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// systemd matches the time with that of its reload request.
func TestReloadingSendsMonotonicTime(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("CLOCK_MONOTONIC is read on Linux only")
	}
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	before := monotonic()
	NewNotifier(getenvFrom("NOTIFY_SOCKET="+path), slog.New(slog.DiscardHandler)).Reloading()
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	buf := make([]byte, 200)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	reloading := strings.Split(string(buf[:n]), "\n")
	text, _ := strings.CutPrefix(reloading[1], "MONOTONIC_USEC=")
	usec, err := strconv.ParseInt(text, 10, 64)
	if at := time.Duration(usec) * time.Microsecond; err != nil || at < before.Truncate(time.Microsecond) || at > monotonic() {
		t.Errorf("got %q, want a time between %v and now", reloading, before)
	}
}

// A missing receiver is logged and has no other effect.
func TestNotifierReachesAbstractSockets(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("abstract sockets exist on Linux only")
	}
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "@inbox-test-" + filepath.Base(t.TempDir()) + strconv.Itoa(os.Getpid()), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var log strings.Builder
	n := NewNotifier(getenvFrom("NOTIFY_SOCKET="+c.LocalAddr().String()), slog.New(slog.NewTextHandler(&log, nil)))
	n.ExtendTimeout(3 * time.Second)
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	buf := make([]byte, 100)
	if got, err := c.Read(buf); err != nil || string(buf[:got]) != "EXTEND_TIMEOUT_USEC=3000000" {
		t.Errorf("got %q, %v", buf[:got], err)
	}
	c.Close()
	n.Ready("")
	if !strings.Contains(log.String(), "sd_notify failed") {
		t.Errorf("the failure was not logged:\n%s", log.String())
	}
	NewNotifier(getenvFrom(""), nil).Ready("") // does nothing without a service manager
}

// The interval applies only to the process in $WATCHDOG_PID.
func TestWatchdogInterval(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		environ string
		want    time.Duration
	}{
		{"", 0},
		{"WATCHDOG_USEC=3000000", 3 * time.Second},
		{"WATCHDOG_USEC=3000000 WATCHDOG_PID=7", 3 * time.Second},
		{"WATCHDOG_USEC=3000000 WATCHDOG_PID=8", 0},
		{"WATCHDOG_USEC=0", 0},
		{"WATCHDOG_USEC=-5", 0},
		{"WATCHDOG_USEC=soon", 0},
		{"WATCHDOG_USEC=9223372036854775807", 0},
	} {
		if got := WatchdogInterval(getenvFrom(test.environ), 7); got != test.want {
			t.Errorf("%q: got %v, want %v", test.environ, got, test.want)
		}
	}
}

// The socket is opened once, so that a server without free file descriptors is
// not killed by the watchdog, and reopened when the service manager recreates it.
func TestNotifierReusesSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n")
	listen := func() *net.UnixConn {
		c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		return c
	}
	first := listen()
	n := NewNotifier(getenvFrom("NOTIFY_SOCKET="+path), slog.New(slog.DiscardHandler))
	n.Ready("")
	if err := os.Rename(path, path+".moved"); err != nil { // prevents new connections
		t.Fatal(err)
	}
	n.ExtendTimeout(time.Second)
	for _, want := range []string{"READY=1\nSTATUS=", "EXTEND_TIMEOUT_USEC=1000000"} {
		buf := make([]byte, 100)
		if got, err := first.Read(buf); err != nil || string(buf[:got]) != want {
			t.Errorf("got %q, %v, want %q", buf[:got], err, want)
		}
	}
	first.Close()
	second := listen()
	defer second.Close()
	n.ExtendTimeout(time.Second)
	if _, err := second.Read(make([]byte, 100)); err != nil {
		t.Errorf("the second socket: %v", err)
	}
}

// A service manager that does not read delays a call by a second at most.
func TestNotifierTimesOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var log strings.Builder
	n := NewNotifier(getenvFrom("NOTIFY_SOCKET="+path), slog.New(slog.NewTextHandler(&log, nil)))
	done := make(chan struct{})
	go func() { // until the socket buffer is full, and once more
		defer close(done)
		for range 100_000 {
			if n.ExtendTimeout(time.Second); log.Len() > 0 {
				return
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("a call blocks on a service manager that does not read")
	}
	if !strings.Contains(log.String(), "sd_notify failed") {
		t.Errorf("the failure was not logged:\n%s", log.String())
	}
}
