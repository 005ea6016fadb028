// Package proc looks at a process from outside, through Linux's /proc and its
// clock: what it holds of the machine.
package proc

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ID is the number of a process.
type ID int

// RSS is the memory it has now, in bytes; negative when it is gone.
func (p ID) RSS() int64 { return p.status("VmRSS:") << 10 }

// AnonRSS is what of that is not the program file itself, which is read in as it is used.
func (p ID) AnonRSS() int64 { return p.status("RssAnon:") << 10 }

// PeakRSS is the most memory that it had.
func (p ID) PeakRSS() int64 { return p.status("VmHWM:") << 10 }

// Threads is how many the kernel runs for it; -1 when it is gone.
func (p ID) Threads() int64 { return p.status("Threads:") }

// OpenFiles is how many files and connections are open; -1 when it is gone.
func (p ID) OpenFiles() int {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p))
	if err != nil {
		return -1
	}
	return len(entries)
}

// CPU is how long all its threads have run, on any core, to the nanosecond. The
// times in /proc/PID/stat come in ticks of 10 ms, too coarse for a short round.
func (p ID) CPU() (time.Duration, error) {
	// The process's CPU clock, as clock_getcpuclockid(3) makes it on Linux.
	const schedClock = 2
	clock := ^int32(p)<<3 | schedClock
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, fmt.Errorf("read the CPU time of process %d: %w", p, err)
	}
	return time.Duration(t.Nano()), nil
}

// status reads a number of /proc/PID/status; -1 when the process is gone.
func (p ID) status(field string) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p))
	if err != nil {
		return -1
	}
	_, after, _ := strings.Cut(string(text), field)
	words := strings.Fields(after)
	if len(words) == 0 {
		return -1
	}
	n, _ := strconv.ParseInt(words[0], 10, 64) // the kernel's own number
	return n
}
