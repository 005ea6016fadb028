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
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"

	"inbox/tlsmgr/storage"
)

const (
	// tokensDir is part of the keys of challenges that certmagic starts.
	tokensDir = "/challenge_tokens/"
	// lockPollInterval is how often a held lock is tried again.
	lockPollInterval = 500 * time.Millisecond
)

// store is a storage as certmagic wants it. It keeps challenges apart, and counts
// them.
type store struct {
	values, challenges storage.Storage
	// challengeStarted: from then on the CA can validate. One challenge type is one
	// challenge.
	challengeStarted atomic.Bool

	mu     sync.Mutex
	leases map[string]storage.Lease // by name
}

func newStore(values, challenges storage.Storage) *store {
	return &store{values: values, challenges: challenges, leases: map[string]storage.Lease{}}
}

func (s *store) of(key string) storage.Storage {
	if strings.Contains(key, tokensDir) {
		return s.challenges
	}
	return s.values
}

func (s *store) Store(ctx context.Context, key string, value []byte) error {
	if strings.Contains(key, tokensDir) {
		s.challengeStarted.Store(true)
	}
	return s.of(key).Store(ctx, key, value)
}

func (s *store) Load(ctx context.Context, key string) ([]byte, error) {
	return s.of(key).Load(ctx, key)
}

func (s *store) Delete(ctx context.Context, key string) error { return s.of(key).Delete(ctx, key) }

func (s *store) Exists(ctx context.Context, key string) bool {
	_, err := s.of(key).Load(ctx, key)
	return err == nil
}

// List returns the keys below a path: all of them, or each next step alone.
func (s *store) List(ctx context.Context, dir string, recursive bool) ([]string, error) {
	keys, err := s.of(dir).List(ctx, dir)
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

// Stat tells values from paths with values below. The time of change is unknown.
func (s *store) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	if value, err := s.of(key).Load(ctx, key); err == nil {
		return certmagic.KeyInfo{Key: key, Size: int64(len(value)), IsTerminal: true}, nil
	}
	if _, err := s.List(ctx, key, true); err != nil {
		return certmagic.KeyInfo{}, err
	}
	return certmagic.KeyInfo{Key: key}, nil
}

// Lock waits for a lock, for as long as ctx lives.
func (s *store) Lock(ctx context.Context, name string) error {
	for {
		lease, err := s.values.TryLock(ctx, "locks/"+certmagic.StorageKeys.Safe(name)+".lock")
		if err == nil {
			s.mu.Lock()
			s.leases[name] = lease
			s.mu.Unlock()
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the lock of %s: %w", name, errors.Join(ctx.Err(), err))
		case <-time.After(lockPollInterval):
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
