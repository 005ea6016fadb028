package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
)

func TestChooseStateDir(t *testing.T) {
	rows := []struct {
		given   string
		environ []string
		want    string
	}{
		{"/given", []string{"STATE_DIRECTORY=/systemd"}, "/given"},
		{"", []string{"STATE_DIRECTORY=/one:/two", "HOME=/home/me"}, "/one"},
		{"", []string{"XDG_STATE_HOME=/xdg", "HOME=/home/me"}, "/xdg/inbox"},
		{"", []string{"XDG_STATE_HOME=relative", "HOME=/home/me"}, "/home/me/.local/state/inbox"},
		{"", []string{"HOME=/home/me"}, "/home/me/.local/state/inbox"},
		{"", nil, ""},
	}
	if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
		rows = rows[:2] // the remaining rows apply to other systems
	}
	for _, tt := range rows {
		got, err := chooseStateDir(tt.given, tt.environ)
		if got != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("chooseStateDir(%q, %q) = %q, %v; want %q", tt.given, tt.environ, got, err, tt.want)
		}
	}
}

var fingerprintPattern = regexp.MustCompile(`(?:[0-9A-F]{2}:){31}[0-9A-F]{2}`)

// TestStateSurvivesRestart checks that a restart reuses the secret and the self-signed
// certificate, so that browsers warn only once.
func TestStateSurvivesRestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "state")
	var prints, secrets []string
	for range 2 {
		p := start(t, "-state", dir)
		p.stop()
		kept, err := os.ReadFile(filepath.Join(dir, secretFile))
		if err != nil {
			t.Fatal(err)
		}
		prints = append(prints, fingerprintPattern.FindString(p.log.String()))
		secrets = append(secrets, string(kept))
	}
	if prints[0] == "" || prints[0] != prints[1] {
		t.Errorf("fingerprints %q, want the same twice", prints)
	}
	if len(secrets[0]) != secretSize || secrets[0] != secrets[1] {
		t.Error("the secret changed")
	}
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, secretFile): 0o600} {
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

// TestSecretIsCreatedOnce checks that concurrent starts on one directory use one secret.
func TestSecretIsCreatedOnce(t *testing.T) {
	dir := t.TempDir()
	found := make([][]byte, 8)
	var all sync.WaitGroup
	for i := range found {
		all.Go(func() { found[i], _ = loadSecret(dir) })
	}
	all.Wait()
	for _, s := range found {
		if len(s) != secretSize || !bytes.Equal(s, found[0]) {
			t.Fatal("concurrent starts loaded different secrets")
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("got %d files in the directory, want 1", len(entries))
	}
}

func TestDerivedKeysDiffer(t *testing.T) {
	key := bytes.Repeat([]byte{1}, secretSize)
	payers, snapshots := deriveKey(key, "payers"), deriveKey(key, "snapshots")
	if bytes.Equal(payers, snapshots) || bytes.Equal(payers, key) || len(payers) != secretSize {
		t.Errorf("derived %x and %x from %x", payers, snapshots, key)
	}
}

func TestSecretInMemoryIsNew(t *testing.T) {
	a, err := loadSecret("")
	b, err2 := loadSecret("")
	if err != nil || err2 != nil || len(a) != secretSize || bytes.Equal(a, b) {
		t.Errorf("got secrets of %d and %d bytes, equal: %v; want two different ones", len(a), len(b), bytes.Equal(a, b))
	}
}
