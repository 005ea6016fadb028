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
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"inbox/inbox"

	"github.com/redis/rueidis"
)

const (
	// maxCapacity bounds the messages of a mailbox when Limits do not. It also bounds
	// the time that a script takes to delete one.
	maxCapacity = 10_000
	// maxReadBytes is the largest body that is read back, even if this node accepts
	// only smaller ones.
	maxReadBytes = 64 << 20
	// messageOverhead is the memory that the store needs for a message beyond its
	// texts, in bytes.
	messageOverhead = 256
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

// Store is an [inbox.Store] in Redis, created with [New]. Its methods are safe for
// concurrent use.
type Store struct {
	limits         inbox.Limits
	clientOption   rueidis.ClientOption
	address        string // without credentials, for log lines and errors
	key            []byte
	maxRecordBytes int64
	node           string
	script         *rueidis.Lua
	observe        func(Outcome, time.Duration)
	outages        atomic.Int64
	forgedLogged   atomic.Int64 // when a forged claim was last logged, in Unix seconds

	replicas     int
	replicaSlots chan struct{} // one element per step that waits for replicas
	degraded     degradedParts

	log          *slog.Logger
	ledger       ledger
	watches      watches
	session      atomic.Pointer[session]
	unavailable  [buckets]atomic.Bool
	usage        usageCache
	heartbeats   chan struct{} // this node's own messages, received on its subscription
	cancel       context.CancelFunc
	tasks        sync.WaitGroup
	shutdownOnce sync.Once
}

// session is a connected store, with the keys that its nodes share.
type session struct {
	recheckEvery time.Duration
	rueidis.Client
	codec
	known    claimCache
	cluster  bool
	identity string // value of secretKey at connect time
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

// Ready returns nil if all parts of the store are available, and otherwise an error
// that wraps [inbox.ErrStoreUnavailable] and names what is missing.
func (s *Store) Ready() error {
	if s.session.Load() == nil {
		return fmt.Errorf("%w: %s", inbox.ErrStoreUnavailable, s.address)
	}
	return s.checkBuckets()
}

// Stats returns the totals of all nodes, about one second old.
func (s *Store) Stats() inbox.Stats { return s.ledger.stats() }

// do executes one step, applies the changes of sums in its reply to the ledger, and
// returns the rest of the reply. Connection failures and refusals of the server are
// ErrStoreUnavailable, exhausted memory is ErrStoreFull.
func (s *Store) do(
	ctx context.Context, sess *session, op string, locations []location, reserved reservation, args ...string,
) ([]rueidis.RedisMessage, error) {
	defer s.ledger.release(reserved)
	if s.session.Load() != sess { // replaced by another session
		return nil, fmt.Errorf("%w: %s", inbox.ErrStoreUnavailable, s.address)
	}
	keys := make([]string, len(locations))
	for i, loc := range locations {
		if s.unavailable[loc.bucket].Load() {
			return nil, fmt.Errorf("%w: %s", inbox.ErrStoreUnavailable, s.address)
		}
		keys[i] = bucketKey(loc.bucket)
	}
	argv := make([]string, 0, 3+len(args))
	argv = append(argv, op, strconv.FormatInt(s.limits.Timeout.Milliseconds(), 10), s.node)
	callCtx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	began := time.Now()
	answer, err := s.step(callCtx, sess, op, locations, keys, append(argv, args...))
	s.observeOutcome(ctx, began, err)
	if err == errTooManyWaits {
		return nil, err
	}
	if err != nil && err != errUnreplicated {
		return nil, s.storeError(ctx, sess, locations, err)
	}
	if len(answer) < 2 {
		return nil, errUnexpectedReply
	}
	if err := s.ledger.apply(answer[0]); err != nil {
		return nil, err
	}
	return answer[1:], err
}

func (s *Store) step(
	ctx context.Context, sess *session, op string, locations []location, keys, argv []string,
) ([]rueidis.RedisMessage, error) {
	if s.replicas > 0 && op != "discard" { // a discard follows the response: no client waits for its result
		part := 0
		if sess.cluster {
			part = locations[0].bucket
		}
		return s.runReplicated(ctx, sess, op, part, keys, argv)
	}
	return s.script.Exec(ctx, sess, keys, argv).ToArray()
}

// storeError translates an error of the client and marks the buckets of an unavailable
// store.
func (s *Store) storeError(ctx context.Context, sess *session, locations []location, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if unavailable, full := classify(err); full {
		return fmt.Errorf("%w: store memory exhausted", inbox.ErrStoreFull)
	} else if !unavailable {
		return fmt.Errorf("redisstore: %w", err)
	}
	for _, loc := range locations {
		s.unavailable[loc.bucket].Store(s.session.Load() == sess)
	}
	return fmt.Errorf("%w: %s: %w", inbox.ErrStoreUnavailable, s.address, err)
}
