package inbox

import (
	"context"
	"crypto/subtle"
	"errors"
	"hash/maphash"
	"sync/atomic"
	"time"
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

// Memory is the [Store] that needs nothing but memory: mailboxes are gone when
// the process ends, unless they are saved. An idle mailbox costs about 200 bytes; expiry costs what
// expires, not what exists. Make one with [NewMemory].
type Memory struct {
	limits    Limits
	start     time.Time // all times inside are offsets from it: monotonic, 8 bytes
	seed      maphash.Seed
	inboxes   atomic.Int64
	bytes     atomic.Int64
	messages  atomic.Int64
	payers    payers
	reclaimed atomic.Int64 // when reclaim last ran
	shards    [shardCount]shard
}

// NewMemory returns an empty store. It starts nothing: somebody has to call
// [Memory.Sweep] now and then.
func NewMemory(limits Limits) *Memory {
	m := &Memory{limits: limits, start: time.Now(), seed: maphash.MakeSeed()}
	m.payers.init()
	for i := range m.shards {
		m.shards[i].boxes = make(map[string]*box)
		m.shards[i].claimWaiters = make(map[string]*claimWaiter)
	}
	return m
}

// Stats is what a [Memory] holds at one moment, expired mailboxes that were
// not freed yet included.
type Stats struct {
	Inboxes int64
	// Messages that wait to be read, or for their recipient, and what they
	// count for in the budgets.
	Queued, QueuedBytes int64
}

// Stats counts without locking anything.
func (m *Memory) Stats() Stats {
	return Stats{Inboxes: m.inboxes.Load(), Queued: m.messages.Load(), QueuedBytes: m.bytes.Load()}
}

func (m *Memory) shard(name string) *shard {
	return &m.shards[maphash.String(m.seed, name)&(shardCount-1)]
}

func (m *Memory) now() time.Duration { return time.Since(m.start) }

// Open implements [Store].
func (m *Memory) Open(_ context.Context, name string, key Key, payer *Payer) (Claim, error) {
	c, err := m.open(name, key, payer)
	if errors.Is(err, ErrTooManyInboxes) || errors.Is(err, ErrPayerFull) {
		if m.reclaim() {
			c, err = m.open(name, key, payer)
		}
	}
	return c, err
}

func (m *Memory) open(name string, key Key, payer *Payer) (Claim, error) {
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
		err = ErrStopping
	case b == nil && payer == nil:
		err = ErrNoInbox
	case b == nil:
		created = true
		b, err = m.claimLocked(s, name, key, *payer, now)
	case subtle.ConstantTimeCompare(b.key[:], key[:]) != 1:
		err = ErrWrongKey
	default:
		s.markUsedLocked(b, now)
	}
	var c Claim
	if err == nil {
		c = Claim{Name: b.name, Epoch: b.epoch, Created: created}
	}
	s.mu.Unlock()
	return c, err
}

