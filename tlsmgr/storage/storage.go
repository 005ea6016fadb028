// Package storage stores accounts, certificates, challenge responses and renewal
// schedules: values with slash-separated keys, and locks that exclude other processes.
//
// [Directory] stores them in local files. Package inbox/tlsmgr/storage/redis shares them
// between several nodes. [Buffered] keeps values in memory that the underlying storage
// rejects.
package storage

import (
	"context"
	"errors"
	"strings"
)

var (
	// ErrLocked is returned by TryLock while another process holds the lock.
	ErrLocked = errors.New("another process holds the lock")
	// ErrLeaseLost is the error of a [Lease] that has expired, so that another process can
	// hold the lock.
	ErrLeaseLost = errors.New("the lock was lost: another process can hold it")
)

// Storage stores values and locks. Writes are atomic, also if the process crashes. A key
// is a relative slash-separated path without dot elements. All methods are safe for
// concurrent use.
type Storage interface {
	// Load returns a value, which the caller owns. The error wraps fs.ErrNotExist if
	// there is no value.
	Load(ctx context.Context, key string) ([]byte, error)
	// Store creates or replaces a value.
	Store(ctx context.Context, key string, value []byte) error
	// Delete removes a value and all values below it. A missing value is not an error.
	Delete(ctx context.Context, key string) error
	// List returns the sorted keys of all values below a path. It returns no error if
	// there are none.
	List(ctx context.Context, path string) ([]string, error)
	// TryLock acquires a lock, or returns [ErrLocked] if it is held. ctx applies only to
	// the call. The lock is held until the lease is released or the process dies.
	TryLock(ctx context.Context, key string) (Lease, error)
	// IsLocked reports whether a process holds the lock; it can be this one.
	IsLocked(ctx context.Context, key string) (bool, error)
	// Quarantine removes a damaged value, or all values below a path, and logs it. An
	// implementation can keep a copy. A missing value is not an error.
	Quarantine(ctx context.Context, key string) error
	// Shared reports whether other nodes use this storage.
	Shared() bool
}

// Lease is a lock that is held. Its holder writes through it: Store, Delete and Quarantine
// return [ErrLeaseLost] and write nothing once another process can hold the lock, so that
// a process that was suspended does not overwrite the values of the next holder.
type Lease interface {
	Storage
	// Done is closed when the lease is lost. It is nil if the lease cannot be lost.
	Done() <-chan struct{}
	// Err returns [ErrLeaseLost] after the lease was lost, else nil.
	Err() error
	// Release releases the lock. It must be called once, and can block for one call of
	// the storage.
	Release()
}

// Context returns a context that also ends when the lease is lost. The caller must call
// cancel.
func Context(ctx context.Context, l Lease) (_ context.Context, cancel context.CancelFunc) {
	ctx, cancel = context.WithCancel(ctx)
	if lost := l.Done(); lost != nil {
		go func() {
			select {
			case <-lost:
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	return ctx, cancel
}

// Element returns a host name or IP address as an element of a key. It is a valid file
// name on all platforms.
func Element(text string) string {
	element := strings.Map(func(r rune) rune {
		switch {
		case r == ':':
			return '-'
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', strings.ContainsRune("_@.-", r):
			return r
		}
		return -1
	}, strings.ToLower(text))
	return strings.ReplaceAll(element, "..", "")
}
