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
	}
}