// claimLocked makes the mailbox and tells the Puts that wait for it.
func (m *Memory) claimLocked(s *shard, name string, key Key, payer Payer, now time.Duration) (*box, error) {
	if n := m.inboxes.Add(1); m.limits.MaxInboxes > 0 && n > int64(m.limits.MaxInboxes) {
		m.inboxes.Add(-1)
		return nil, ErrTooManyInboxes
	}
	a, err := m.payers.charge(payer, usage{inboxes: 1}, m.limits, 0)
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

// Put implements [Store].
func (m *Memory) Put(ctx context.Context, to string, msg Message, wait time.Duration) error {
	n := &node{Message: msg}
	err := m.put(ctx, to, n, wait)
	if errors.Is(err, ErrStoreFull) || errors.Is(err, ErrPayerFull) {
		if m.reclaim() {
			err = m.put(ctx, to, n, wait)
		}
	}
	return err
}

// put appends at once, or pays for the bytes and then waits: a body that waits
// for its recipient takes the same memory as one in a mailbox.
func (m *Memory) put(ctx context.Context, to string, n *node, wait time.Duration) error {
	s := m.shard(to)
	err := m.enqueue(s, to, n, false)
	if err != ErrNoInbox || wait <= 0 {
		return err
	}
	if err := m.charge(n, m.bytes.Load()); err != nil {
		return err
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for err == ErrNoInbox {
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
func (m *Memory) enqueue(s *shard, to string, n *node, charged bool) error {
	s.mu.Lock()
	b, expired := m.findLocked(s, to, m.now())
	err := s.notFoundLocked(ErrNoInbox)
	if b != nil {
		err = m.appendLocked(s, b, n, charged)
	}
	s.mu.Unlock()
	m.release(expired)
	return err
}

func (m *Memory) appendLocked(s *shard, b *box, n *node, charged bool) error {
	if m.limits.Capacity > 0 && b.count >= m.limits.Capacity {
		return ErrInboxFull
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

// Next implements [Store].
func (m *Memory) Next(ctx context.Context, c Claim, ack uint64, wait time.Duration) (Message, error) {
	s := m.shard(c.Name)
	msg, arrived, left, err := m.peek(s, c, ack, wait > 0)
	if err != ErrEmpty || wait <= 0 {
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
			return Message{}, ctx.Err()
		}
		msg, arrived, left, err = m.peek(s, c, 0, true)
		remaining := deadline - m.now()
		if err != ErrEmpty || remaining <= 0 {
			return msg, err
		}
		timer.Reset(min(remaining, left))
	}
}

// peek is one look into the mailbox. With ErrEmpty come what a waiter needs: a
// channel closed at the next change, and how long the claim still lives.
func (m *Memory) peek(s *shard, c Claim, ack uint64, waiting bool) (Message, <-chan struct{}, time.Duration, error) {
	s.mu.Lock()
	now := m.now()
	b, toRelease := m.findOwnedLocked(s, c, now)
	if b == nil {
		err := s.notFoundLocked(ErrClaimEnded)
		s.mu.Unlock()
		m.release(toRelease)
		return Message{}, nil, 0, err
	}
	s.markUsedLocked(b, now)
	acked := b.removeThroughLocked(ack)
	var msg Message
	var arrived chan struct{}
	err := ErrEmpty
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
func (m *Memory) touch(s *shard, c Claim) {
	s.mu.Lock()
	now := m.now()
	b, toRelease := m.findOwnedLocked(s, c, now)
	if b != nil {
		s.markUsedLocked(b, now)
	}
	s.mu.Unlock()
	m.release(toRelease)
}

// Discard implements [Store].
func (m *Memory) Discard(_ context.Context, c Claim, upTo uint64) error {
	s := m.shard(c.Name)
	s.mu.Lock()
	b, toRelease := m.findOwnedLocked(s, c, m.now())
	if b == nil {
		err := s.notFoundLocked(ErrClaimEnded)
		s.mu.Unlock()
		m.release(toRelease)
		return err
	}
	removed := b.removeThroughLocked(upTo)
	s.mu.Unlock()
	m.refundAll(removed)
	return nil
}

// Close implements [Store].
func (m *Memory) Close(_ context.Context, c Claim) error {
	s := m.shard(c.Name)
	s.mu.Lock()
	b, toRelease := m.findOwnedLocked(s, c, m.now())
	err := s.notFoundLocked(ErrClaimEnded)
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
func (m *Memory) Sweep() (removed int) {
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

func (m *Memory) sweepSome(s *shard) int {
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
func (m *Memory) reclaim() bool {
	now, last := int64(m.now()), m.reclaimed.Load()
	if now-last < int64(reclaimEvery) && last != 0 || !m.reclaimed.CompareAndSwap(last, now) {
		return false
	}
	return m.Sweep() > 0
}

func (m *Memory) expired(b *box, now time.Duration) bool { return now-b.lastUse >= m.limits.Timeout }

// findLocked returns the live mailbox of that name. An expired one is taken
// out and returned as well, to be settled once the lock is released. A frozen
// shard shows nobody anything: it stays as it is.
func (m *Memory) findLocked(s *shard, name string, now time.Duration) (live, expired *box) {
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
func (m *Memory) findOwnedLocked(s *shard, c Claim, now time.Duration) (live, expired *box) {
	b, expired := m.findLocked(s, c.Name, now)
	if b != nil && b.epoch != c.Epoch {
		return nil, expired
	}
	return b, expired
}
