//go:build unix

package diskfull

import (
	"errors"
	"syscall"
)

// Is reports whether err means that the disk or the quota of the user is full.
func Is(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
