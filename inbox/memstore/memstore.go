package memstore

import (
	"context"
	"crypto/subtle"
	"errors"
	"hash/maphash"
	"sync/atomic"
	"time"

	"inbox/inbox"
)

const (
	// shardCount keeps peers that run at once out of each other's way; a power
	// of two, so that picking one is a mask.
	shardCount = 128
	// sweepBatch mailboxes are freed in one hold of a shard's lock, so that no
	// request waits for a large expiry.
	sweepBatch = 32
	// reclaimEvery bounds how often a full store looks for expired mailboxes
	// on behalf of a request.
	reclaimEvery = 100 * time.Millisecond
)

// Store is the [inbox.Store] that needs nothing but memory: mailboxes are gone when
// the process ends, unless they are saved. An idle mailbox costs about 200 bytes; expiry costs what
// expires, not what exists. Make one with [New].
type Store struct {
	limits    inbox.Limits
	start     time.Time // all times inside are offsets from it: monotonic, 8 bytes
	seed      maphash.Seed
	inboxes   atomic.Int64
	bytes     atomic.Int64
	messages  atomic.Int64
	ledger    *inbox.Ledger
	reclaimed atomic.Int64 // when reclaim last ran
	shards    [shardCount]shard
}

// New returns an empty store. It starts nothing: somebody has to call
// [Store.Sweep] now and then.
func New(limits inbox.Limits) *Store {
	m := &Store{limits: limits, ledger: inbox.NewLedger(limits), start: time.Now(), seed: maphash.MakeSeed()}
	for i := range m.shards {
		m.shards[i].boxes = make(map[string]*box)
		m.shards[i].claimWaiters = make(map[string]*claimWaiter)
	}
	return m
}

// Stats counts without locking anything.
func (m *Store) Stats() inbox.Stats {
	return inbox.Stats{Inboxes: m.inboxes.Load(), Queued: m.messages.Load(), QueuedBytes: m.bytes.Load()}
}

func (m *Store) shard(name string) *shard {
	return &m.shards[maphash.String(m.seed, name)&(shardCount-1)]
}

func (m *Store) now() time.Duration { return time.Since(m.start) }

// Open implements [inbox.Store].
func (m *Store) Open(_ context.Context, name string, key inbox.Key, payer *inbox.Payer) (inbox.Claim, error) {
	c, err := m.open(name, key, payer)
	if errors.Is(err, inbox.ErrTooManyInboxes) || errors.Is(err, inbox.ErrPayerFull) {
		if m.reclaim() {
			c, err = m.open(name, key, payer)
		}
	}
	return c, err
}

func (m *Store) open(name string, key inbox.Key, payer *inbox.Payer) (inbox.Claim, error) {
	s := m.shard(name)
	s.mu.Lock()
	now := m.now()
	b, expired := m.findLocked(s, name, now)
	if expired != nil {
		// First it gives back what it held, which its successor may need.
		s.mu.Unlock()
		m.release(expired)
		return m.open(name, key, payer)
	}
	var created bool
	var err error
	switch {
	case s.frozen:
		err = inbox.ErrStopping
	case b == nil && payer == nil:
		err = inbox.ErrNoInbox
	case b == nil:
		created = true
		b, err = m.claimLocked(s, name, key, *payer, now)
	case subtle.ConstantTimeCompare(b.key[:], key[:]) != 1:
		err = inbox.ErrWrongKey
	default:
		s.markUsedLocked(b, now)
	}
	var c inbox.Claim
	if err == nil {
		c = inbox.Claim{Name: b.name, Epoch: b.epoch, Created: created}
	}
	s.mu.Unlock()
	return c, err
}

