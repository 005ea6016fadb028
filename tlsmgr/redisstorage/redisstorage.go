// Package redisstorage keeps certificates, accounts and the record of orders in
// Redis or Valkey, so that several nodes have them in common.
//
// It is a certmagic.Storage, with locks that are leases: a holder that dies or
// is cut off loses its lock within [LeaseDuration]. Everything is one hash and one key
// a lock, under one hash tag, so that it lives on one node of a Redis Cluster.
// Values are encrypted and bound to the name they are stored under; the server
// sees which names there are, when they changed and how long they are, and can
// bring back an old value, but can neither read nor make one.
//
// What a caller must know: certmagic hands in contexts that live for hours, so
// each call has a limit of its own, [CallTimeout].
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
	// LeaseDuration is how long a lock outlives the last sign of its holder.
	LeaseDuration = 15 * time.Second
	// CallTimeout bounds one call to the server.
	CallTimeout = 3 * time.Second
	// maxValueBytes bounds one value; a chain with its key has a few KiB.
	maxValueBytes = 1 << 20
)

// Client runs one command, for no longer than its context allows, and is safe
// for concurrent use. Answers are as in Redis: nil for what is not there, string, int64, or a list of answers.
type Client interface {
	// Do sends the words of a command, one key and what follows it.
	Do(ctx context.Context, command []string, key string, args ...string) (any, error)
}

// Storage is a certmagic.Storage. Its methods may be called concurrently.
type Storage struct {
	client     Client
	valuesKey  string // the hash
	lockPrefix string // what keys of locks begin with
	sealer     *sealer
	now        func() time.Time

	mu     sync.Mutex
	leases map[string]*lease // locks that certmagic holds, by name
}

// New returns a storage whose keys begin with prefix. The nodes share the key,
// of 32 bytes, which the server never sees; a key of another length is an error.
func New(client Client, prefix string, key []byte) (*Storage, error) {
	sealer, err := newSealer(key)
	if err != nil {
		return nil, err
	}
	tag := prefix + "{tls}:"
	return &Storage{client: client, valuesKey: tag + "values", lockPrefix: tag + "lock:", sealer: sealer, now: time.Now, leases: map[string]*lease{}}, nil
}

func (s *Storage) do(ctx context.Context, command []string, key string, args ...string) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	return s.client.Do(ctx, command, key, args...)
}

// Store keeps a value, in place of the one there may be. A value over 1 MiB is
// an error, and so is the context of a lock that was lost: [ErrLockLost].
func (s *Storage) Store(ctx context.Context, key string, value []byte) error {
	if len(value) > maxValueBytes {
		return fmt.Errorf("store %s: %d bytes are more than a certificate has", key, len(value))
	}
	if err := s.write(ctx, "HSET", key, s.sealer.seal(key, value, time.Now())); err != nil {
		return fmt.Errorf("store %s: %w", key, err)
	}
	return nil
}

// Load returns a value, or fs.ErrNotExist. One that was not written under the
// nodes' key, or under another name, is [ErrDecrypt].
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

// Delete forgets a value and all below it. It is no error when there is none; the
// context of a lock that was lost is [ErrLockLost].
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

// Exists is whether there is a value, or any below it, and no error.
func (s *Storage) Exists(ctx context.Context, key string) bool {
	if reply, err := s.do(ctx, []string{"HEXISTS"}, s.valuesKey, key); err == nil && reply == int64(1) {
		return true
	}
	below, err := s.keysBelow(ctx, key)
	return err == nil && len(below) > 0
}

// List returns what is below a path: all values when recursive, else the next
// step of each path alone. With nothing there it is fs.ErrNotExist.
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

// keysBelow lists the values under a path. There are a handful for each name that
// is served, so all are listed.
func (s *Storage) keysBelow(ctx context.Context, path string) ([]string, error) {
	reply, err := s.do(ctx, []string{"HKEYS"}, s.valuesKey)
	if err != nil {
		return nil, err
	}
	all, ok := reply.([]any)
	if !ok {
		return nil, fmt.Errorf("the store answers %T for a list", reply)
	}
	var below []string
	for _, item := range all {
		if key, ok := item.(string); ok && (path == "" || strings.HasPrefix(key, strings.TrimSuffix(path, "/")+"/")) {
			below = append(below, key)
		}
	}
	return below, nil
}

// childKey is the part of a key that lies directly below a path.
func childKey(path, key string) string {
	prefix := ""
	if path != "" {
		prefix = strings.TrimSuffix(path, "/") + "/"
	}
	child, _, _ := strings.Cut(strings.TrimPrefix(key, prefix), "/")
	return prefix + child
}

// Stat tells of a value, or of a path with values below, or is fs.ErrNotExist.
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
