//go:build !linux

package doctor

import "errors"

// diskOf knows only what the path tells. Elsewhere than on Linux nothing is
// asked about the file system.
func diskOf(dir string) (disk, error) {
	if why := passingPlace(dir); why != "" {
		return disk{passing: why, freeBytes: lowBytes}, nil
	}
	return disk{}, errors.ErrUnsupported
}
