package memstore

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"inbox/inbox"
	"inbox/inbox/quota"
)

// errWaitTimeout ends a Put that has waited as long as its caller allowed.
var errWaitTimeout = errors.New("wait timeout")

const (
	// minShrinkSize is the size below which a shard's map is not rebuilt.
	minShrinkSize = 1024
	// messageOverhead is what a queued message costs beyond its body, sender
	// and type: its node and the rounding of its allocations, in bytes.
	messageOverhead = 160
)

// shard has a part of the names. Its mailboxes form a list in the order of
// last use: all have the same timeout, so those that have expired are in front.
// A watched mailbox can be in front too; Sweep moves it to the end.
type shard struct {
	mu           sync.Mutex
	boxes        map[string]*box
	peak         int // most boxes since the map was made, to know when to shrink it
	oldest       *box
	newest       *box
	lastID       uint64                  // the highest ID given to any claim here, so that none is reused
	claimWaiters map[string]*claimWaiter // Puts that wait for a claim of a name
	frozen       bool                    // it has been saved and no longer changes
	_            [40]byte                // keeps the locks of two shards off one cache line
}

// box is one claimed mailbox. Its shard's lock guards it.
type box struct {
	name         string
	key          inbox.Key
	epoch        uint64
	lastID       uint64
	receiver     uint64 // the last one; zero if none has read it
	lastUse      time.Duration
	older, newer *box
	first, last  *node
	count        int
	bytes        int64
	payer        *quota.Account
	watches      *watch // newest first; a watched claim does not expire
}

// node is one queued message.
type node struct {
	inbox.Message // without its Payer, which the account has
	payer         *quota.Account
	next          *node
}

// claimWaiter is one unclaimed name that Puts wait for.
type claimWaiter struct {
	claimed chan struct{}
	count   int
}

// markUsedLocked restarts the timeout of b, which makes it the last to expire.
func (s *shard) markUsedLocked(b *box, now time.Duration) {
	b.lastUse = now
	if s.newest == b {
		return
	}
	s.unlinkLocked(b)
	b.older = s.newest
	if s.newest != nil {
		s.newest.newer = b
	} else {
		s.oldest = b
	}
	s.newest = b
}

// unlinkLocked takes b out of the list of use. It does nothing for a box that is
// not in the list.
func (s *shard) unlinkLocked(b *box) {
	if b.older != nil {
		b.older.newer = b.newer
	} else if s.oldest == b {
		s.oldest = b.newer
	}
	if b.newer != nil {
		b.newer.older = b.older
	} else if s.newest == b {
		s.newest = b.older
	}
	b.older, b.newer = nil, nil
}

// removeLocked takes b out of the shard. The caller releases b, and ends its
// watches, once the lock is released.
func (s *shard) removeLocked(b *box) {
	s.unlinkLocked(b)
	delete(s.boxes, b.name)
	// A Go map never releases memory: copy what is left once it is little.
	if s.peak > minShrinkSize && len(s.boxes) < s.peak/4 {
		boxes := make(map[string]*box, len(s.boxes))
		maps.Copy(boxes, s.boxes)
		s.boxes, s.peak = boxes, len(boxes)
	}
}

// notFoundLocked returns the error for a mailbox that was not found: err, unless
// the shard is frozen.
func (s *shard) notFoundLocked(err error) error {
	if s.frozen {
		return inbox.ErrStopping
	}
	return err
}

// awaitClaim waits until the name is claimed or the shard is frozen, and then
// returns nil. The error is errWaitTimeout or that of the context.
func (s *shard) awaitClaim(ctx context.Context, name string, timeout <-chan time.Time) error {
	s.mu.Lock()
	if s.boxes[name] != nil || s.frozen {
		s.mu.Unlock()
		return nil
	}
	k := s.claimWaiters[name]
	if k == nil {
		k = &claimWaiter{claimed: make(chan struct{})}
		s.claimWaiters[name] = k
	}
	k.count++
	s.mu.Unlock()
	defer s.removeClaimWaiter(name, k)
	select {
	case <-k.claimed:
		return nil
	case <-timeout:
		return errWaitTimeout
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *shard) removeClaimWaiter(name string, k *claimWaiter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k.count--
	if k.count == 0 && s.claimWaiters[name] == k {
		delete(s.claimWaiters, name)
	}
}

// admitLocked makes r the last receiver. It returns false if r resumes and another one is.
func (b *box) admitLocked(r inbox.Client) bool {
	if r.ID == 0 {
		return true
	}
	if r.Resume && b.receiver != 0 && b.receiver != r.ID {
		return false
	}
	b.receiver = r.ID
	return true
}

// push appends n, which has its ID.
func (b *box) push(n *node) {
	if b.last == nil {
		b.first = n
	} else {
		b.last.next = n
	}
	b.last = n
	b.count++
	b.bytes += n.size()
}

// readLocked removes the messages through ack, which it returns as a list, and returns the oldest
// above after, unless the receiver is refused.
func (b *box) readLocked(ack, after uint64, r inbox.Client) (msg inbox.Message, acked *node, err error) {
	if !b.admitLocked(r) {
		return msg, nil, inbox.ErrOtherReceiver
	}
	acked = b.removeThroughLocked(ack)
	n := b.oldestAboveLocked(after)
	if n == nil {
		return msg, acked, inbox.ErrEmpty
	}
	return n.Message, acked, nil
}

// oldestAboveLocked returns the oldest message with an ID above after, or nil.
// An ID that was not given yet reads from the oldest.
func (b *box) oldestAboveLocked(after uint64) *node {
	n := b.first
	switch {
	case n == nil || after > b.lastID:
		return n
	case after >= b.last.ID:
		return nil
	case after == b.last.ID-1:
		return b.last // usually, and those before it wait for an acknowledgement
	}
	for n.ID <= after {
		n = n.next
	}
	return n
}

// removeThroughLocked cuts off the messages up to and including upTo and
// returns them as a list. An ID that was not given yet acknowledges nothing.
func (b *box) removeThroughLocked(upTo uint64) *node {
	if b.first == nil || upTo < b.first.ID || upTo > b.lastID {
		return nil
	}
	removed, last := b.first, (*node)(nil)
	for n := b.first; n != nil && n.ID <= upTo; n = n.next {
		b.count--
		b.bytes -= n.size()
		last = n
	}
	b.first = last.next
	last.next = nil
	if b.first == nil {
		b.last = nil
	}
	return removed
}

// size is what n counts for in the budgets.
func (n *node) size() int64 {
	return int64(len(n.Body)+len(n.From)+len(n.ContentType)) + messageOverhead
}
