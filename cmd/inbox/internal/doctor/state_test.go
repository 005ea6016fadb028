package doctor

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestDoctorChecksState(t *testing.T) {
	with := func(d disk, err error) func(*testEnv) {
		return func(s *testEnv) { s.disk = func(string) (disk, error) { return d, err } }
	}
	roomy := disk{freeBytes: 1 << 30, allInodes: 1 << 20, freeInodes: 1 << 20}
	ephemeral, full, crowded, uncounted := roomy, roomy, roomy, roomy
	ephemeral.ephemeral = "is in memory only"
	full.freeBytes = 3 << 20
	crowded.freeInodes = 7
	uncounted.allInodes, uncounted.freeInodes = 0, 0
	runCases(t, []testCase{
		{"good", func(*testEnv) {}, expect{"state", OK, "Writable and persistent", ""}},
		{"none", func(s *testEnv) { s.StateDir = "" }, expect{"state", Failure, "No state directory", "-state"}},
		{"a file in its place", func(s *testEnv) {
			s.StateDir += "/file"
			os.WriteFile(s.StateDir, nil, 0o600)
		}, expect{"state", Failure, "not a directory", "The path contains a file"}},
		{"a file among its parents", func(s *testEnv) {
			os.WriteFile(s.StateDir+"/file", nil, 0o600)
			s.StateDir += "/file/state"
		}, expect{"state", Failure, "not a directory", "The path contains a file"}},
		{"open to others", func(s *testEnv) { os.Chmod(s.StateDir, 0o755) }, expect{"state", Warning, "(mode 0755)", "chmod 700"}},
		{"ephemeral", with(ephemeral, nil), expect{"state", Warning, "The directory is in memory only, so certificates are lost", "/var/lib/inbox"}},
		{"full", with(full, nil), expect{"state", Warning, "Only 3 MiB are free", "Free some space"}},
		{"out of inodes", with(crowded, nil), expect{"state", Warning, "Only 7 inodes", "small files"}},
		{"no inodes counted", with(uncounted, nil), expect{"state", OK, "Writable and persistent", ""}},
		{"unknown", with(disk{}, errNoDisk), expect{"state", Warning, "could not be examined: no such file system", "Make sure"}},
	})
}

// A directory created by the doctor, running as root, would have the wrong owner.
func TestDoctorLeavesNothingBehind(t *testing.T) {
	s := newTestEnv(t)
	parent := s.StateDir
	s.StateDir = filepath.Join(parent, "not", "there")
	s.expectFinding(expect{"state", OK, "Writable", ""})
	if left, err := os.ReadDir(parent); err != nil || len(left) != 0 {
		t.Errorf("got %v, %v, want an empty directory", left, err)
	}
	s.StateDir = parent
	s.expectFinding(expect{"state", OK, "Writable", ""})
	if left, err := os.ReadDir(parent); err != nil || len(left) != 0 {
		t.Errorf("got %v, %v, want an empty directory", left, err)
	}
}

func TestFixForWrite(t *testing.T) {
	for err, want := range map[error]string{
		fs.ErrPermission: "chown", syscall.EACCES: "chown", syscall.ENOSPC: "Free some space", syscall.EDQUOT: "Free some space",
		syscall.EROFS: "ReadWritePaths=", syscall.ENOTDIR: "The path contains a file", syscall.EIO: "another directory",
	} {
		if got := fixForWrite(fmt.Errorf("write: %w", err)); !strings.Contains(got, want) {
			t.Errorf("fixForWrite(%v) = %q, want %q in it", err, got, want)
		}
	}
}

func TestEphemeralPath(t *testing.T) {
	for path, want := range map[string]bool{
		"/tmp": true, "/tmp/x": true, "/tmpx": false, "/run/inbox": true, "/dev/shm/x": true, "/var/lib/inbox": false, "/var/tmp/x": true,
	} {
		if got := ephemeralPath(path); (got != "") != want {
			t.Errorf("ephemeralPath(%s) = %q, want a reason: %v", path, got, want)
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("/dev/shm", link); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/dev/shm"); err == nil && ephemeralPath(link) == "" {
		t.Error("a link to an ephemeral directory is not detected")
	}
}
