package attack

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// process is the id of the server's process, to look at from outside.
type process int

// rss is the memory it has now, peak the most that it had, own what of the
// former is not the program file itself, which is read in as it is used.
func (p process) rss() int64  { return p.status("VmRSS:") << 10 }
func (p process) own() int64  { return p.status("RssAnon:") << 10 }
func (p process) peak() int64 { return p.status("VmHWM:") << 10 }

func (p process) threads() int64 { return p.status("Threads:") }

// files is how many files and connections are open; -1 when it is gone.
func (p process) files() int {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p))
	if err != nil {
		return -1
	}
	return len(entries)
}

// cpu is how many hundredths of a second it has run.
func (p process) cpu() int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p))
	_, after, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(after)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return user + system
}

// status reads a number of /proc/PID/status; -1 when the process is gone.
func (p process) status(field string) int64 {
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
