// Package redisstore keeps mailboxes in Redis or Valkey. Any number of processes that
// share one store act as one server: a client can send each request to any of them.
//
// Every step on a mailbox is one Lua script (mailbox.lua): it is atomic and takes one
// round trip. A process has one subscription for the wake-ups of all its watches, and
// registers and renews them in batches. The store sees names and passwords only as keyed hashes; with
// [Config].Key, messages are encrypted as well.
//
// An error can mean that the store executed a step and only its reply was lost. The
// package never sends a Put twice.
package redisstore

import (
	"context"
	"encoding/hex"
	"log/slog"
	"time"

	"inbox/inbox"

	"github.com/redis/rueidis"
)

// Config configures a [Store]. Address and Limits.Timeout are required.
type Config struct {
	// Address is the result of [ParseAddress].
	Address Address
	// Key encrypts messages and keys the hashes of names and passwords. It has 32
	// bytes; all nodes share it and the store never sees it. Without a key, messages
	// are stored in plain text and the hashes are keyed with a secret kept in the
	// store.
	Key []byte
	// Limits must be the same on all nodes. Capacity is capped at 10000 messages.
	// Quotas are exact with one node. With several, each node can exceed them by what
	// it accepts between two refreshes (normally one second), because only a refresh
	// tells it what the others did.
	Limits inbox.Limits
	// MaxBodyBytes is the largest body that this node accepts. Bodies of up to 64 MiB
	// are read back in any case: another node can accept larger ones.
	MaxBodyBytes int64
	// Replicas is the number of replicas that must have acknowledged the changes and
	// reads of a step before it is answered. With fewer, the step fails with
	// [inbox.ErrStoreUnavailable] although it was executed. With 0, a failover can undo
	// a step that was answered.
	Replicas int
	// Observe receives the outcome and duration of each command that was sent for a
	// request or for certificates, unless the caller canceled it. It is called
	// concurrently and synchronously. It can be nil.
	Observe func(Outcome, time.Duration)
	// Logger receives events for operators. Nil discards them.
	Logger *slog.Logger
}

// New returns a store that connects in the background and reconnects after a failure.
// While disconnected, its methods return [inbox.ErrStoreUnavailable]. It runs until
// [Store.Shutdown]. New panics if Limits.Timeout is not positive or Key has a size
// other than 0 or 32: these are programming errors.
func New(cfg Config) *Store {
	if cfg.Limits.Timeout <= 0 || len(cfg.Key) != 0 && len(cfg.Key) != keySize {
		panic("redisstore: New requires a positive timeout, and a key of 32 bytes or none")
	}
	s := &Store{limits: cfg.Limits, key: cfg.Key, log: cfg.Logger, observe: cfg.Observe, address: cfg.Address.String()}
	if s.limits.Capacity <= 0 || s.limits.Capacity > maxCapacity {
		s.limits.Capacity = maxCapacity
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.maxRecordBytes = max(cfg.MaxBodyBytes, maxReadBytes) + recordOverhead
	s.clientOption = cfg.Address.clientOption()
	s.script = rueidis.NewLuaScript(mailboxScript)
	s.node = hex.EncodeToString(random(8))
	s.ledger.init(s.limits)
	s.watches.init()
	s.replicas, s.replicaSlots = cfg.Replicas, make(chan struct{}, maxReplicaWaits)
	s.degraded.parts = map[int]bool{}
	s.heartbeats = make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.tasks.Go(func() { s.run(ctx) })
	return s
}

// Shutdown disconnects and returns once all goroutines of the store have ended. The
// store must not be used afterwards. It can be called more than once.
func (s *Store) Shutdown() {
	s.shutdownOnce.Do(func() {
		s.cancel()
		s.tasks.Wait()
		s.watches.endAll(nil, inbox.ErrStopping)
		for range maxReplicaWaits { // waits for canceled steps; a late one finds no slot
			s.replicaSlots <- struct{}{}
		}
	})
}

// Stats returns the totals of all nodes, about one second old.
func (s *Store) Stats() inbox.Stats { return s.ledger.stats() }

// Outages returns how often the store, or a part of it, became unavailable since the
// first connection.
func (s *Store) Outages() int64 { return s.outages.Load() }
