package main

import (
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

var fingerprintPattern = regexp.MustCompile(`(?:[0-9A-F]{2}:){31}[0-9A-F]{2}`)

// TestStateSurvivesRestart checks that a restart reuses the secret and the self-signed
// certificate, so that browsers warn only once.
func TestStateSurvivesRestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "state")
	var prints, secrets []string
	for range 2 {
		p := start(t, "-state", dir)
		p.stop()
		kept, err := os.ReadFile(filepath.Join(dir, "secret"))
		if err != nil {
			t.Fatal(err)
		}
		prints = append(prints, fingerprintPattern.FindString(p.log.String()))
		secrets = append(secrets, string(kept))
	}
	if prints[0] == "" || prints[0] != prints[1] {
		t.Errorf("fingerprints %q, want the same twice", prints)
	}
	if len(secrets[0]) != 32 || secrets[0] != secrets[1] {
		t.Error("the secret changed")
	}
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "secret"): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want %v", filepath.Base(path), info.Mode().Perm(), err, want)
		}
	}
}

func TestMissingStateDirWarning(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	writeFile(t, file, "")
	dirs := []string{filepath.Join(file, "below")}
	if runtime.GOOS == "linux" {
		dirs = append(dirs, "/proc/self") // exists, but not even root can create files in it
	}
	for _, dir := range dirs {
		p := start(t, "-state", dir)
		p.claim("alice")
		if n := strings.Count(p.log.String(), "level=WARN"); n != 1 || !strings.Contains(p.log.String(), "-state") {
			t.Errorf("%s: %d warnings, want one that names -state:\n%s", dir, n, p.log)
		}
	}
}
