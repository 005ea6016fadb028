//go:build !linux

package doctor

import "errors"

// statDisk evaluates only the path: the file system is queried on Linux only.
func statDisk(dir string) (disk, error) {
	if why := ephemeralPath(dir); why != "" {
		return disk{ephemeral: why, freeBytes: minFreeBytes}, nil
	}
	return disk{}, errors.ErrUnsupported
}
