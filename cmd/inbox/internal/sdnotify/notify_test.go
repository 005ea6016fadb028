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

// The service manager tells by the time which of its requests a reload answers.
func TestReloadingSendsMonotonicTime(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the clock of systemd is Linux's")
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
		t.Errorf("%q: want the time since %v", reloading, before)
	}
}

// A name in the abstract namespace is understood, and nobody there harms nothing.
func TestNotifierReachesAbstractSockets(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("abstract sockets are Linux's")
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
	if !strings.Contains(log.String(), "service manager could not be told") {
		t.Errorf("the log does not say that nobody listens:\n%s", log.String())
	}
	NewNotifier(getenvFrom(""), nil).Ready("") // no manager: nothing to do
}

// Only the process that is meant is watched.
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

// The socket is opened once, for a server that is out of files must not be
// killed for it, and anew when the service manager made another.
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
	if err := os.Rename(path, path+".away"); err != nil { // nobody can connect any more
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

// A service manager that does not read holds nobody up for long.
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
	go func() { // until the socket is full, and once more
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
		t.Fatal("a notice waits for a service manager that does not read")
	}
	if !strings.Contains(log.String(), "service manager could not be told") {
		t.Errorf("the log does not say that nobody reads:\n%s", log.String())
	}
}
