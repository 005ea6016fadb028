package tlsmgr

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/caddyserver/certmagic"

	"inbox/internal/atomicfile"
	"inbox/internal/filelock"
)

// Shared is a store that several nodes have in common. They share accounts,
// certificates, challenges, the record of orders and the keys of session
// tickets in it. Values written under a key are whole or absent; each call has
// a limit of time of its own. Store and Delete with the context of a lock do nothing, and
// are an error, when another has the lock meanwhile: a node that was paused must
// not undo what the next one did.
type Shared interface {
	certmagic.Storage
	// TryLock takes a lock unless somebody has it. The context ends when the
	// lock is freed or may have been lost.
	TryLock(ctx context.Context, name string) (lockCtx context.Context, unlock func(), acquired bool, err error)
	// IsLocked is whether anybody holds a lock.
	IsLocked(ctx context.Context, name string) (bool, error)
}

// storage is where certificates are kept, and what must be remembered of orders:
// a directory of this machine, or a store that nodes share. Keys are relative
// paths with slashes.
type storage interface {
	// read returns fs.ErrNotExist for what is not there.
	read(key string) ([]byte, error)
	// write refuses under a lock that is not held any more, if the place can tell.
	write(ctx context.Context, key string, value []byte) error
	// tryLock is held while somebody orders. It never waits; it is free again when
	// its holder dies. Work under it stops when lockCtx ends.
	tryLock(ctx context.Context, key string) (lockCtx context.Context, unlock func(), acquired bool, err error)
	// isLocked is whether anybody holds a lock.
	isLocked(key string) bool
	// quarantine puts what is damaged, a value or all below a path, out of the way.
	quarantine(ctx context.Context, key string)
	// shared is whether other machines order from here, too.
	shared() bool
}

func newStorage(c Config) storage {
	switch {
	case c.Shared != nil:
		return sharedStorage{c.Shared, c.Logger}
	case c.StateDir != "":
		return dirStorage{filepath.Join(c.StateDir, acmeDir), c.Logger}
	}
	return noStorage{}
}

var errNoStateDir = errors.New("there is no state directory, and without a record of the orders an authority's limits " +
	"cannot be kept; name a directory that can be written to with -state")

// noStorage is for a server without a state directory: nothing may be ordered.
type noStorage struct{}

func (noStorage) read(string) ([]byte, error)                 { return nil, errNoStateDir }
func (noStorage) isLocked(string) bool                        { return false }
func (noStorage) shared() bool                                { return false }
func (noStorage) quarantine(context.Context, string)          {}
func (noStorage) write(context.Context, string, []byte) error { return errNoStateDir }
func (noStorage) tryLock(context.Context, string) (context.Context, func(), bool, error) {
	return nil, nil, false, errNoStateDir
}

// dirStorage keeps each value in a file. The system frees the locks of those who die.
type dirStorage struct {
	dir string
	log *slog.Logger
}

func (d dirStorage) path(key string) string { return filepath.Join(d.dir, filepath.FromSlash(key)) }
func (d dirStorage) shared() bool           { return false }

func (d dirStorage) quarantine(_ context.Context, key string) { fileQuarantine(d).add(d.path(key)) }

func (d dirStorage) read(key string) ([]byte, error) {
	return atomicfile.Read(d.path(key), maxFileBytes)
}

func (d dirStorage) write(_ context.Context, key string, value []byte) error {
	path := d.path(key)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return atomicfile.Write(path, value)
}

func (d dirStorage) tryLock(ctx context.Context, key string) (context.Context, func(), bool, error) {
	path := d.path(key)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, nil, false, err
	}
	lock, err := filelock.TryLock(path)
	if errors.Is(err, filelock.ErrLocked) {
		return nil, nil, false, nil
	}
	if err != nil {
		return nil, nil, false, err
	}
	return ctx, func() { lock.Close() }, true, nil
}

func (d dirStorage) isLocked(key string) bool { return filelock.HeldExclusively(d.path(key)) }

// sharedStorage keeps all of it in a store of several nodes.
type sharedStorage struct {
	store Shared
	log   *slog.Logger
}

func (s sharedStorage) shared() bool { return true }

func (s sharedStorage) read(key string) ([]byte, error) {
	return s.store.Load(context.Background(), key)
}

func (s sharedStorage) write(ctx context.Context, key string, value []byte) error {
	return s.store.Store(ctx, key, value)
}

func (s sharedStorage) tryLock(ctx context.Context, key string) (context.Context, func(), bool, error) {
	return s.store.TryLock(ctx, key)
}

func (s sharedStorage) isLocked(key string) bool {
	locked, err := s.store.IsLocked(context.Background(), key)
	return locked && err == nil
}

// quarantine removes what is damaged: the store cannot rename, and two nodes that
// wrote at the same moment left nothing that could tell more.
func (s sharedStorage) quarantine(ctx context.Context, key string) {
	if err := s.store.Delete(ctx, key); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Error("what is damaged cannot be removed from the store", "key", key, "err", err)
		return
	}
	s.log.Warn("what was damaged was removed from the store", "key", key)
}

// checkIntervalShared is how soon a node takes up what another one obtained.
const checkIntervalShared = 3 * time.Second

// localBackoff is what a node keeps to itself where nodes share the record: that it
// could not reach the authority. Another one may.
type localBackoff struct {
	unavailableCount int
	nextAttempt      time.Time
	lastError        string
}

// applyTo shows the miss in this node's copy of the record.
func (b localBackoff) applyTo(sched *scheduleState) {
	if b.nextAttempt.After(sched.NextAttempt) {
		sched.UnavailableCount, sched.NextAttempt, sched.LastError = b.unavailableCount, b.nextAttempt, b.lastError
	}
}

// otherNodesCanTry is whether an order came to nothing for a reason that may be this
// node's alone: the authority was not reached, and has not asked for patience.
func (e *orderError) otherNodesCanTry() bool { return e.outcome == caUnavailable && e.retryAfter == 0 }
