package sdnotify

import (
	"time"

	sys "golang.org/x/sys/unix"
)

// monotonic reads CLOCK_MONOTONIC, which package time does not expose.
func monotonic() time.Duration {
	var t sys.Timespec
	if sys.ClockGettime(sys.CLOCK_MONOTONIC, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
