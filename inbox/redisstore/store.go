package redisstore

import (
	"context"
	"fmt"
	"log/slog"
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
	heartbeats   chan struct{} // this node's own messages, received on its subscription
	cancel       context.CancelFunc
	tasks        sync.WaitGroup
	shutdownOnce sync.Once

	usage struct { // the sums of the last refresh
		mu        sync.Mutex // held during a refresh
		last      [buckets]sums
		refreshed time.Time
		sumCount  atomic.Int64 // number of sums in all buckets
		err       error        // an error of the buckets that could not be read
	}
}

// Ready returns nil if all parts of the store are available, and otherwise an error
// that wraps [inbox.ErrStoreUnavailable] and names what is missing.
func (s *Store) Ready() error {
	if _, err := s.currentSession(); err != nil {
		return err
	}
	for i := range s.unavailable {
		if s.unavailable[i].Load() {
			return fmt.Errorf("%w: a part of %s", inbox.ErrStoreUnavailable, s.address)
		}
	}
	return nil
}

// currentSession returns the session, or ErrStoreUnavailable while disconnected.
func (s *Store) currentSession() (*session, error) {
	sess := s.session.Load()
	if sess == nil {
		return nil, s.errUnavailable()
	}
	return sess, nil
}

func (s *Store) errUnavailable() error {
	return fmt.Errorf("%w: %s", inbox.ErrStoreUnavailable, s.address)
}

// logForged logs a claim that no node made, at most once a minute: a client
// can repeat it.
func (s *Store) logForged() {
	now, last := time.Now().Unix(), s.forgedLogged.Load()
	if now-last >= 60 && s.forgedLogged.CompareAndSwap(last, now) {
		s.log.Error("refused a claim: changed in the store, or made with another key", "store", s.address)
	}
}
