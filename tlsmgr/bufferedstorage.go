package tlsmgr

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
)

// bufferedStorage is the store of both engines: files, and memory for what the disk does
// not take. A certificate that was obtained while the disk was full is served
// rather than ordered once more.
type bufferedStorage struct {
	certmagic.Storage
	log *slog.Logger

	// writeMu is held while the disk is written to, so that what was held back
	// never comes after what is newer.
	writeMu sync.Mutex

	mu      sync.Mutex        // never held at the disk
	pending map[string][]byte // what the disk did not take
}

func newBufferedStorage(store certmagic.Storage, log *slog.Logger) *bufferedStorage {
	return &bufferedStorage{Storage: store, log: log, pending: map[string][]byte{}}
}

// certmagicStorage is a place as the libraries want it.
func certmagicStorage(store storage) certmagic.Storage {
	if shared, ok := store.(sharedStorage); ok {
		return shared.store
	}
	return &certmagic.FileStorage{Path: quarantineOf(store).dir}
}

func (b *bufferedStorage) Store(ctx context.Context, key string, value []byte) error {
	b.writeMu.Lock()
	defer b.writeMu.Unlock()
	err := b.Storage.Store(ctx, key, value)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		delete(b.pending, key)
		return nil
	}
	if ctx.Err() != nil {
		return err // the end, or the lock was lost: what comes too late is not kept for later
	}
	if len(b.pending) == 0 {
		b.log.Error("the state directory takes no files; what is new is kept in memory until it does: "+
			"free some space, or mend its permissions", "err", err)
	}
	b.pending[key] = append([]byte(nil), value...)
	return nil
}

func (b *bufferedStorage) Load(ctx context.Context, key string) ([]byte, error) {
	if value, ok := b.pendingValue(key); ok {
		return value, nil
	}
	return b.Storage.Load(ctx, key)
}

func (b *bufferedStorage) Exists(ctx context.Context, key string) bool {
	_, ok := b.pendingValue(key)
	return ok || b.Storage.Exists(ctx, key)
}

func (b *bufferedStorage) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	if value, ok := b.pendingValue(key); ok {
		return certmagic.KeyInfo{Key: key, Modified: time.Now(), Size: int64(len(value)), IsTerminal: true}, nil
	}
	return b.Storage.Stat(ctx, key)
}

func (b *bufferedStorage) Delete(ctx context.Context, key string) error {
	b.writeMu.Lock()
	defer b.writeMu.Unlock()
	b.mu.Lock()
	delete(b.pending, key)
	b.mu.Unlock()
	return b.Storage.Delete(ctx, key)
}

func (b *bufferedStorage) pendingValue(key string) ([]byte, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	value, ok := b.pending[key]
	return append([]byte(nil), value...), ok
}

// flush tries to write down what is held.
func (b *bufferedStorage) flush(ctx context.Context) {
	b.mu.Lock()
	keys := slices.Collect(maps.Keys(b.pending))
	b.mu.Unlock()
	for _, key := range keys {
		if b.flushOne(ctx, key) != nil {
			return
		}
	}
	if len(keys) > 0 {
		b.log.Info("the state directory takes files again; all is written down")
	}
}

// flushOne writes what is held now: it may have been replaced, or deleted.
func (b *bufferedStorage) flushOne(ctx context.Context, key string) error {
	b.writeMu.Lock()
	defer b.writeMu.Unlock()
	value, ok := b.pendingValue(key)
	if !ok {
		return nil
	}
	if err := b.Storage.Store(ctx, key, value); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.pending, key)
	return nil
}

// isNotExist is true for what is simply not there.
func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
