// Package memory reports how much memory the machine or the container grants to this
// process, sets the runtime's limit and returns unused memory to the system.
package memory

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

// uncountedPart of the memory limit is for what the runtime does not count: the pages of the
// program itself, and what it allocates before a collection has ended.
const uncountedPart = 16

// SetLimit sets the runtime's soft memory limit so that the process occupies about limit bytes,
// 0 for no limit, and its GC percentage, which a [Scavenger] adjusts. $GOMEMLIMIT and $GOGC take
// precedence.
func SetLimit(limit int64) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(maxGCPercent)
	}
	if limit > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(limit - limit/uncountedPart)
	}
}

// Available returns the number of bytes that this process can use: the
// minimum of the machine's memory and the control groups' limits. It returns 0
// if that is unknown.
func Available() int64 {
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

// cgroupMemory returns the lowest memory limit of the process's control group
// (version 2) and its ancestors, 0 for none. A service sees the tree of the
// machine, a container its own.
func cgroupMemory(membership, cgroupRoot string) int64 {
	text, _ := os.ReadFile(membership) // absent without control groups
	group := "/"
	for line := range strings.Lines(string(text)) {
		if own, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			group = own
		}
	}
	var least int64
	// Not filepath: its root is not a slash on Windows.
	for group = path.Clean("/" + group); ; group = path.Dir(group) {
		if n := readNumber(filepath.Join(cgroupRoot, group, "memory.max")); n > 0 && (least == 0 || n < least) {
			least = n
		}
		if group == "/" {
			return least
		}
	}
}

// readNumber reads a file that contains one number; anything else, like "max", is 0.
func readNumber(path string) int64 {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return n
}

// totalMemory returns MemTotal of /proc/meminfo in bytes, 0 without that file.
// Some containers show their own limit there, which sysinfo(2) does not.
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
