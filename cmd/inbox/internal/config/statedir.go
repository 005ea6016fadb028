package config

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// stateDir returns the state directory: the given one, the first of $STATE_DIRECTORY,
// or one in the user's home directory; "" without any of these.
func stateDir(given string, getenv func(name string) string) string {
	if given != "" {
		return given
	}
	if first, _, _ := strings.Cut(getenv("STATE_DIRECTORY"), ":"); first != "" {
		return first
	}
	if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
		dir, err := os.UserConfigDir()
		if err != nil {
			return ""
		}
		return filepath.Join(dir, "inbox")
	}
	if dir := getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "inbox")
	}
	if home := getenv("HOME"); home != "" {
		return filepath.Join(home, ".local", "state", "inbox")
	}
	return ""
}
