package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"inbox/cmd/inbox/internal/snapshot"
)

// mountSmallDisk returns a file system of 256 KiB. It skips the test unless it runs as root
// with the right to mount.
func mountSmallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("inbox-test", dir, "tmpfs", 0, "size=256k,mode=700"); err != nil {
		t.Skipf("mount a file system: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fillDisk writes a file until the disk is full, and then frees the given number of bytes.
func fillDisk(t *testing.T, dir string, freeBytes int64) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4<<10))
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(info.Size() - freeBytes); err != nil {
		t.Fatal(err)
	}
}

// TestFullDiskAtFirstStart checks that the server runs without a state directory.
func TestFullDiskAtFirstStart(t *testing.T) {
	dir := mountSmallDisk(t)
	fillDisk(t, dir, 0)
	p := start(t, "-state", filepath.Join(dir, "state"))
	p.claim("alice")
	p.mustStop()
	p.wantLog("no state directory")
}

// TestFullDiskAtLaterStart checks that the secret and the mailboxes are read from a full disk.
func TestFullDiskAtLaterStart(t *testing.T) {
	dir := mountSmallDisk(t)
	p := startIn(t, dir)
	p.claim("alice")
	p.want(http.StatusOK, "POST", "/inbox?to=alice", "bob", "hello")
	p.mustStop()
	fillDisk(t, dir, 0)
	p = startIn(t, dir)
	if got := p.want(http.StatusOK, "GET", "/inbox", "alice", "").body; got != "hello" {
		t.Errorf("got %q, want hello", got)
	}
}

// TestFullDiskAtSave checks that a disk that is filled while the server runs costs the
// messages of the largest mailbox only, that the exit code reports it, and that the next
// start restores the rest.
func TestFullDiskAtSave(t *testing.T) {
	dir := mountSmallDisk(t)
	p := startIn(t, dir)
	for _, name := range []string{"alice", "bob"} {
		p.claim(name)
	}
	p.want(http.StatusOK, "POST", "/inbox?to=alice", "carol", strings.Repeat("x", 200<<10))
	p.want(http.StatusOK, "POST", "/inbox?to=bob", "carol", "hello")
	fillDisk(t, dir, 64<<10)
	if code := p.stop(); code != exitFailure {
		t.Errorf("exit code %d, want 1", code)
	}
	p.wantLog("inbox: the disk of the state directory is full: 0 mailboxes and 1 messages were not saved")
	wantMode(t, dir, snapshot.FileName, 0o600)
	p = startIn(t, dir)
	p.wantLog(`msg="mailboxes restored" inboxes=3 messages=1`)
	if got := p.want(http.StatusOK, "GET", "/inbox", "bob", "").body; got != "hello" {
		t.Errorf("got %q, want hello", got)
	}
	p.want(http.StatusNoContent, "GET", "/inbox?wait=0", "alice", "")
}

// TestLostOutput checks that output which is lost on a full disk is a failure, and that the end of
// the reader of a pipe is none.
func TestLostOutput(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	reader, closed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer closed.Close()
	reader.Close()
	for _, args := range [][]string{{"config"}, {"help"}, {"help", "man"}, {"version"}} {
		for out, want := range map[*os.File]int{full: exitFailure, closed: exitDone} {
			var stderr strings.Builder
			code := run(t.Context(), process{args: args, environ: []string{"HOME=" + t.TempDir()}, stdout: out, stderr: &stderr})
			if code != want || (want == exitFailure) != strings.Contains(stderr.String(), "the output is incomplete: ") {
				t.Errorf("%q to %s: got exit code %d and %q, want %d", args, out.Name(), code, stderr.String(), want)
			}
		}
	}
}
