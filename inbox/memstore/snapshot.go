package memstore

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"inbox/inbox"
)

// SnapshotStats says what a snapshot held, and what of it was left out because
// the limits have become tighter since it was saved.
type SnapshotStats struct {
	Inboxes, Messages               int64
	DroppedInboxes, DroppedMessages int64
}

// Save closes the store for good and writes what it holds: claims with their
// keys, and messages with their IDs, also those that were handed out and not
// acknowledged. From then on every method of [inbox.Store] returns [ErrStopping], at
// once for those that wait. So whatever was answered before is in the
// snapshot, and nothing that is refused is.
//
// Names, senders and messages stand in the snapshot as they are; passwords do
// not. It ends with an HMAC-SHA256 under key, of any length. Save may be called
// again, as after an error of w.
func (m *Store) Save(w io.Writer, key []byte) (SnapshotStats, error) {
	boxes, lastID := m.freeze(), uint64(0)
	for i := range m.shards {
		lastID = max(lastID, m.shards[i].lastID)
	}
	now := m.now()
	e := newEncoder(w, key)
	e.header(lastID)
	var saved SnapshotStats
	for _, b := range boxes {
		if m.expired(b, now) {
			continue
		}
		e.box(b, now-b.lastUse)
		saved.Inboxes++
		saved.Messages += int64(b.count)
	}
	return saved, e.end()
}

// freeze lets nothing change any more, wakes all who wait for a change, and
// returns the mailboxes, that which was used last first.
func (m *Store) freeze() []*box {
	var all []*box
	for i := range m.shards {
		all = m.shards[i].freeze(all)
	}
	slices.SortFunc(all, func(a, b *box) int { return cmp.Compare(b.lastUse, a.lastUse) })
	return all
}

func (s *shard) freeze(all []*box) []*box {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen = true
	for name, k := range s.claimWaiters {
		close(k.claimed)
		delete(s.claimWaiters, name)
	}
	for b := s.newest; b != nil; b = b.older {
		b.wakeWaiters()
		all = append(all, b)
	}
	return all
}

// Load returns a store with what [Store.Save] wrote under the same key.
// With an error, what was read is damaged, cut short, of another version or of
// another key; nothing of it is to be used.
//
// The time between Save and Load does not count: no owner could ask. Each
// claim lives for half its timeout at least, which is the longest that a poll
// of default length is held, so that a restart ends no claim that is in use.
//
// The limits hold: of mailboxes, those used last are kept, of a mailbox's
// messages the oldest, as if the others had been refused. Under the limits
// with which it was saved everything fits, since a payer's share as the store
// fills is for what comes new.
func Load(limits inbox.Limits, r io.Reader, key []byte) (*Store, SnapshotStats, error) {
	m := New(limits)
	d := newDecoder(r, key)
	loaded, err := m.load(d)
	if err != nil {
		return nil, SnapshotStats{}, fmt.Errorf("read a snapshot, byte %d: %w", d.n, err)
	}
	return m, loaded, nil
}

// load fills m, which nobody else knows yet: no lock is taken.
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
			return stats, errors.New("the order of use is broken")
		case s.lastID > lastID:
			return stats, errors.New("an ID above the highest")
		}
		idle = s.idle
		s.lastUse = now - min(idle, m.limits.Timeout/2)
		if err := m.loadBox(d, s, &stats); err != nil {
			return stats, err
		}
	}
	return stats, d.end()
}

// savedBox is a mailbox as it stands in a snapshot, without its messages.
type savedBox struct {
	*box
	payer        inbox.Payer
	idle         time.Duration // since its last use
	messageCount uint32        // messages that follow
}

// loadBox takes over a mailbox and its messages, or as much as the limits allow.
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
			return errors.New("an ID out of order")
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

// restoreBox adds a mailbox that was used before all that are there; nil when the
// limits do not allow it.
func (m *Store) restoreBox(s savedBox) (*box, error) {
	sh := m.shard(s.name)
	if sh.boxes[s.name] != nil {
		return nil, errors.New("a name that was there before")
	}
	if m.limits.MaxInboxes > 0 && m.inboxes.Load() >= int64(m.limits.MaxInboxes) {
		return nil, nil
	}
	a, err := m.ledger.Charge(s.payer, inbox.Usage{Inboxes: 1}, 0)
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

// restoreMessage appends a message that has its ID, and reports whether the limits
// allowed it. The payer's share is that of an empty store: the most it ever was.
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
