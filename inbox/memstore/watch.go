package memstore

import "inbox/inbox"

// watch is one registered watch. Its shard's lock guards older.
type watch struct {
	notifyFunc func(error)
	older      *watch
}

// notifyAll calls what appendWatchesLocked returned, once the lock is released.
func notifyAll(watches []func(error), end error) {
	for _, notify := range watches {
		notify(end)
	}
}

// Watch implements [inbox.Store].
func (m *Store) Watch(c inbox.Claim, notify func(error)) (stop func(), err error) {
	s := m.shard(c.Name)
	s.mu.Lock()
	now := m.now()
	b, expired := m.findOwnedLocked(s, c, now)
	if b == nil {
		err := s.notFoundLocked(inbox.ErrClaimEnded)
		s.mu.Unlock()
		m.release(expired)
		return nil, err
	}
	s.markUsedLocked(b, now)
	if c.Receiver != 0 && c.Receiver != b.receiver {
		s.mu.Unlock()
		return nil, inbox.ErrSuperseded
	}
	w := &watch{notify, b.watches}
	b.watches = w
	hasMessage := b.first != nil
	s.mu.Unlock()
	if hasMessage {
		notify(nil)
	}
	return func() { m.stopWatch(s, b, w) }, nil
}

// stopWatch removes w, unless the watch has ended.
func (m *Store) stopWatch(s *shard, b *box, w *watch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at := &b.watches; *at != nil; at = &(*at).older {
		if *at == w {
			*at = w.older
			s.markUsedLocked(b, m.now())
			return
		}
	}
}

// appendWatchesLocked appends the functions to notify.
func (b *box) appendWatchesLocked(list []func(error)) []func(error) {
	for w := b.watches; w != nil; w = w.older {
		list = append(list, w.notifyFunc)
	}
	return list
}
