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
	TryLock(ctx context.Context, name string) (held context.Context, free func(), taken bool, err error)
	// Locked is whether anybody holds a lock.
	Locked(ctx context.Context, name string) (bool, error)
}

// place is where certificates are kept, and what must be remembered of orders:
// a directory of this machine, or a store that nodes share. Keys are relative
// paths with slashes.
type place interface {
	// read returns fs.ErrNotExist for what is not there.
	read(key string) ([]byte, error)
	// write refuses under a lock that is not held any more, if the place can tell.
	write(ctx context.Context, key string, value []byte) error
	// lock is held while somebody orders. It never waits; it is free again when
	// its holder dies. Work under it stops when held ends.
	lock(ctx context.Context, key string) (held context.Context, free func(), taken bool, err error)
	// locked is whether anybody holds a lock.
	locked(key string) bool
	// aside puts what is damaged, a value or all below a path, out of the way.
	aside(ctx context.Context, key string)
	// shared is whether other machines order from here, too.
	shared() bool
}

func newPlace(c Config) place {
	switch {
	case c.Shared != nil:
		return sharedPlace{c.Shared, c.Logger}
	case c.StateDir != "":
		return disk{filepath.Join(c.StateDir, acmeDir), c.Logger}
	}
	return nowhere{}
}

var errNoState = errors.New("there is no state directory, and without a record of the orders an authority's limits " +
	"cannot be kept; name a directory that can be written to with -state")

// nowhere is for a server without a state directory: nothing may be ordered.
type nowhere struct{}

func (nowhere) read(string) ([]byte, error)                 { return nil, errNoState }
func (nowhere) locked(string) bool                          { return false }
func (nowhere) shared() bool                                { return false }
func (nowhere) aside(context.Context, string)               {}
func (nowhere) write(context.Context, string, []byte) error { return errNoState }
func (nowhere) lock(context.Context, string) (context.Context, func(), bool, error) {
	return nil, nil, false, errNoState
}

// disk keeps each value in a file. The system frees the locks of those who die.
type disk struct {
	dir string
	log *slog.Logger
}

func (d disk) path(key string) string { return filepath.Join(d.dir, filepath.FromSlash(key)) }
func (d disk) shared() bool           { return false }

func (d disk) aside(_ context.Context, key string) { mender(d).aside(d.path(key)) }

func (d disk) read(key string) ([]byte, error) { return readFile(d.path(key)) }

func (d disk) write(_ context.Context, key string, value []byte) error {
	path := d.path(key)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return writeFile(path, value)
}

func (d disk) lock(ctx context.Context, key string) (context.Context, func(), bool, error) {
	path := d.path(key)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, nil, false, err
	}
	free, taken, err := lockFile(path, true)
	return ctx, free, taken, err
}

func (d disk) locked(key string) bool { return held(d.path(key)) }

// sharedPlace keeps all of it in a store of several nodes.
type sharedPlace struct {
	store Shared
	log   *slog.Logger
}

func (p sharedPlace) shared() bool { return true }

func (p sharedPlace) read(key string) ([]byte, error) {
	return p.store.Load(context.Background(), key)
}

func (p sharedPlace) write(ctx context.Context, key string, value []byte) error {
	return p.store.Store(ctx, key, value)
}

func (p sharedPlace) lock(ctx context.Context, key string) (context.Context, func(), bool, error) {
	return p.store.TryLock(ctx, key)
}

func (p sharedPlace) locked(key string) bool {
	held, err := p.store.Locked(context.Background(), key)
	return held && err == nil
}

// aside removes what is damaged: the store cannot rename, and two nodes that
// wrote at the same moment left nothing that could tell more.
func (p sharedPlace) aside(ctx context.Context, key string) {
	if err := p.store.Delete(ctx, key); err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.log.Error("what is damaged cannot be removed from the store", "key", key, "err", err)
		return
	}
	p.log.Warn("what was damaged was removed from the store", "key", key)
}

// lookShared is how soon a node takes up what another one obtained.
const lookShared = 3 * time.Second

// ownMiss is what a node keeps to itself where nodes share the record: that it
// could not reach the authority. Another one may.
type ownMiss struct {
	missed  int
	next    time.Time
	problem string
}

// onto shows the miss in this node's copy of the record.
func (m ownMiss) onto(rec *record) {
	if m.next.After(rec.Next) {
		rec.Missed, rec.Next, rec.Problem = m.missed, m.next, m.problem
	}
}

// othersMayTry is whether an order came to nothing for a reason that may be this
// node's alone: the authority was not reached, and has not asked for patience.
func (e *orderError) othersMayTry() bool { return e.outcome == notMade && e.retryAfter == 0 }
