// Package redis keeps accounts, certificates and renewal schedules in Redis or
// Valkey, so that several nodes can share them.
//
// [Storage] is a storage.Storage, with locks that are leases: a node that dies or
// loses its connection loses its locks within [LeaseDuration]. All values are in one
// hash, and each lock is a key. The keys have one hash tag, so that they are in one
// slot of a Redis Cluster. Values are encrypted and bound to their names: the server
// sees names and lengths, and can replace a value by an older one of the same name,
// but it can neither read nor create one.
//
// ACME libraries pass contexts that last for hours, so each call to the server has a
// limit of its own, [CallTimeout].
package redis

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"time"
)

const (
	// LeaseDuration is how long a lock remains after its last renewal.
	LeaseDuration = 15 * time.Second
	// CallTimeout bounds each call to the server.
	CallTimeout = 3 * time.Second
	// maxValueBytes bounds a value; a chain with its key has a few KiB.
	maxValueBytes = 1 << 20
)

// Client runs commands. It must be safe for concurrent use, and must return when its
// context ends. A reply is nil for a missing value, a string, an int64, or an []any of
// these.
type Client interface {
	// Do sends a command: its words, one key and the arguments that follow it.
	Do(ctx context.Context, command []string, key string, args ...string) (any, error)
}

// Storage implements storage.Storage. Its methods are safe for concurrent use.
type Storage struct {
	client     Client
	valuesKey  string // of the hash
	lockPrefix string // of the keys of locks
	sealer     *sealer
	log        *slog.Logger
	now        func() time.Time

	// write runs a write command on the hash of values. That of a lease is fenced.
	write func(ctx context.Context, command string, args ...string) error
}

// New returns a storage whose keys begin with prefix. key encrypts the values. It must
// have 32 bytes and be the same on all nodes; the server never receives it.
func New(client Client, prefix string, key []byte, log *slog.Logger) (*Storage, error) {
	sealer, err := newSealer(key)
	if err != nil {
		return nil, err
	}
	tag := prefix + "{tls}:"
	s := &Storage{
		client: client, valuesKey: tag + "values", lockPrefix: tag + "lock:",
		sealer: sealer, log: log, now: time.Now,
	}
	s.write = func(ctx context.Context, command string, args ...string) error {
		_, err := s.do(ctx, []string{command}, s.valuesKey, args...)
		return err
	}
	return s, nil
}

func (s *Storage) do(ctx context.Context, command []string, key string, args ...string) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	return s.client.Do(ctx, command, key, args...)
}

// Store implements storage.Storage. A value over 1 MiB is an error.
func (s *Storage) Store(ctx context.Context, key string, value []byte) error {
	if len(value) > maxValueBytes {
		return fmt.Errorf("store %s: %d bytes exceed the limit of %d", key, len(value), maxValueBytes)
	}
	if err := s.write(ctx, "HSET", key, s.sealer.seal(key, value)); err != nil {
		return fmt.Errorf("store %s: %w", key, err)
	}
	return nil
}

// Load implements storage.Storage. The error is [ErrDecrypt] for a value that was
// stored with another key or under another name.
func (s *Storage) Load(ctx context.Context, key string) ([]byte, error) {
	reply, err := s.do(ctx, []string{"HGET"}, s.valuesKey, key)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", key, err)
	}
	sealed, ok := reply.(string)
	if !ok {
		return nil, fmt.Errorf("load %s: %w", key, fs.ErrNotExist)
	}
	value, err := s.sealer.open(key, sealed)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", key, err)
	}
	return value, nil
}

// Delete implements storage.Storage.
func (s *Storage) Delete(ctx context.Context, key string) error {
	below, err := s.List(ctx, key)
	if err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	if err := s.write(ctx, "HDEL", append(below, key)...); err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}

// Quarantine implements storage.Storage. It deletes the value: the server cannot
// rename it, and an encrypted value would tell an operator nothing.
func (s *Storage) Quarantine(ctx context.Context, key string) error {
	if err := s.Delete(ctx, key); err != nil {
		s.log.Error("a damaged value cannot be deleted from the store", "key", key, "err", err)
		return err
	}
	s.log.Warn("a damaged value was deleted from the store", "key", key)
	return nil
}

// Shared implements storage.Storage.
func (s *Storage) Shared() bool { return true }

// List implements storage.Storage. There are a handful of values for each name, so it
// reads all keys.
func (s *Storage) List(ctx context.Context, path string) ([]string, error) {
	reply, err := s.do(ctx, []string{"HKEYS"}, s.valuesKey)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", path, err)
	}
	all, ok := reply.([]any)
	if !ok {
		return nil, fmt.Errorf("list %s: unexpected reply %T", path, reply)
	}
	var below []string
	for _, item := range all {
		if key, ok := item.(string); ok && strings.HasPrefix(key, strings.TrimSuffix(path, "/")+"/") {
			below = append(below, key)
		}
	}
	slices.Sort(below)
	return below, nil
}
