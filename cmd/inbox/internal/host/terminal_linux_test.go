package host

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTerminalColumns(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	if got := TerminalColumns(terminal); got != 0 {
		t.Errorf("terminal without a size: got %d, want 0", got)
	}
	if !IsTerminal(terminal) {
		t.Error("a terminal without a size is not recognized")
	}
	if err := unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 97}); err != nil {
		t.Fatal(err)
	}
	if got := TerminalColumns(terminal); got != 97 {
		t.Errorf("terminal: got %d columns, want 97", got)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	closed, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for name, f := range map[string]*os.File{"pipe": w, "closed file": closed} {
		if got := TerminalColumns(f); got != 0 {
			t.Errorf("%s: got %d columns, want 0", name, got)
		}
		if IsTerminal(f) {
			t.Errorf("%s: got a terminal", name)
		}
	}
}

func TestAllowsColour(t *testing.T) {
	for _, row := range []struct {
		noColour, term string
		want           bool
	}{{"", "xterm", true}, {"", "", true}, {"1", "xterm", false}, {"", "dumb", false}} {
		if got := AllowsColour(func(name string) string { return map[string]string{"NO_COLOR": row.noColour, "TERM": row.term}[name] }); got != row.want {
			t.Errorf("%+v: got %v", row, got)
		}
	}
}
