package host

import (
	"os"

	"golang.org/x/sys/windows"
)

// TerminalColumns returns the width of the terminal that the file is, or 0 if it is none or does
// not understand escape sequences.
func TerminalColumns(f *os.File) int {
	console := windows.Handle(f.Fd())
	var mode uint32
	var info windows.ConsoleScreenBufferInfo
	if windows.GetConsoleMode(console, &mode) != nil || mode&windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING == 0 ||
		windows.GetConsoleScreenBufferInfo(console, &info) != nil {
		return 0
	}
	return int(info.Window.Right - info.Window.Left + 1)
}

// IsTerminal reports whether the file is a terminal that understands escape sequences.
func IsTerminal(f *os.File) bool { return TerminalColumns(f) > 0 }