// claimLocked makes the mailbox and tells the Puts that wait for it.
func (m *Store) claimLocked(s *shard, name string, key inbox.Key, payer inbox.Payer, now time.Duration) (*box, error) {
	if n := m.inboxes.Add(1); m.limits.MaxInboxes > 0 && n > int64(m.limits.MaxInboxes) {
		m.inboxes.Add(-1)
		return nil, inbox.ErrTooManyInboxes
	}
	a, err := m.ledger.Charge(payer, inbox.Usage{Inboxes: 1}, 0)
	if err != nil {
		m.inboxes.Add(-1)
		return nil, err
	}
	b := &box{name: name, key: key, payer: a}
	b.epoch = max(uint64(time.Now().UnixMicro()), s.lastID+1)
	b.lastID = b.epoch - 1
	s.lastID = b.epoch
	s.boxes[b.name] = b
	s.peak = max(s.peak, len(s.boxes))
	s.markUsedLocked(b, now)
	if k := s.claimWaiters[name]; k != nil {
		close(k.claimed)
		delete(s.claimWaiters, name)
	}
	return b, nil
}

// Put implements [inbox.Store].
func (m *Store) Put(ctx context.Context, to string, msg inbox.Message, wait time.Duration) error {
	n := &node{Message: msg}
	err := m.put(ctx, to, n, wait)
	if errors.Is(err, inbox.ErrStoreFull) || errors.Is(err, inbox.ErrPayerFull) {
		if m.reclaim() {
			err = m.put(ctx, to, n, wait)
		}
	}
	return err
}

