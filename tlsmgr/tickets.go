package tlsmgr

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"time"
)

const (
	// ticketKeyLifetime is how long one key encrypts new session tickets.
	ticketKeyLifetime = 24 * time.Hour
	// maxTicketKeys is how many keys decrypt: a ticket is good for seven days.
	maxTicketKeys = 8
	// ticketSyncInterval is how often nodes read the keys they share, and ticketsAhead
	// how long a new one is known before it encrypts, so that all can decrypt.
	ticketSyncInterval = 20 * time.Second
	ticketKeyLead      = 3 * ticketSyncInterval
	// ticketStorageKey is where nodes share them.
	ticketStorageKey = "tickets/keys.json"
)

// tickets encrypts the session tickets of every configuration of a source. The
// keys are replaced while servers use them, which is why it exists: a
// tls.Config that a server already has ignores new ones.
type tickets struct {
	tlsConfig *tls.Config // seals and opens, and serves nobody
	shared    Shared      // nil: the keys are this process's own
	log       *slog.Logger

	mu        sync.Mutex
	keys      []ticketKey // the newest first
	storeDown bool        // the store could not be reached the last time
}

// ticketKey encrypts from a time on.
type ticketKey struct {
	Key        []byte // 32 bytes
	ActiveFrom time.Time
}

func newTickets(shared Shared, log *slog.Logger) *tickets {
	t := &tickets{tlsConfig: new(tls.Config), shared: shared, log: log}
	t.rotate(time.Now())
	return t
}

// configure makes a configuration use the tickets; nil leaves it to crypto/tls.
func (t *tickets) configure(c *tls.Config) *tls.Config {
	if t == nil {
		return c
	}
	c.WrapSession = t.tlsConfig.EncryptTicket
	c.UnwrapSession = t.tlsConfig.DecryptTicket
	return c
}

// run replaces keys until ctx ends. With a store it begins with that one's.
func (t *tickets) run(ctx context.Context) {
	if t == nil {
		return
	}
	if t.shared == nil {
		every(ctx, time.Minute, func() { t.rotate(time.Now()) })
		return
	}
	t.sync(ctx)
	every(ctx, ticketSyncInterval, func() { t.sync(ctx) })
}

// rotate puts a new key in front when the newest has served its day.
func (t *tickets) rotate(now time.Time) {
	t.mu.Lock()
	keys, _ := rotatedKeys(t.keys, now, now)
	t.mu.Unlock()
	t.useKeys(keys, now)
}

// rotatedKeys are the keys with one more, which encrypts from a time on, when the
// newest has served its day. A key that begins later than a new one would was
// made by a clock that was ahead: it decrypts, and keeps nobody from making
// another.
func rotatedKeys(keys []ticketKey, now, activeFrom time.Time) (_ []ticketKey, changed bool) {
	index := activeKeyIndex(keys, now.Add(ticketKeyLead))
	if index < len(keys) && now.Sub(keys[index].ActiveFrom) < ticketKeyLifetime {
		return keys, false
	}
	newKey := make([]byte, 32)
	rand.Read(newKey)
	// Of those ahead the newest alone, lest there be no room.
	keys = slices.Concat(keys[:min(index, maxTicketKeys/2)], []ticketKey{{newKey, activeFrom}}, keys[index:])
	return keys[:min(len(keys), maxTicketKeys)], true
}

// activeKeyIndex is which of the keys is the newest whose time has come.
func activeKeyIndex(keys []ticketKey, now time.Time) int {
	index := slices.IndexFunc(keys, func(k ticketKey) bool { return !k.ActiveFrom.After(now) })
	if index < 0 {
		return len(keys)
	}
	return index
}

// useKeys uses keys from now on. The newest whose time has come encrypts.
func (t *tickets) useKeys(keys []ticketKey, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keys = keys
	var ordered [][32]byte
	for _, k := range keys {
		ordered = append(ordered, [32]byte(k.Key))
	}
	if index := activeKeyIndex(keys, now); index < len(ordered) {
		ordered[0], ordered[index] = ordered[index], ordered[0]
	}
	t.tlsConfig.SetSessionTicketKeys(ordered)
}

// sync takes up the keys that nodes share, and makes one when it is time.
// Without the store, tickets go on under the keys there are.
func (t *tickets) sync(ctx context.Context) {
	err := t.syncKeys(ctx, time.Now())
	t.mu.Lock()
	changed := (err != nil) != t.storeDown
	t.storeDown = err != nil
	t.mu.Unlock()
	switch {
	case err != nil && changed && ctx.Err() == nil:
		t.log.Warn("the keys of session tickets cannot be shared; sessions of other nodes begin anew", "err", err)
	case err == nil && changed:
		t.log.Info("the keys of session tickets are shared again")
	}
}

func (t *tickets) syncKeys(ctx context.Context, now time.Time) error {
	keys, err := t.load(ctx)
	if err != nil {
		return err
	}
	if _, due := rotatedKeys(keys, now, now); due {
		if keys, err = t.createSharedKey(ctx, now); err != nil || keys == nil {
			return err
		}
	}
	t.useKeys(keys, now)
	return nil
}

// createSharedKey adds a key for all, unless another node does; then nil is returned. The
// first of all encrypts at once.
func (t *tickets) createSharedKey(ctx context.Context, now time.Time) ([]ticketKey, error) {
	lockCtx, unlock, acquired, err := t.shared.TryLock(ctx, ticketStorageKey)
	if err != nil || !acquired {
		return nil, err
	}
	defer unlock()
	keys, err := t.load(lockCtx)
	if err != nil {
		return nil, err
	}
	activeFrom := now.Add(ticketKeyLead)
	if len(keys) == 0 {
		activeFrom = now
	}
	keys, changed := rotatedKeys(keys, now, activeFrom)
	if !changed {
		return keys, nil
	}
	text, err := json.Marshal(keys)
	if err != nil {
		return nil, err
	}
	return keys, t.shared.Store(lockCtx, ticketStorageKey, text)
}

// load reads the keys of all; what is no list of keys counts as none.
func (t *tickets) load(ctx context.Context) ([]ticketKey, error) {
	text, err := t.shared.Load(ctx, ticketStorageKey)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the keys of session tickets: %w", err)
	}
	var keys []ticketKey
	isInvalid := func(k ticketKey) bool { return len(k.Key) != 32 }
	if json.Unmarshal(text, &keys) != nil || slices.ContainsFunc(keys, isInvalid) {
		return nil, nil
	}
	slices.SortFunc(keys, func(a, b ticketKey) int { return b.ActiveFrom.Compare(a.ActiveFrom) })
	return keys[:min(len(keys), maxTicketKeys)], nil
}
