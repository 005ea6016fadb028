//go:build unix

package host

import (
	"os"

	"golang.org/x/sys/unix"
)

// TerminalColumns returns the width of the terminal that the file is, or 0 if it is none or has no
// known width.
func TerminalColumns(f *os.File) (columns int) {
	raw, err := f.SyscallConn() // Fd would make the file blocking, for other processes, too
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		if size, err := unix.IoctlGetWinsize(int(fd), unix.TIOCGWINSZ); err == nil {
			columns = int(size.Col)
		}
	})
	return columns
}

// IsTerminal reports whether the file is a terminal.
func IsTerminal(f *os.File) (is bool) {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	_ = raw.Control(func(fd uintptr) {
		_, err := unix.IoctlGetWinsize(int(fd), unix.TIOCGWINSZ)
		is = err == nil
	})
	return is
}
