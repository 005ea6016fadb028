// Package state opens the state directory of a server and the secret in it, from which all keys
// follow.
package state

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

	"inbox/cmd/inbox/internal/config"
	"inbox/internal/atomicfile"
	"inbox/internal/diskfull"
	"inbox/internal/privatefile"
)

const (
	// SecretFile is the file of the secret.
	SecretFile = "secret"
	secretSize = 32
	// maxSecretBytes is more than is read of any secret.
	maxSecretBytes = 4 << 10
)

// openStateDir returns the state directory, which it creates if necessary. If there is
// none, or it is not writable, openStateDir logs a warning and returns "".
func openStateDir(dir string, log *slog.Logger) string {
	err := errors.New("neither -state, $STATE_DIRECTORY nor a home directory is set")
	if dir != "" {
		err = ensureWritable(dir)
	}
	switch _, statErr := os.Lstat(filepath.Join(dir, SecretFile)); {
	case err == nil:
		return dir
	case diskfull.Is(err) && statErr == nil:
		log.Warn("the disk of the state directory is full; free space on it", "err", err)
		return dir
	}
	warnNoState(log, err)
	return ""
}

// Open returns the state directory and the key of the hashes of passwords and payers.
// A disk that is full at the first start is treated like a directory that is not writable.
// Later starts need no space.
func Open(c *config.Config, log *slog.Logger) (dir string, key []byte, err error) {
	if dir = openStateDir(c.StateDir, log); dir != "" {
		if err := inspectStateDir(dir, log); err != nil {
			return "", nil, err
		}
	}
	if key, err = passwordHashKey(c, dir); diskfull.Is(err) {
		warnNoState(log, err)
		dir = ""
		key, err = passwordHashKey(c, dir)
	}
	return dir, key, err
}

// inspectStateDir returns an error if another user can have placed a directory in the state
// directory, and warns if other users can read or write files.
func inspectStateDir(dir string, log *slog.Logger) error {
	r := privatefile.Inspect(dir)
	if r.Writable {
		log.Warn("other users can write to the state directory", "dir", dir, "fix", "chmod 700 "+dir)
	}
	if len(r.Exposed) > 0 {
		log.Warn("other users can read or write files in the state directory", "file", r.Exposed[0], "count", len(r.Exposed),
			"fix", "chmod -R go-rwx "+dir)
	}
	return errors.Join(r.Unsafe...)
}

func warnNoState(log *slog.Logger, err error) {
	log.Warn("no state directory: certificates, secret and mailboxes do not survive a restart; set a "+
		"writable directory with -state", "err", err)
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

// passwordHashKey returns the key of the hashes of passwords and payers. Nodes on one
// store must produce equal hashes, so they use a constant; the hashes leave the process
// only after the store has hashed them again with its own secret.
func passwordHashKey(c *config.Config, dir string) ([]byte, error) {
	if c.Store != nil {
		shared := sha256.Sum256([]byte("inbox: nodes of one store"))
		return shared[:], nil
	}
	return loadSecret(dir)
}

// loadSecret returns the secret that keys the password hashes. It is stored in dir and
// generated on first use. If dir is "", the secret lasts only as long as the process.
func loadSecret(dir string) ([]byte, error) {
	generated := make([]byte, secretSize)
	rand.Read(generated)
	if dir == "" {
		return generated, nil
	}
	path := filepath.Join(dir, SecretFile)
	if err := atomicfile.Create(path, generated); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("create secret: %w", err)
	}
	stored, err := privatefile.Read(path, maxSecretBytes)
	if err != nil {
		return nil, fmt.Errorf("read secret: %w", err)
	}
	if len(stored) != secretSize {
		return nil, fmt.Errorf("secret in %s has %d bytes, want %d; "+
			"remove the file to generate a new secret", path, len(stored), secretSize)
	}
	return stored, nil
}

// DeriveKey derives a key for one purpose from the secret (HKDF, RFC 5869).
func DeriveKey(secret []byte, purpose string) []byte {
	key, err := hkdf.Key(sha256.New, secret, nil, purpose, secretSize)
	if err != nil {
		panic(err) // only for a key of more than 8160 bytes
	}
	return key
}
