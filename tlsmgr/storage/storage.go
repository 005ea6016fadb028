// Package storage keeps accounts, certificates, challenge answers and renewal
// schedules: values under slash-separated keys, and locks that exclude other
// processes.
//
// [Directory] keeps them in files of this machine. Package
// inbox/tlsmgr/storage/redis shares them between several nodes. [Buffered] adds
// memory for writes that the storage beneath does not take.
package storage

import (
	"context"
	"errors"
	"strings"
)

var (
	// ErrLocked is returned by TryLock while another process holds the lock.
	ErrLocked = errors.New("another process holds the lock")
	// ErrLeaseLost is the error of a [Lease] whose lock another process can hold.
	ErrLeaseLost = errors.New("the lock was lost: another process can hold it")
)

// Storage keeps values and locks. A value is read whole or not at all, also
// after a crash. All methods can be called concurrently. A key is a relative
// slash-separated path, without dot elements.
type Storage interface {
	// Load returns a value, or an error that is fs.ErrNotExist. The caller owns it.
	Load(ctx context.Context, key string) ([]byte, error)
	// Store creates or replaces a value.
	Store(ctx context.Context, key string, value []byte) error
	// Delete removes a value and everything below it. A missing value is no error.
	Delete(ctx context.Context, key string) error
	// List returns the keys of all values below a path, sorted; none is no error.
	List(ctx context.Context, path string) ([]string, error)
	// TryLock acquires a lock without waiting, or returns [ErrLocked]. ctx bounds
	// the call alone. A lock ends when its lease is released or its process dies.
	TryLock(ctx context.Context, key string) (Lease, error)
	// IsLocked reports whether a process, this one included, holds the lock.
	IsLocked(ctx context.Context, key string) (bool, error)
	// Quarantine moves a damaged value, or everything below a path, out of the way
	// and logs it. A missing value is no error.
	Quarantine(ctx context.Context, key string) error
	// Shared reports whether other nodes use this storage.
	Shared() bool
}

// Lease is a lock that is held: the storage as the holder of the lock sees it.
// Store, Delete and Quarantine change nothing and return [ErrLeaseLost] once
// another process can hold the lock, so that a process that was paused does not
// undo what the next holder did.
type Lease interface {
	Storage
	// Done is closed when the lease is lost. It is nil for a lock that cannot be lost.
	Done() <-chan struct{}
	// Err returns [ErrLeaseLost] once the lease is lost.
	Err() error
	// Release ends the lease. It must be called once, and can block for one call
	// to the storage.
	Release()
}

// Context returns a context that also ends when the lease is lost, for work that
// must stop then. The caller must call cancel.
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

// Element turns a name or an address into one element of a key, which is a valid
// file name on every system.
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
