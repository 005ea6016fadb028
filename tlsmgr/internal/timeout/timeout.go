// Package timeout bounds waits, including those for calls that cannot be canceled, such as
// calls of a disk or a library.
package timeout

import (
	"context"
	"errors"
	"time"
)

// Err is returned by [Call] when the limit has passed.
var Err = errors.New("timeout: the disk does not respond")

// Call returns the result of do, or Err when do has not returned within limit. Then do
// still runs in its goroutine, so it must not write what the caller reads.
func Call[T any](limit time.Duration, do func() (T, error)) (zero T, _ error) {
	result := make(chan func() (T, error), 1)
	go func() {
		value, err := do()
		result <- func() (T, error) { return value, err }
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case get := <-result:
		return get()
	case <-timer.C:
		return zero, Err
	}
}

// Run is [Call] for a function without a result. It reports whether do has returned.
func Run(limit time.Duration, do func()) (done bool) {
	_, err := Call(limit, func() (any, error) { do(); return nil, nil })
	return err == nil
}

// Sleep waits for d, or returns the error of ctx when that ends earlier.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
