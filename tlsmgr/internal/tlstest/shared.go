package tlstest

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"

	"inbox/tlsmgr/storage"
)

// ErrUnavailable is returned by a [SharedStorage] that is unavailable.
var ErrUnavailable = errors.New("store unavailable")

// SharedStorage is a shared storage in a local directory, with simulated failures.
type SharedStorage struct {
	*storage.Directory
	Path            string
	Unavailable     atomic.Bool
	Stale           atomic.Bool // reads find nothing, as from a stale replica
	LoseLockOnWrite atomic.Bool // the lease is lost at the next write

	RejectWrite func(key string, value []byte) bool // writes that fail; nil: none

	lastLease atomic.Pointer[sharedLease]
}

// NewSharedStorage returns an empty storage.
func NewSharedStorage(t *testing.T) *SharedStorage {
	dir := t.TempDir()
	return &SharedStorage{Directory: storage.NewDirectory(dir, slog.New(slog.DiscardHandler)), Path: dir}
}

// Shared implements storage.Storage.
func (s *SharedStorage) Shared() bool { return true }

// Load implements storage.Storage.
func (s *SharedStorage) Load(ctx context.Context, key string) ([]byte, error) {
	if s.Unavailable.Load() {
		return nil, ErrUnavailable
	}
	if s.Stale.Load() {
		return nil, fs.ErrNotExist
	}
	return s.Directory.Load(ctx, key)
}

// Store implements storage.Storage.
func (s *SharedStorage) Store(ctx context.Context, key string, value []byte) error {
	if s.Unavailable.Load() || s.RejectWrite != nil && s.RejectWrite(key, value) {
		return ErrUnavailable
	}
	return s.Directory.Store(ctx, key, value)
}

// TryLock implements storage.Storage.
func (s *SharedStorage) TryLock(ctx context.Context, key string) (storage.Lease, error) {
	if s.Unavailable.Load() {
		return nil, ErrUnavailable
	}
	file, err := s.Directory.TryLock(ctx, key)
	if err != nil {
		return nil, err
	}
	l := &sharedLease{SharedStorage: s, file: file, lost: make(chan struct{})}
	s.lastLease.Store(l)
	return l, nil
}

// LoseLock ends the lease that was acquired last.
func (s *SharedStorage) LoseLock() { s.lastLease.Load().lose() }

type sharedLease struct {
	*SharedStorage
	file storage.Lease
	lost chan struct{}
	once sync.Once
}

func (l *sharedLease) lose() { l.once.Do(func() { close(l.lost) }) }

// Done implements storage.Lease.
func (l *sharedLease) Done() <-chan struct{} { return l.lost }

// Err implements storage.Lease.
func (l *sharedLease) Err() error {
	select {
	case <-l.lost:
		return storage.ErrLeaseLost
	default:
		return nil
	}
}

// Store implements storage.Lease.
func (l *sharedLease) Store(ctx context.Context, key string, value []byte) error {
	if l.LoseLockOnWrite.Load() {
		l.lose()
	}
	if err := l.Err(); err != nil {
		return err
	}
	return l.SharedStorage.Store(ctx, key, value)
}

// Release implements storage.Lease.
func (l *sharedLease) Release() { l.file.Release() }
