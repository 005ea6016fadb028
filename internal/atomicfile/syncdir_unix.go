//go:build unix

package atomicfile

import (
	"errors"
	"os"
)

// SyncDir makes renames and removals in a directory survive a power failure. It
// does nothing on systems that cannot sync directories.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
