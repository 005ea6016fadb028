package memstore

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"inbox/inbox"
	"inbox/inbox/quota"
)

// SnapshotStats counts what was saved or restored, and what was dropped: by
// [Store.SaveWithin] for lack of space, by [Load] because the limits have become
// lower since it was saved.
type SnapshotStats struct {
	Inboxes, Messages               int64
	DroppedInboxes, DroppedMessages int64
}

// Save closes the store for good and writes what it holds: claims with their
// keys, and messages with their IDs, including those that were handed out and
// not acknowledged. From then on every method of [inbox.Store] returns
// [inbox.ErrStopping], and so do watches and Puts that wait. A step that
// succeeded before is in the snapshot; one that is refused is not.
//
// The snapshot contains names, senders and messages in the clear, but no
// passwords. It ends with an HMAC-SHA256 under key, which can have any length.
// Save can be called again, as after an error of w.
func (m *Store) Save(w io.Writer, key []byte) (SnapshotStats, error) {
	return m.SaveWithin(w, key, math.MaxInt64)
}

// SaveWithin is [Store.Save] with a limit on the bytes of the snapshot, for a disk
// without enough space. It drops the messages of the largest mailboxes first. If
// the claims alone exceed the limit, it drops those that were used least recently.
func (m *Store) SaveWithin(w io.Writer, key []byte, limitBytes int64) (SnapshotStats, error) {
	boxes, lastID := m.freeze(), uint64(0)
	for i := range m.shards {
		lastID = max(lastID, m.shards[i].lastID)
	}
	now := m.now()
	boxes = slices.DeleteFunc(boxes, func(b *box) bool { return m.expired(b, now) })
	kept, emptied := fit(boxes, limitBytes)
	e := newEncoder(w, key)
	e.header(lastID)
	saved := SnapshotStats{DroppedInboxes: int64(len(boxes) - kept)}
	for i, b := range boxes {
		if i >= kept || emptied[b] {
			saved.DroppedMessages += int64(b.count)
		}
		if i >= kept {
			continue
		}
		e.box(b, now-b.lastUse, !emptied[b])
		saved.Inboxes++
		if !emptied[b] {
			saved.Messages += int64(b.count)
		}
	}
	return saved, e.end()
}

// fit returns how many of the mailboxes fit into a snapshot of limitBytes, and which of
// them do so without their messages only.
func fit(boxes []*box, limitBytes int64) (kept int, emptied map[*box]bool) {
	if limitBytes == math.MaxInt64 {
		return len(boxes), nil
	}
	total, messageBytes := int64(snapshotOverheadBytes), make(map[*box]int64, len(boxes))
	for _, b := range boxes {
		messageBytes[b] = savedMessageBytes(b)
		total += savedClaimBytes(b) + messageBytes[b]
	}
	emptied = map[*box]bool{}
	bySize := slices.Clone(boxes)
	slices.SortStableFunc(bySize, func(a, b *box) int { return cmp.Compare(messageBytes[b], messageBytes[a]) })
	for _, b := range bySize {
		if total <= limitBytes {
			break
		}
		total -= messageBytes[b]
		emptied[b] = b.count > 0
	}
	for kept = len(boxes); kept > 0 && total > limitBytes; kept-- {
		total -= savedClaimBytes(boxes[kept-1])
	}
	return kept, emptied
}

// freeze stops all changes, ends what waits for one, and returns the mailboxes,
// most recently used first.
func (m *Store) freeze() []*box {
	var all []*box
	for i := range m.shards {
		watches := m.shards[i].freeze(m.now())
		notifyAll(watches, inbox.ErrStopping)
		for b := m.shards[i].newest; b != nil; b = b.older { // frozen: no lock needed
			all = append(all, b)
		}
	}
	slices.SortFunc(all, func(a, b *box) int { return cmp.Compare(b.lastUse, a.lastUse) })
	return all
}

