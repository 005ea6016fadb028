package server

import (
	"log/slog"
	"time"

	"inbox/cmd/inbox/internal/snapshot"
	"inbox/inbox"
	"inbox/inbox/memstore"
	"inbox/inbox/redisstore"
)

// mailboxes is where the server keeps messages: in memory, or in a store that it shares
// with other nodes.
type mailboxes struct {
	memory   *memstore.Store
	snapshot *snapshot.File    // saves memory; nil: a restart loses it
	restored snapshot.Restored // what the start took from the snapshot

	shared *redisstore.Store // used instead of memory; nil without -store
}

// load restores the mailboxes of the previous server into memory. Without a state
// directory it creates empty ones.
func (m *mailboxes) load(limits inbox.Limits, dir string, key []byte, timeout time.Duration, stopping <-chan struct{}, log *slog.Logger) {
	if dir != "" {
		var err error
		if m.snapshot, err = snapshot.Open(dir, key, timeout, stopping, log); err != nil {
			log.Warn("a restart will lose all mailboxes: cannot lock the state directory; give each server its own with -state", "err", err)
		}
	}
	if m.snapshot == nil {
		m.memory = memstore.New(limits)
		return
	}
	m.memory, m.restored = m.snapshot.Load(limits)
}

func (m *mailboxes) store() inbox.Store {
	if m.shared != nil {
		return m.shared
	}
	return m.memory
}

func (m *mailboxes) stats() inbox.Stats {
	if m.shared != nil {
		return m.shared.Stats()
	}
	return m.memory.Stats()
}

// sweep removes expired mailboxes from memory.
func (m *mailboxes) sweep() {
	if m.memory != nil {
		m.memory.Sweep()
	}
}

// markInUse must be called before the first request.
func (m *mailboxes) markInUse() error {
	if m.snapshot == nil {
		return nil
	}
	return m.snapshot.MarkInUse()
}

// save saves the mailboxes for the next start. It calls extend at the start and as long
// as the snapshot makes progress.
func (m *mailboxes) save(t snapshot.Timeouts, extend func()) error {
	if m.snapshot == nil {
		return nil
	}
	extend()
	return m.snapshot.Save(m.memory, t, extend)
}

func (m *mailboxes) close() {
	if m.shared != nil {
		m.shared.Shutdown()
	}
	if m.snapshot != nil {
		m.snapshot.Close()
	}
}
