package sdnotify

import (
	"time"

	sys "golang.org/x/sys/unix"
)

// monotonic is CLOCK_MONOTONIC, which Go keeps to itself.
func monotonic() time.Duration {
	var t sys.Timespec
	if sys.ClockGettime(sys.CLOCK_MONOTONIC, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
