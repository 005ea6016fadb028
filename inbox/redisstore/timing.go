package redisstore

import (
	"context"
	"time"
)

const (
	// callTimeout bounds one call to the store. A call that times out marks its bucket
	// as unavailable and later calls fail at once, so every request is answered within
	// two seconds.
	callTimeout = 1200 * time.Millisecond
	// recheckClusterEvery and recheckSingleEvery bound the time until a watch, or a Put
	// that waits, looks at the mailbox without a wake-up. The servers of a cluster can
	// lose messages that they publish to each other. A single server loses none without
	// ending the subscription, which is monitored; there the recheck is a safeguard only.
	recheckClusterEvery, recheckSingleEvery = 10 * time.Second, time.Minute
	// retryEvery is the delay between connection attempts.
	retryEvery = 250 * time.Millisecond
)

// pause waits for d or until ctx is done.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// signal adds a token to a channel of capacity 1, unless it has one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
