package memstore

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"inbox/inbox"
)

// errWaitTimeout says that a Put waited as long as it may.
var errWaitTimeout = errors.New("wait over")

const (
	// minShrinkSize is the size under which a shard's map is not worth rebuilding.
	minShrinkSize = 1024
	// messageOverhead is what a queued message costs beyond its texts: its node
	// and the rounding of its allocations, in bytes.
	messageOverhead = 160
)

// shard is one part of the names. Its mailboxes form a list in the order of
// last use: since all live equally long, the expired are always in front.
type shard struct {
	mu           sync.Mutex
	boxes        map[string]*box
	peak         int // most boxes since the map was made, to know when to shrink it
	oldest       *box
	newest       *box
	lastID       uint64                  // the highest ID given to any claim here, so that none returns
	claimWaiters map[string]*claimWaiter // Puts that wait for a name to be claimed
	frozen       bool                    // it is being saved and changes no more
	_            [40]byte                // neighbours' locks on cache lines of their own
}

// box is one claimed mailbox. Its shard's lock guards it.
type box struct {
	name         string
	key          inbox.Key
	epoch        uint64
	lastID       uint64
	lastUse      time.Duration
	older, newer *box
	first, last  *node
	count        int
	bytes        int64
	payer        *inbox.Account
	arrived      chan struct{} // made by a waiting Next, closed by the next change
}

// node is one queued message.
type node struct {
	inbox.Message // its Payer is in the account alone
	payer         *inbox.Account
	next          *node
}

// claimWaiter is one unclaimed name that Puts wait for.
type claimWaiter struct {
	claimed chan struct{}
	count   int
}

// markUsedLocked marks b as used now, which makes it the last to expire.
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

// unlinkLocked takes b out of the list of use; one that is not in it may be
// given too.
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

// removeLocked takes b out of the shard and wakes who waits for its messages.
// Whoever calls it settles b after the lock is released.
func (s *shard) removeLocked(b *box) {
	s.unlinkLocked(b)
	delete(s.boxes, b.name)
	b.wakeWaiters()
	// A Go map never gives memory back: copy what is left once it is little.
	if s.peak > minShrinkSize && len(s.boxes) < s.peak/4 {
		boxes := make(map[string]*box, len(s.boxes))
		maps.Copy(boxes, s.boxes)
		s.boxes, s.peak = boxes, len(boxes)
	}
}

// notFoundLocked is why something was not found: err, unless the shard is frozen.
func (s *shard) notFoundLocked(err error) error {
	if s.frozen {
		return inbox.ErrStopping
	}
	return err
}

// awaitClaim returns nil when somebody claims the name or nobody can any more,
// else why the wait is over: its time is, or the context has ended.
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

// wakeWaiters wakes every Next that waits on b.
func (b *box) wakeWaiters() {
	if b.arrived != nil {
		close(b.arrived)
		b.arrived = nil
	}
}

func (b *box) awaitLocked() chan struct{} {
	if b.arrived == nil {
		b.arrived = make(chan struct{})
	}
	return b.arrived
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

// removeThroughLocked cuts off the messages up to and including upTo and returns them
// as a list. An ID that no message was given yet acknowledges nothing.
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
