package inbox

import (
	"context"
	"errors"
	"time"
)

// retryUnavailableEvery is how often [WaitNext] tries an unavailable store.
const retryUnavailableEvery = time.Second

// WaitNext is Next that waits up to wait for a message. When the store becomes
// unavailable during the wait, WaitNext keeps trying until the wait is over.
//
// Errors: those of Next and of Watch; ErrEmpty if no message came in time.
func WaitNext(ctx context.Context, s Store, c Claim, after uint64, wait time.Duration) (Message, error) {
	if wait <= 0 {
		return s.Next(ctx, c, after)
	}
	events := make(chan error, 1)
	stop, err := s.Watch(c, func(end error) { pushEvent(events, end) })
	if err != nil {
		return Message{}, err
	}
	defer stop()
	deadline := time.Now().Add(wait)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case end := <-events:
			if end != nil {
				return Message{}, end
			}
		case <-timer.C:
			if !time.Now().Before(deadline) {
				return Message{}, ErrEmpty
			}
		case <-ctx.Done():
			return Message{}, ctx.Err()
		}
		m, err := s.Next(ctx, c, after)
		remaining := time.Until(deadline)
		switch {
		case errors.Is(err, ErrStoreUnavailable):
			timer.Reset(min(remaining, retryUnavailableEvery))
		case errors.Is(err, ErrEmpty):
			timer.Reset(remaining)
		default:
			return m, err
		}
	}
}

// pushEvent puts an event of a watch into a channel of capacity 1. An end
// replaces a message that was not read yet, and nothing follows it.
func pushEvent(events chan error, end error) {
	for {
		select {
		case events <- end:
			return
		default:
		}
		if end == nil {
			return // one event to look is enough
		}
		select {
		case <-events:
		default:
		}
	}
}