// freeze returns the watches that it ends.
func (s *shard) freeze(now time.Duration) (ended []func(error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen = true
	for name, k := range s.claimWaiters {
		close(k.claimed)
		delete(s.claimWaiters, name)
	}
	for b, older := s.newest, (*box)(nil); b != nil; b = older {
		older = b.older
		if b.watches != nil {
			ended = b.appendWatchesLocked(ended)
			b.watches = nil
			s.markUsedLocked(b, now)
		}
	}
	return ended
}

// Load returns a store with what [Store.Save] wrote under the same key. An error
// means that the snapshot is damaged, cut short, of another version or of
// another key.
//
// The time between Save and Load does not count: no owner could send a request.
// Each claim lives for at least half its timeout, which is the longest that a
// poll of default length waits, so that a restart ends no claim that is in use.
//
// The limits apply: the mailboxes that were used last are kept, and of a mailbox
// the oldest messages, as if the others had been refused. Under the limits with
// which it was saved everything fits, since the share of a payer that shrinks as
// the store fills concerns new messages only.
func Load(limits inbox.Limits, r io.Reader, key []byte) (*Store, SnapshotStats, error) {
	m := New(limits)
	d := newDecoder(r, key)
	loaded, err := m.load(d)
	if err != nil {
		return nil, SnapshotStats{}, fmt.Errorf("read a snapshot, byte %d: %w", d.n, err)
	}
	return m, loaded, nil
}

// load fills m, which is not shared yet: it takes no lock.
func (m *Store) load(d *decoder) (stats SnapshotStats, err error) {
	lastID := d.header()
	for i := range m.shards {
		m.shards[i].lastID = lastID
	}
	now, idle := m.now(), time.Duration(0)
	for d.more() {
		s := d.box()
		switch {
		case d.err != nil:
			return stats, d.err
		case s.idle < idle:
			return stats, errors.New("mailboxes are not in the order of use")
		case s.lastID > lastID:
			return stats, errors.New("an ID is above the highest")
		}
		idle = s.idle
		s.lastUse = now - min(idle, m.limits.Timeout/2)
		if err := m.loadBox(d, s, &stats); err != nil {
			return stats, err
		}
	}
	return stats, d.end()
}

// loadBox restores a mailbox and its messages, as far as the limits allow.
func (m *Store) loadBox(d *decoder, s savedBox, stats *SnapshotStats) error {
	b, err := m.restoreBox(s)
	if err != nil {
		return err
	}
	if b != nil {
		stats.Inboxes++
	} else {
		stats.DroppedInboxes++
	}
	after := s.epoch - 1
	for range s.messageCount {
		n := &node{Message: d.message()}
		if d.err != nil {
			return d.err
		}
		if n.ID <= after || n.ID > s.lastID {
			return errors.New("IDs are out of order")
		}
		after = n.ID
		if b != nil && m.restoreMessage(b, n) {
			stats.Messages++
		} else {
			stats.DroppedMessages++
		}
	}
	return nil
}

// restoreBox adds a mailbox that was used before all others. It returns nil if the
// limits do not allow it.
func (m *Store) restoreBox(s savedBox) (*box, error) {
	sh := m.shard(s.name)
	if sh.boxes[s.name] != nil {
		return nil, errors.New("a name occurs twice")
	}
	if m.limits.MaxInboxes > 0 && m.inboxes.Load() >= int64(m.limits.MaxInboxes) {
		return nil, nil
	}
	a, err := m.ledger.Charge(s.payer, quota.Usage{Inboxes: 1}, quota.Usage{})
	if err != nil {
		return nil, nil
	}
	b := s.box
	b.payer, b.newer = a, sh.oldest
	m.inboxes.Add(1)
	sh.boxes[b.name] = b
	sh.peak = len(sh.boxes)
	if sh.oldest != nil {
		sh.oldest.older = b
	} else {
		sh.newest = b
	}
	sh.oldest = b
	return b, nil
}

// restoreMessage appends a message that has its ID, and reports whether the
// limits allow it. The share of its payer is that of an empty store, the largest.
func (m *Store) restoreMessage(b *box, n *node) bool {
	if m.limits.Capacity > 0 && b.count >= m.limits.Capacity {
		return false
	}
	if m.charge(n, 0) != nil {
		return false
	}
	b.push(n)
	return true
}
