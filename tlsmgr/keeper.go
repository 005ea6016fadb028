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

// keeper is the store of both engines: files, and memory for what the disk does
// not take. A certificate that was obtained while the disk was full is served
// rather than ordered once more.
type keeper struct {
	certmagic.Storage
	log *slog.Logger

	// writing is held while the disk is written to, so that what was held back
	// never comes after what is newer.
	writing sync.Mutex

	mu   sync.Mutex        // never held at the disk
	held map[string][]byte // what the disk did not take
}

func newKeeper(s certmagic.Storage, log *slog.Logger) *keeper {
	return &keeper{Storage: s, log: log, held: map[string][]byte{}}
}

// storageOf is a place as the libraries want it.
func storageOf(p place) certmagic.Storage {
	if s, ok := p.(sharedPlace); ok {
		return s.store
	}
	return &certmagic.FileStorage{Path: menderOf(p).dir}
}

func (k *keeper) Store(ctx context.Context, key string, value []byte) error {
	k.writing.Lock()
	defer k.writing.Unlock()
	err := k.Storage.Store(ctx, key, value)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		delete(k.held, key)
		return nil
	}
	if ctx.Err() != nil {
		return err // the end, or the lock was lost: what comes too late is not kept for later
	}
	if len(k.held) == 0 {
		k.log.Error("the state directory takes no files; what is new is kept in memory until it does: "+
			"free some space, or mend its permissions", "err", err)
	}
	k.held[key] = append([]byte(nil), value...)
	return nil
}

func (k *keeper) Load(ctx context.Context, key string) ([]byte, error) {
	if value, ok := k.inMemory(key); ok {
		return value, nil
	}
	return k.Storage.Load(ctx, key)
}

func (k *keeper) Exists(ctx context.Context, key string) bool {
	_, ok := k.inMemory(key)
	return ok || k.Storage.Exists(ctx, key)
}

func (k *keeper) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	if value, ok := k.inMemory(key); ok {
		return certmagic.KeyInfo{Key: key, Modified: time.Now(), Size: int64(len(value)), IsTerminal: true}, nil
	}
	return k.Storage.Stat(ctx, key)
}

func (k *keeper) Delete(ctx context.Context, key string) error {
	k.writing.Lock()
	defer k.writing.Unlock()
	k.mu.Lock()
	delete(k.held, key)
	k.mu.Unlock()
	return k.Storage.Delete(ctx, key)
}

func (k *keeper) inMemory(key string) ([]byte, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	value, ok := k.held[key]
	return append([]byte(nil), value...), ok
}

// flush tries to write down what is held.
func (k *keeper) flush(ctx context.Context) {
	k.mu.Lock()
	keys := slices.Collect(maps.Keys(k.held))
	k.mu.Unlock()
	for _, key := range keys {
		if k.flushOne(ctx, key) != nil {
			return
		}
	}
	if len(keys) > 0 {
		k.log.Info("the state directory takes files again; all is written down")
	}
}

// flushOne writes what is held now: it may have been replaced, or deleted.
func (k *keeper) flushOne(ctx context.Context, key string) error {
	k.writing.Lock()
	defer k.writing.Unlock()
	value, ok := k.inMemory(key)
	if !ok {
		return nil
	}
	if err := k.Storage.Store(ctx, key, value); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.held, key)
	return nil
}

// missing is true for what is simply not there.
func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
