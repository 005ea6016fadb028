// Package redisstorage stores certificates, accounts and the schedules of orders in
// Redis or Valkey, so that several nodes share them.
//
// [Storage] implements certmagic.Storage. Its locks are leases: a holder that
// crashes or loses its connection loses the lock within [LeaseDuration]. The data is
// one hash, plus one key per lock, all with the same hash tag, so that it resides on
// one node of a Redis Cluster. Values are encrypted and bound to their names. The
// server can see names, sizes and times of changes, and can restore an old value,
// but can neither read nor forge one.
//
// certmagic passes contexts that live for hours, so each call to the server has its
// own timeout, [CallTimeout].
package redisstorage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
)

const (
	// LeaseDuration is how long a lock is held after its last renewal.
	LeaseDuration = 15 * time.Second
	// CallTimeout bounds one call to the server.
	CallTimeout = 3 * time.Second
	// maxValueBytes bounds one value; a chain with its key takes a few KiB.
	maxValueBytes = 1 << 20
)

// Client runs Redis commands. It must be safe for concurrent use.
type Client interface {
	// Do runs the command, which is followed by key and args, until ctx ends. The
	// reply is nil (no value), a string, an int64, or a []any of replies.
	Do(ctx context.Context, command []string, key string, args ...string) (any, error)
}

// Storage implements certmagic.Storage. It is safe for concurrent use.
type Storage struct {
	client     Client
	valuesKey  string // key of the hash of values
	lockPrefix string // prefix of the keys of locks
	sealer     *sealer
	now        func() time.Time

	mu     sync.Mutex
	leases map[string]*lease // locks taken with Lock, by name
}

// New returns a storage whose Redis keys begin with prefix. All nodes must use the
// same encryption key, which must have 32 bytes and is never sent to the server.
func New(client Client, prefix string, key []byte) (*Storage, error) {
	sealer, err := newSealer(key)
	if err != nil {
		return nil, err
	}
	tag := prefix + "{tls}:"
	return &Storage{
		client: client, valuesKey: tag + "values", lockPrefix: tag + "lock:", sealer: sealer,
		now: time.Now, leases: map[string]*lease{},
	}, nil
}

func (s *Storage) do(ctx context.Context, command []string, key string, args ...string) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	return s.client.Do(ctx, command, key, args...)
}

// Store sets a value. It returns an error if the value exceeds 1 MiB, and
// [ErrLockLost] if ctx is the context of a lock that was lost.
func (s *Storage) Store(ctx context.Context, key string, value []byte) error {
	if len(value) > maxValueBytes {
		return fmt.Errorf("store %s: value of %d bytes exceeds 1 MiB", key, len(value))
	}
	if err := s.write(ctx, "HSET", key, s.sealer.seal(key, value, time.Now())); err != nil {
		return fmt.Errorf("store %s: %w", key, err)
	}
	return nil
}

// Load returns a value, or fs.ErrNotExist. It returns [ErrDecrypt] if the value was
// written with another encryption key or under another name.
func (s *Storage) Load(ctx context.Context, key string) ([]byte, error) {
	value, _, err := s.open(ctx, key)
	return value, err
}

func (s *Storage) open(ctx context.Context, key string) (value []byte, modified time.Time, err error) {
	reply, err := s.do(ctx, []string{"HGET"}, s.valuesKey, key)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("load %s: %w", key, err)
	}
	sealed, ok := reply.(string)
	if !ok {
		return nil, time.Time{}, fmt.Errorf("load %s: %w", key, fs.ErrNotExist)
	}
	if value, modified, err = s.sealer.open(key, sealed); err != nil {
		return nil, time.Time{}, fmt.Errorf("load %s: %w", key, err)
	}
	return value, modified, nil
}

// Delete removes a value and all values below it. Missing values are not an error. It
// returns [ErrLockLost] if ctx is the context of a lock that was lost.
func (s *Storage) Delete(ctx context.Context, key string) error {
	below, err := s.keysBelow(ctx, key)
	if err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	if err := s.write(ctx, "HDEL", append(below, key)...); err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}

// Exists reports whether a value, or one below it, exists. It returns false if the
// server cannot be reached.
func (s *Storage) Exists(ctx context.Context, key string) bool {
	if reply, err := s.do(ctx, []string{"HEXISTS"}, s.valuesKey, key); err == nil && reply == int64(1) {
		return true
	}
	below, err := s.keysBelow(ctx, key)
	return err == nil && len(below) > 0
}

// List returns the sorted keys below a path: all keys if recursive, else only the
// direct children. It returns fs.ErrNotExist if there are no keys.
func (s *Storage) List(ctx context.Context, path string, recursive bool) ([]string, error) {
	below, err := s.keysBelow(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", path, err)
	}
	if len(below) == 0 {
		return nil, fmt.Errorf("list %s: %w", path, fs.ErrNotExist)
	}
	if !recursive {
		for i, key := range below {
			below[i] = childKey(path, key)
		}
	}
	slices.Sort(below)
	return slices.Compact(below), nil
}

// keysBelow returns the keys below a path. It fetches all keys, of which there are a
// handful per served name.
func (s *Storage) keysBelow(ctx context.Context, path string) ([]string, error) {
	reply, err := s.do(ctx, []string{"HKEYS"}, s.valuesKey)
	if err != nil {
		return nil, err
	}
	all, ok := reply.([]any)
	if !ok {
		return nil, fmt.Errorf("unexpected reply to HKEYS: %T", reply)
	}
	var below []string
	for _, item := range all {
		if key, ok := item.(string); ok && (path == "" || strings.HasPrefix(key, strings.TrimSuffix(path, "/")+"/")) {
			below = append(below, key)
		}
	}
	return below, nil
}

// childKey returns the ancestor of key, or key itself, directly below path.
func childKey(path, key string) string {
	prefix := ""
	if path != "" {
		prefix = strings.TrimSuffix(path, "/") + "/"
	}
	child, _, _ := strings.Cut(strings.TrimPrefix(key, prefix), "/")
	return prefix + child
}

// Stat returns information about a value or about a path with values below it, or
// fs.ErrNotExist.
func (s *Storage) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	value, modified, err := s.open(ctx, key)
	if err == nil {
		return certmagic.KeyInfo{Key: key, Modified: modified, Size: int64(len(value)), IsTerminal: true}, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return certmagic.KeyInfo{}, err
	}
	if below, listErr := s.keysBelow(ctx, key); listErr != nil || len(below) == 0 {
		return certmagic.KeyInfo{}, errors.Join(err, listErr)
	}
	return certmagic.KeyInfo{Key: key}, nil
}
