package certmagic

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"

	"inbox/tlsmgr/internal/timeout"
	"inbox/tlsmgr/storage"
)

// lockPollInterval is the interval at which Lock tries a held lock.
const lockPollInterval = 500 * time.Millisecond

// store implements certmagic.Storage.
type store struct {
	values storage.Storage

	mu     sync.Mutex
	leases map[string]storage.Lease // by name
}

func newStore(values storage.Storage) *store {
	return &store{values: values, leases: map[string]storage.Lease{}}
}

func (s *store) Store(ctx context.Context, key string, value []byte) error {
	return s.values.Store(ctx, key, value)
}

func (s *store) Load(ctx context.Context, key string) ([]byte, error) { return s.values.Load(ctx, key) }

func (s *store) Delete(ctx context.Context, key string) error { return s.values.Delete(ctx, key) }

func (s *store) Exists(ctx context.Context, key string) bool {
	_, err := s.values.Load(ctx, key)
	return err == nil
}

// List returns the keys below a path, or without recursive their next path elements.
func (s *store) List(ctx context.Context, dir string, recursive bool) ([]string, error) {
	keys, err := s.values.List(ctx, dir)
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("list %s: %w", dir, fs.ErrNotExist)
	}
	if !recursive {
		for i, key := range keys {
			next, _, _ := strings.Cut(strings.TrimPrefix(key, dir+"/"), "/")
			keys[i] = path.Join(dir, next)
		}
	}
	return slices.Compact(keys), nil
}

// Stat distinguishes values from prefixes of keys. The modification time is not known.
func (s *store) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	if value, err := s.values.Load(ctx, key); err == nil {
		return certmagic.KeyInfo{Key: key, Size: int64(len(value)), IsTerminal: true}, nil
	}
	if _, err := s.List(ctx, key, true); err != nil {
		return certmagic.KeyInfo{}, err
	}
	return certmagic.KeyInfo{Key: key}, nil
}

// Lock waits for a lock until ctx ends.
func (s *store) Lock(ctx context.Context, name string) error {
	for {
		lease, err := s.values.TryLock(ctx, "locks/"+certmagic.StorageKeys.Safe(name)+".lock")
		if err == nil {
			s.mu.Lock()
			s.leases[name] = lease
			s.mu.Unlock()
			return nil
		}
		if ended := timeout.Sleep(ctx, lockPollInterval); ended != nil {
			return fmt.Errorf("wait for the lock of %s: %w", name, errors.Join(ended, err))
		}
	}
}

// Unlock releases a lock that Lock acquired.
func (s *store) Unlock(_ context.Context, name string) error {
	s.mu.Lock()
	lease := s.leases[name]
	delete(s.leases, name)
	s.mu.Unlock()
	if lease == nil {
		return fmt.Errorf("unlock %s: it is not held", name)
	}
	lease.Release()
	return nil
}
