package memory

import (
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"testing"
)

// The limit can be that of the service, of its slice or of a container.
func TestCgroupMemory(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	write := func(path, text string) string {
		t.Helper()
		path = filepath.Join(tree, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("system.slice/memory.max", "2000\n")
	write("system.slice/inbox.service/memory.max", "max\n")
	write("system.slice/small.service/memory.max", "1000\n")
	write("system.slice/large.service/memory.max", "3000\n")
	write("user.slice/memory.max", "max\n")
	for _, test := range []struct {
		membership string
		want       int64
	}{
		{"0::/system.slice/inbox.service\n", 2000},
		{"1:memory:/x\n0::/system.slice/small.service\n", 1000},
		{"0::/system.slice/large.service\n", 2000},
		{"0::/user.slice/some\n", 0},
		{"0::/../../etc\n", 0},
		{"", 0},
	} {
		if got := cgroupMemory(write("self", test.membership), tree); got != test.want {
			t.Errorf("%q: got %d, want %d", test.membership, got, test.want)
		}
	}
	write("memory.max", "500") // a container sees its own limit there
	if got := cgroupMemory(write("self", "0::/\n"), tree); got != 500 {
		t.Errorf("in a container: got %d, want 500", got)
	}
}

func TestMachineMemoryIsKnown(t *testing.T) {
	t.Parallel()
	if total, system := totalMemory(), systemMemory(); total > 0 && (system < total/2 || system > total*2) {
		t.Errorf("got %d bytes from sysinfo, %d from /proc/meminfo; want about the same", system, total)
	}
}

// The environment variables of the runtime take precedence.
func TestSetLimit(t *testing.T) {
	before, percent := debug.SetMemoryLimit(-1), debug.SetGCPercent(100)
	defer func() { debug.SetMemoryLimit(before); debug.SetGCPercent(percent) }()
	for _, test := range []struct {
		limit            int64
		memory, garbage  string // in the environment
		want             int64
		wantGarbageAfter int
	}{
		{1 << 40, "", "", 15 << 36, maxGCPercent},
		{0, "", "", before, maxGCPercent},
		{1 << 40, "1TiB", "", before, maxGCPercent},
		{1 << 40, "", "50", 15 << 36, 100},
	} {
		debug.SetMemoryLimit(before)
		debug.SetGCPercent(100)
		t.Setenv("GOMEMLIMIT", test.memory)
		t.Setenv("GOGC", test.garbage)
		SetLimit(test.limit)
		if limit, garbage := debug.SetMemoryLimit(-1), debug.SetGCPercent(100); limit != test.want || garbage != test.wantGarbageAfter {
			t.Errorf("%+v: got memory limit %d, GC percentage %d", test, limit, garbage)
		}
	}
}

// TestResident checks that used memory is counted.
func TestResident(t *testing.T) {
	before := Resident()
	used := make([]byte, 64<<20)
	for i := range used {
		used[i] = 1
	}
	if after := Resident(); before < 1<<20 || after < before+32<<20 {
		t.Errorf("got %d bytes and then %d, want 64 MiB more", before, after)
	}
	runtime.KeepAlive(used)
}