// put appends at once, or pays for the bytes and then waits: a body that waits
// for its recipient takes the same memory as one in a mailbox.
func (m *Store) put(ctx context.Context, to string, n *node, wait time.Duration) error {
	s := m.shard(to)
	err := m.enqueue(s, to, n, false)
	if err != inbox.ErrNoInbox || wait <= 0 {
		return err
	}
	if err := m.charge(n, m.bytes.Load()); err != nil {
		return err
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for err == inbox.ErrNoInbox {
		if err = s.awaitClaim(ctx, to, timer.C); err == nil {
			err = m.enqueue(s, to, n, true)
		}
	}
	if err == errWaitTimeout {
		err = m.enqueue(s, to, n, true)
	}
	if err != nil {
		m.refund(n)
	}
	return err
}

// enqueue appends n to the mailbox if there is one; paid says whether its
// bytes are counted already.
func (m *Store) enqueue(s *shard, to string, n *node, charged bool) error {
	s.mu.Lock()
	b, expired := m.findLocked(s, to, m.now())
	err := s.notFoundLocked(inbox.ErrNoInbox)
	if b != nil {
		err = m.appendLocked(s, b, n, charged)
	}
	s.mu.Unlock()
	m.release(expired)
	return err
}

func (m *Store) appendLocked(s *shard, b *box, n *node, charged bool) error {
	if m.limits.Capacity > 0 && b.count >= m.limits.Capacity {
		return inbox.ErrInboxFull
	}
	if !charged {
		if err := m.charge(n, m.bytes.Load()); err != nil {
			return err
		}
	}
	b.lastID++
	s.lastID = max(s.lastID, b.lastID)
	n.ID = b.lastID
	b.push(n)
	b.wakeWaiters()
	return nil
}

// Next implements [inbox.Store].
func (m *Store) Next(ctx context.Context, c inbox.Claim, ack uint64, wait time.Duration) (inbox.Message, error) {
	s := m.shard(c.Name)
	msg, arrived, left, err := m.peek(s, c, ack, wait > 0)
	if err != inbox.ErrEmpty || wait <= 0 {
		return msg, err
	}
	deadline := m.now() + wait
	timer := time.NewTimer(min(wait, left))
	defer timer.Stop()
	for {
		select {
		case <-arrived:
		case <-timer.C:
		case <-ctx.Done():
			m.touch(s, c)
			return inbox.Message{}, ctx.Err()
		}
		msg, arrived, left, err = m.peek(s, c, 0, true)
		remaining := deadline - m.now()
		if err != inbox.ErrEmpty || remaining <= 0 {
			return msg, err
		}
		timer.Reset(min(remaining, left))
	}
}

// peek is one look into the mailbox. With ErrEmpty come what a waiter needs: a
// channel closed at the next change, and how long the claim still lives.
func (m *Store) peek(s *shard, c inbox.Claim, ack uint64, waiting bool) (inbox.Message, <-chan struct{}, time.Duration, error) {
	s.mu.Lock()
	now := m.now()
	b, toRelease := m.findOwnedLocked(s, c, now)
	if b == nil {
		err := s.notFoundLocked(inbox.ErrClaimEnded)
		s.mu.Unlock()
		m.release(toRelease)
		return inbox.Message{}, nil, 0, err
	}
	s.markUsedLocked(b, now)
	acked := b.removeThroughLocked(ack)
	var msg inbox.Message
	var arrived chan struct{}
	err := inbox.ErrEmpty
	if b.first != nil {
		msg, err = b.first.Message, nil
	} else if waiting {
		arrived = b.awaitLocked()
	}
	s.mu.Unlock()
	m.refundAll(acked)
	return msg, arrived, m.limits.Timeout, err
}

// touch restarts the claim's timeout after a wait that was given up.
func (m *Store) touch(s *shard, c inbox.Claim) {
	s.mu.Lock()
	now := m.now()
	b, toRelease := m.findOwnedLocked(s, c, now)
	if b != nil {
		s.markUsedLocked(b, now)
	}
	s.mu.Unlock()
	m.release(toRelease)
}

// Discard implements [inbox.Store].
func (m *Store) Discard(_ context.Context, c inbox.Claim, upTo uint64) error {
	s := m.shard(c.Name)
	s.mu.Lock()
	b, toRelease := m.findOwnedLocked(s, c, m.now())
	if b == nil {
		err := s.notFoundLocked(inbox.ErrClaimEnded)
		s.mu.Unlock()
		m.release(toRelease)
		return err
	}
	removed := b.removeThroughLocked(upTo)
	s.mu.Unlock()
	m.refundAll(removed)
	return nil
}

// Close implements [inbox.Store].
func (m *Store) Close(_ context.Context, c inbox.Claim) error {
	s := m.shard(c.Name)
	s.mu.Lock()
	b, toRelease := m.findOwnedLocked(s, c, m.now())
	err := s.notFoundLocked(inbox.ErrClaimEnded)
	if b != nil {
		s.removeLocked(b)
		toRelease, err = b, nil
	}
	s.mu.Unlock()
	m.release(toRelease)
	return err
}

// Sweep frees what has expired and returns how many mailboxes that were. It
// never holds a lock for longer than a few of them take.
func (m *Store) Sweep() (removed int) {
	for i := range m.shards {
		for {
			n := m.sweepSome(&m.shards[i])
			removed += n
			if n < sweepBatch {
				break
			}
		}
	}
	return removed
}

func (m *Store) sweepSome(s *shard) int {
	var batch [sweepBatch]*box
	n := 0
	s.mu.Lock()
	for now := m.now(); n < sweepBatch && !s.frozen && s.oldest != nil && m.expired(s.oldest, now); n++ {
		batch[n] = s.oldest
		s.removeLocked(s.oldest)
	}
	s.mu.Unlock()
	for _, b := range batch[:n] {
		m.release(b)
	}
	return n
}

// reclaim sweeps for a request that met a limit, unless that was just done: a
// flood against a full store must not make it sweep all the time.
func (m *Store) reclaim() bool {
	now, last := int64(m.now()), m.reclaimed.Load()
	if now-last < int64(reclaimEvery) && last != 0 || !m.reclaimed.CompareAndSwap(last, now) {
		return false
	}
	return m.Sweep() > 0
}

func (m *Store) expired(b *box, now time.Duration) bool { return now-b.lastUse >= m.limits.Timeout }

// findLocked returns the live mailbox of that name. An expired one is taken
// out and returned as well, to be settled once the lock is released. A frozen
// shard shows nobody anything: it stays as it is.
func (m *Store) findLocked(s *shard, name string, now time.Duration) (live, expired *box) {
	if s.frozen {
		return nil, nil
	}
	b := s.boxes[name]
	if b == nil || !m.expired(b, now) {
		return b, nil
	}
	s.removeLocked(b)
	return nil, b
}

// findOwnedLocked is findLocked for the owner: another epoch is not its mailbox.
func (m *Store) findOwnedLocked(s *shard, c inbox.Claim, now time.Duration) (live, expired *box) {
	b, expired := m.findLocked(s, c.Name, now)
	if b != nil && b.epoch != c.Epoch {
		return nil, expired
	}
	return b, expired
}
