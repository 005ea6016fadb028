// Package memstore keeps mailboxes in the memory of one process. They are gone
// when the process ends, unless [Store.Save] has written them to a snapshot.
//
// The owner of a store must call [Store.Sweep] regularly: the package starts no
// goroutine of its own.
package memstore

import (
	"context"
	"crypto/subtle"
	"errors"
	"hash/maphash"
	"sync/atomic"
	"time"

	"inbox/inbox"
	"inbox/inbox/quota"
)

const (
	// shardCount reduces lock contention between peers. It is a power of two,
	// so that selecting a shard is a mask.
	shardCount = 128
	// sweepBatch mailboxes are freed while a shard is locked once, so that no
	// request waits for a large expiry.
	sweepBatch = 32
	// reclaimEvery bounds how often a full store looks for expired mailboxes
	// on behalf of a request.
	reclaimEvery = 100 * time.Millisecond
)

// Store is an [inbox.Store] in memory. An idle mailbox costs about 200 bytes.
// The cost of expiry depends on how many mailboxes expire, not on how many
// exist. Make one with [New] or [Load].
type Store struct {
	limits    inbox.Limits
	start     time.Time // times inside are offsets from it: monotonic, 8 bytes
	seed      maphash.Seed
	inboxes   atomic.Int64
	bytes     atomic.Int64
	messages  atomic.Int64
	ledger    *quota.Ledger
	reclaimed atomic.Int64 // when reclaim last ran
	shards    [shardCount]shard
}

// New returns an empty store.
func New(limits inbox.Limits) *Store {
	m := &Store{limits: limits, ledger: quota.NewLedger(limits), start: time.Now(), seed: maphash.MakeSeed()}
	for i := range m.shards {
		m.shards[i].boxes = make(map[string]*box)
		m.shards[i].claimWaiters = make(map[string]*claimWaiter)
	}
	return m
}

// Stats returns the current counts. It takes no lock.
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
		// The new mailbox can need the quota that the expired one holds.
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

// Check implements [inbox.Store].
func (m *Store) Check(_ context.Context, name string, key inbox.Key) (c inbox.Claim, err error) {
	s := m.shard(name)
	s.mu.Lock()
	b, expired := m.findLocked(s, name, m.now())
	switch {
	case b == nil:
		err = s.notFoundLocked(inbox.ErrNoInbox)
	case subtle.ConstantTimeCompare(b.key[:], key[:]) != 1:
		err = inbox.ErrWrongKey
	default:
		c = inbox.Claim{Name: b.name, Epoch: b.epoch}
	}
	s.mu.Unlock()
	m.release(expired)
	return c, err
}

