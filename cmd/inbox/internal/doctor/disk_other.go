//go:build !linux

package doctor

import "errors"

// statDisk knows only what the path tells. Elsewhere than on Linux nothing is
// asked about the file system.
func statDisk(dir string) (disk, error) {
	if why := ephemeralPath(dir); why != "" {
		return disk{ephemeral: why, freeBytes: minFreeBytes}, nil
	}
	return disk{}, errors.ErrUnsupported
}
