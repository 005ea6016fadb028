// Package machine tells what this process may take of the machine that it runs
// on, keeps its memory below a limit, and gives back what it no longer needs.
package host

import (
	"bufio"
	"math"
	"os"
	"path"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
)

// gcPercent lets garbage grow to four times what lives before it is collected,
// which is a tenth of the cost of a message. The limit of memory holds
// nevertheless: near it Go collects more often.
const gcPercent = 400

// LimitMemory tells the runtime how many bytes to stay below, 0 for no limit,
// unless the operator told it with Go's own variables.
func LimitMemory(limit int64) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if limit > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(limit)
	}
}

// AvailableMemory is how many bytes this process may use: the least of the machine's
// memory and the control groups' limits; 0 when it cannot be told.
func AvailableMemory() int64 {
	least := int64(math.MaxInt64)
	for _, read := range []func() int64{
		totalMemory,
		systemMemory,
		func() int64 { return cgroupMemory("/proc/self/cgroup", "/sys/fs/cgroup") },
		func() int64 { return readNumber("/sys/fs/cgroup/memory/memory.limit_in_bytes") },
	} {
		if n := read(); n > 0 {
			least = min(least, n)
		}
	}
	if least == math.MaxInt64 {
		return 0
	}
	return least
}

// cgroupMemory is the least limit of the control group (version 2) that the
// process is in and of those around it: a service sees the machine's tree, a
// container its own.
func cgroupMemory(membership, cgroupRoot string) int64 {
	text, _ := os.ReadFile(membership) // absent where there are no groups
	group := "/"
	for line := range strings.Lines(string(text)) {
		if own, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			group = own
		}
	}
	var least int64
	// Not with filepath: for Windows, where there are no groups, the root is no slash.
	for group = path.Clean("/" + group); ; group = path.Dir(group) {
		if n := readNumber(filepath.Join(cgroupRoot, group, "memory.max")); n > 0 && (least == 0 || n < least) {
			least = n
		}
		if group == "/" {
			return least
		}
	}
}

// readNumber reads a file with one number; 0 for none, as for "max".
func readNumber(path string) int64 {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return n
}

// totalMemory is MemTotal of /proc/meminfo, where there is one. A container may
// show its own there, which systemMemory does not know.
func totalMemory() int64 {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) >= 2 && fields[0] == "MemTotal:" {
			n, _ := strconv.ParseInt(fields[1], 10, 64)
			return n << 10
		}
	}
	return 0
}