// claimLocked makes the mailbox and wakes the Puts that wait for it.
func (m *Store) claimLocked(s *shard, name string, key inbox.Key, payer inbox.Payer, now time.Duration) (*box, error) {
	n := m.inboxes.Add(1)
	if m.limits.MaxInboxes > 0 && n > int64(m.limits.MaxInboxes) {
		m.inboxes.Add(-1)
		return nil, inbox.ErrTooManyInboxes
	}
	a, err := m.ledger.Charge(payer, quota.Usage{Inboxes: 1}, quota.Usage{Inboxes: int(n - 1)})
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
func (m *Store) Put(ctx context.Context, to string, msg inbox.Message, wait time.Duration) (id uint64, err error) {
	n := &node{Message: msg}
	id, err = m.put(ctx, to, n, wait)
	if errors.Is(err, inbox.ErrStoreFull) || errors.Is(err, inbox.ErrPayerFull) {
		if m.reclaim() {
			id, err = m.put(ctx, to, n, wait)
		}
	}
	return id, err
}

// put appends at once, or charges the bytes and then waits: a body that waits
// for its recipient takes the same memory as one in a mailbox.
func (m *Store) put(ctx context.Context, to string, n *node, wait time.Duration) (id uint64, err error) {
	s := m.shard(to)
	id, err = m.enqueue(s, to, n, false)
	if err != inbox.ErrNoInbox || wait <= 0 {
		return id, err
	}
	if err := m.charge(n, m.bytes.Load()); err != nil {
		return 0, err
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for err == inbox.ErrNoInbox {
		if err = s.awaitClaim(ctx, to, timer.C); err == nil {
			id, err = m.enqueue(s, to, n, true)
		}
	}
	if err == errWaitTimeout {
		id, err = m.enqueue(s, to, n, true)
	}
	if err != nil {
		m.refund(n)
	}
	return id, err
}

// enqueue appends n to the mailbox if it exists. charged reports whether its
// bytes are counted already.
func (m *Store) enqueue(s *shard, to string, n *node, charged bool) (id uint64, err error) {
	s.mu.Lock()
	b, expired := m.findLocked(s, to, m.now())
	err = s.notFoundLocked(inbox.ErrNoInbox)
	var buffer [2]func(error) // one receiver, and one that it supersedes
	watches := buffer[:0]
	if b != nil {
		if err = m.appendLocked(s, b, n, charged); err == nil {
			id, watches = n.ID, b.appendWatchesLocked(watches)
		}
	}
	s.mu.Unlock()
	m.release(expired)
	notifyAll(watches, nil)
	return id, err
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
	return nil
}

// Next implements [inbox.Store].
func (m *Store) Next(_ context.Context, c inbox.Claim, after uint64) (inbox.Message, error) {
	s := m.shard(c.Name)
	s.mu.Lock()
	now := m.now()
	b, expired := m.findOwnedLocked(s, c, now)
	var msg inbox.Message
	err := s.notFoundLocked(inbox.ErrClaimEnded)
	if b != nil {
		s.markUsedLocked(b, now)
		msg, _, err = b.readLocked(0, after, inbox.Client{})
	}
	s.mu.Unlock()
	m.release(expired)
	return msg, err
}

// OpenPut implements [inbox.Store].
func (m *Store) OpenPut(ctx context.Context, name string, key inbox.Key, to string, msg inbox.Message) (inbox.Claim, uint64, error) {
	c, err := m.Open(ctx, name, key, nil)
	if err != nil {
		return c, 0, err
	}
	id, err := m.Put(ctx, to, msg, 0)
	return c, id, err
}

// OpenNext implements [inbox.Store].
func (m *Store) OpenNext(
	_ context.Context, name string, key inbox.Key, ack uint64, r inbox.Client,
) (inbox.Claim, inbox.Message, error) {
	s := m.shard(name)
	s.mu.Lock()
	now := m.now()
	b, expired := m.findLocked(s, name, now)
	var c inbox.Claim
	var msg inbox.Message
	var acked *node
	err := s.notFoundLocked(inbox.ErrNoInbox)
	switch {
	case b == nil:
	case subtle.ConstantTimeCompare(b.key[:], key[:]) != 1:
		err = inbox.ErrWrongKey
	default:
		c = inbox.Claim{Name: b.name, Epoch: b.epoch, Receiver: r.ID}
		if msg, acked, err = b.readLocked(ack, ack, r); !errors.Is(err, inbox.ErrOtherReceiver) {
			s.markUsedLocked(b, now)
		}
	}
	s.mu.Unlock()
	m.release(expired)
	m.refundAll(acked)
	return c, msg, err
}

// Discard implements [inbox.Store].
func (m *Store) Discard(_ context.Context, c inbox.Claim, upTo uint64) error {
	s := m.shard(c.Name)
	s.mu.Lock()
	b, expired := m.findOwnedLocked(s, c, m.now())
	if b == nil {
		err := s.notFoundLocked(inbox.ErrClaimEnded)
		s.mu.Unlock()
		m.release(expired)
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
	var watches []func(error)
	if b != nil {
		s.removeLocked(b)
		watches, b.watches = b.appendWatchesLocked(nil), nil
		toRelease, err = b, nil
	}
	s.mu.Unlock()
	m.release(toRelease)
	notifyAll(watches, inbox.ErrClaimEnded)
	return err
}

// Sweep frees what has expired and returns how many mailboxes that were. Each
// lock frees only a few of them.
func (m *Store) Sweep() (removed int) {
	for i := range m.shards {
		for more := true; more; {
			var n int
			n, more = m.sweepSome(&m.shards[i])
			removed += n
		}
	}
	return removed
}

// sweepSome looks at up to sweepBatch mailboxes that were not used for the
// timeout. A watched one is in use.
func (m *Store) sweepSome(s *shard) (removed int, more bool) {
	var batch [sweepBatch]*box
	s.mu.Lock()
	now := m.now()
	seen := 0
	for ; seen < sweepBatch && !s.frozen && s.oldest != nil && m.idle(s.oldest, now); seen++ {
		b := s.oldest
		if b.watches != nil {
			s.markUsedLocked(b, now)
			continue
		}
		batch[removed] = b
		removed++
		s.removeLocked(b)
	}
	s.mu.Unlock()
	for _, b := range batch[:removed] {
		m.release(b)
	}
	return removed, seen == sweepBatch
}

// reclaim sweeps for a request that met a limit, unless that was done less
// than reclaimEvery ago: a flood against a full store must not keep it sweeping.
func (m *Store) reclaim() bool {
	now, last := int64(m.now()), m.reclaimed.Load()
	if now-last < int64(reclaimEvery) && last != 0 || !m.reclaimed.CompareAndSwap(last, now) {
		return false
	}
	return m.Sweep() > 0
}

// idle reports whether b was not used for the timeout.
func (m *Store) idle(b *box, now time.Duration) bool { return now-b.lastUse >= m.limits.Timeout }

func (m *Store) expired(b *box, now time.Duration) bool { return b.watches == nil && m.idle(b, now) }

// findLocked returns the live mailbox of that name. It removes an expired one
// and returns it as well, to be released once the lock is. A frozen shard does
// not change, and nothing is found in it.
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

// findOwnedLocked is findLocked for the owner: a mailbox of another epoch is
// not its own.
func (m *Store) findOwnedLocked(s *shard, c inbox.Claim, now time.Duration) (live, expired *box) {
	b, expired := m.findLocked(s, c.Name, now)
	if b != nil && b.epoch != c.Epoch {
		return nil, expired
	}
	return b, expired
}
