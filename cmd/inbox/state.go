package main

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"inbox/internal/atomicfile"
)

const (
	secretFile = "secret"
	secretSize = 32
)

// stateDir returns the state directory, which it creates if necessary. If the directory
// is not writable, stateDir logs a warning and returns "".
func stateDir(c *config, environ []string, log *slog.Logger) string {
	dir, err := chooseStateDir(c.state, environ)
	if err == nil {
		err = ensureWritable(dir)
	}
	if err != nil {
		log.Warn("no state directory: certificates, secret and mailboxes do not survive a restart; set a "+
			"writable directory with -state", "err", err)
		return ""
	}
	return dir
}

func chooseStateDir(given string, environ []string) (string, error) {
	if given != "" {
		return given, nil
	}
	if first, _, _ := strings.Cut(lookupEnv(environ, "STATE_DIRECTORY"), ":"); first != "" {
		return first, nil
	}
	if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
		dir, err := os.UserConfigDir()
		return filepath.Join(dir, "inbox"), err
	}
	if dir := lookupEnv(environ, "XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "inbox"), nil
	}
	if home := lookupEnv(environ, "HOME"); home != "" {
		return filepath.Join(home, ".local", "state", "inbox"), nil
	}
	return "", errors.New("neither -state, $STATE_DIRECTORY, $XDG_STATE_HOME nor $HOME is set")
}

// lookupEnv returns the value of a variable, or "". The last of several values counts,
// as in a shell.
func lookupEnv(environ []string, name string) (value string) {
	for _, entry := range environ {
		if v, ok := strings.CutPrefix(entry, name+"="); ok {
			value = v
		}
	}
	return value
}

// ensureWritable creates the directory if necessary and writes a test file.
func ensureWritable(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".try-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// loadSecret returns the secret that keys the password hashes. It is stored in dir and
// generated on first use. If dir is "", the secret lasts only as long as the process.
func loadSecret(dir string) ([]byte, error) {
	generated := make([]byte, secretSize)
	rand.Read(generated)
	if dir == "" {
		return generated, nil
	}
	path := filepath.Join(dir, secretFile)
	if err := atomicfile.Create(path, generated); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("create secret: %w", err)
	}
	stored, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read secret: %w", err)
	}
	if len(stored) != secretSize {
		return nil, fmt.Errorf("secret in %s has %d bytes, want %d; "+
			"remove the file to generate a new secret", path, len(stored), secretSize)
	}
	return stored, nil
}

// deriveKey derives a key for one purpose from the secret (HKDF, RFC 5869).
func deriveKey(secret []byte, purpose string) []byte {
	key, err := hkdf.Key(sha256.New, secret, nil, purpose, secretSize)
	if err != nil {
		panic(err) // only for a key of more than 8160 bytes
	}
	return key
}
