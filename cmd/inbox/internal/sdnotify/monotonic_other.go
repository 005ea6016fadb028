//go:build !linux

package sdnotify

import "time"

// monotonic is used only with systemd, which runs on Linux.
func monotonic() time.Duration { return 0 }
