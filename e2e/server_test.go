package e2e

import (
	"errors"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// script returns a shell script that imitates the log of the server.
func script(text string) *exec.Cmd { return exec.Command("sh", "-c", text) }

// TestServerForwardsItsLog checks that whole lines are passed on, including those at
// exit.
func TestServerForwardsItsLog(t *testing.T) {
	var lines []string
	s, err := StartWith(script(`trap 'echo bye >&2; exit 0' TERM
		printf 'first\nmsg=list' >&2; echo 'ening addr=127.0.0.1:1' >&2
		while :; do sleep 0.01; done`), func(line string) { lines = append(lines, line) })
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	if want := []string{"first", "msg=listening addr=127.0.0.1:1", "bye"}; s.Addr != "127.0.0.1:1" || !slices.Equal(lines, want) {
		t.Errorf("got %q at %s, want %q", lines, s.Addr, want)
	}
}

// TestServerStartFailure checks that the error contains the last log line, which is the
// reason.
func TestServerStartFailure(t *testing.T) {
	_, err := StartWith(script("echo first >&2; echo the port is taken >&2; exit 1"), nil)
	if err == nil || !strings.Contains(err.Error(), "sh exited; last log line: the port is taken") {
		t.Errorf("got %v, want an error with the last log line", err)
	}
}

// TestServerReportsHowItExited checks that StopWithSignal returns the exit status.
func TestServerReportsHowItExited(t *testing.T) {
	s, err := StartWith(script("echo msg=listening addr=127.0.0.1:1 >&2; exec sleep 60"), nil)
	if err != nil {
		t.Fatal(err)
	}
	err = s.StopWithSignal(syscall.SIGKILL)
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("got %v, want SIGKILL", err)
	}
}

// TestLogLinesAreBounded checks that the memory for a line without an end is bounded.
func TestLogLinesAreBounded(t *testing.T) {
	var got int
	l := &logLines{onLine: func(line string) { got += len(line) }, addr: make(chan string, 1)}
	part := []byte(strings.Repeat("x", 1000))
	for range 1000 {
		l.Write(part)
	}
	if len(l.partial) >= maxLine || got+len(l.partial) != 1_000_000 {
		t.Errorf("got %d bytes passed on and %d kept, want 1000000 in total and less than %d kept", got, len(l.partial), maxLine)
	}
}
