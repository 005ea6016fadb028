// Package redisstore keeps mailboxes in Redis or Valkey, so that any number of
// processes are one server: a peer may ask any of them.
//
// Every step on a mailbox is one Lua script (mailbox.lua), so it is atomic and
// takes one round trip. A process has one connection on which it hears that a
// message came for somebody who waits in it, however many wait. Names are
// keyed hashes to the store, passwords too, and with [Config].Key the messages
// are sealed, so that the store sees neither.
//
// What a caller must know: an error may mean that the store did what was asked
// and its answer was lost. A message is never put twice by this package itself.
package redisstore

import (
	"context"
	"crypto/rand"
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
	"errors"
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
	// buckets is how many parts the mailboxes are in, each with sums of its
	// own in one slot of a cluster; also the most nodes of a cluster that are
	// of use. Changing it loses the mailboxes of a running store.
	buckets = 128
	// maxCapacity bounds a mailbox where Limits do not, and with it the time
	// that a script takes to forget one.
	maxCapacity = 10_000
	// callTimeout is how long one call waits for the store. Whoever waited so long
	// in vain marks the bucket as away, and the calls after it do not wait: a
	// request is answered within two seconds.
	callTimeout = 1200 * time.Millisecond
	// recheckClusterEvery is how often a waiting Next looks by itself in a cluster, whose
	// servers may lose what one tells the other. One server loses nothing that
	// its subscription, which is watched, does not end with; recheckSingleEvery is for
	// what nobody thought of.
	recheckClusterEvery, recheckSingleEvery = 10 * time.Second, time.Minute
	// maxReadBytes is the largest body that is read back whatever this node accepts.
	maxReadBytes = 64 << 20
	// messageOverhead is what a message costs the store beyond its texts.
	messageOverhead = 256
)

//go:embed mailbox.lua
var mailboxScript string

var scriptSHA = func() string {
	sum := sha1.Sum([]byte(mailboxScript)) // by which Redis knows a script
	return hex.EncodeToString(sum[:])
}()

// Config says which store, and what it may hold. Address and Limits.Timeout
// are required.
type Config struct {
	// Address is as in [ParseAddress].
	Address Address
	// Key seals messages and hashes names and passwords; 32 bytes that all
	// nodes share and the store never sees. Without it messages are stored as
	// they are, and the hashes are keyed by a secret kept in the store.
	Key []byte
	// Limits are the same for all nodes. A mailbox holds 10000 messages at
	// most. Quotas are exact with one node; with more, each may exceed them by
	// what it accepts within a second, because it learns only then what the
	// others did.
	Limits inbox.Limits
	// MaxBodyBytes is the largest message that is put here. Up to 64 MiB are read
	// back whatever it is: another node may allow more.
	MaxBodyBytes int64
	// Replicas is how many replicas must have what a step did or handed out before
	// it is answered; fewer is ErrStoreAway, though the step was done. With 0 a
	// failover may take back what was answered.
	Replicas int
	// Observe is told of each command that was sent for a request or for
	// certificates, and not given up by who asked: how it ended, and how long that
	// took. Many goroutines call it at once, and wait for it. It may be nil.
	Observe func(Outcome, time.Duration)
	// Logger gets what an operator should see. Nil discards it.
	Logger *slog.Logger
}

// Store is an inbox.Store in Redis. Make one with [New].
type Store struct {
	limits         inbox.Limits
	clientOption   rueidis.ClientOption
	address        string // without its secrets, for people
	key            []byte
	maxRecordBytes int64 // bytes of a record
	node           string
	script         *rueidis.Lua
	observe        func(Outcome, time.Duration)
	outages        atomic.Int64

	replicas     int
	replicaSlots chan struct{} // of steps that wait for replicas
	degraded     degradedParts

	log          *slog.Logger
	ledger       ledger
	waiters      waiters
	session      atomic.Pointer[session]
	unavailable  [buckets]atomic.Bool
	usage        usageCache
	heartbeats   chan struct{} // this node's own voice, from its subscription
	cancel       context.CancelFunc
	tasks        sync.WaitGroup
	shutdownOnce sync.Once
}

// session is a store that was found, with the keys that its nodes share.
type session struct {
	recheckEvery time.Duration
	rueidis.Client
	codec
	cluster  bool
	identity string // what secretKey held
}

// New returns a store that connects by itself, in the background, now and
// whenever the connection was lost. Until then its methods return
// inbox.ErrStoreAway. It runs until [Store.Quit]. It panics without a timeout
// or with a key of another size: mistakes of the program, not of its user.
func New(cfg Config) *Store {
	if cfg.Limits.Timeout <= 0 || len(cfg.Key) != 0 && len(cfg.Key) != keySize {
		panic("redisstore: New needs a timeout above zero, and a key of 32 bytes or none")
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
	s.waiters.init()
	s.replicas, s.replicaSlots = cfg.Replicas, make(chan struct{}, maxReplicaWaits)
	s.degraded.parts = map[int]bool{}
	s.heartbeats = make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.tasks.Go(func() { s.run(ctx) })
	return s
}

// Shutdown disconnects and returns once nothing of the store runs any more. Nobody
// may use it afterwards.
func (s *Store) Shutdown() {
	s.shutdownOnce.Do(func() {
		s.cancel()
		s.tasks.Wait()
		for range maxReplicaWaits { // whoever is cut off may still come, and gets none of these places
			s.replicaSlots <- struct{}{}
		}
	})
}

// Ready returns nil when the whole store is there, else an error that says
// what is missing.
func (s *Store) Ready() error {
	if s.session.Load() == nil {
		return fmt.Errorf("%w: %s", inbox.ErrStoreUnavailable, s.address)
	}
	return s.checkBuckets()
}

// Stats is what all nodes together hold, as of the last second.
func (s *Store) Stats() inbox.Stats { return s.ledger.stats() }

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// location is where a mailbox is.
type location struct {
	bucket int
	tag    string
}

func bucketKey(i int) string { return "inbox:{" + strconv.Itoa(i) + "}" }

// do runs one step and returns its answer, after the sums were told what it
// changed. Whatever goes wrong with the store is ErrStoreAway, except that it
// is full.
func (s *Store) do(ctx context.Context, sess *session, op string, locations []location, reserved reservation, args ...string) ([]rueidis.RedisMessage, error) {
	defer s.ledger.release(reserved)
	if s.session.Load() != sess { // it was given up for another
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

func (s *Store) step(ctx context.Context, sess *session, op string, locations []location, keys, argv []string) ([]rueidis.RedisMessage, error) {
	if s.replicas > 0 && op != "discard" { // which comes after an answer: nobody waits to hear of it
		part := 0
		if sess.cluster {
			part = locations[0].bucket
		}
		return s.runReplicated(ctx, sess, op, part, keys, argv)
	}
	return s.script.Exec(ctx, sess, keys, argv).ToArray()
}

// errUnexpectedReply is a store that answers what no script of ours says.
var errUnexpectedReply = errors.New("redisstore: the store answered something that no inbox wrote")

// storeError turns a client's error into ours, and notes that the bucket is away.
func (s *Store) storeError(ctx context.Context, sess *session, locations []location, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if unavailable, full := classify(err); full {
		return fmt.Errorf("%w: its memory is used up", inbox.ErrStoreFull)
	} else if !unavailable {
		return fmt.Errorf("redisstore: %w", err)
	}
	for _, loc := range locations {
		s.unavailable[loc.bucket].Store(s.session.Load() == sess)
	}
	return fmt.Errorf("%w: %s: %w", inbox.ErrStoreUnavailable, s.address, err)
}
