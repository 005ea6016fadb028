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

	"inbox/tlsmgr/storage"
)

const (
	// ticketKeyLifetime is how long a key encrypts new session tickets.
	ticketKeyLifetime = 24 * time.Hour
	// maxTicketKeys is the number of keys that decrypt: tickets are valid for seven days.
	maxTicketKeys = 8
	// ticketSyncInterval is how often nodes read the shared keys. ticketKeyLead is the
	// time between storing a new key and encrypting with it, so that every node can
	// decrypt by then.
	ticketSyncInterval = 20 * time.Second
	ticketKeyLead      = 3 * ticketSyncInterval
	// ticketStorageKey is the storage key of the shared keys.
	ticketStorageKey = "tickets/keys.json"
)

// tickets encrypts and decrypts the session tickets of every tls.Config of a source.
// It can rotate keys while servers run: new session ticket keys set on a tls.Config
// do not reach the copy that a server has made of it.
type tickets struct {
	tlsConfig *tls.Config     // only encrypts and decrypts tickets
	shared    storage.Storage // nil: the keys are local to this process
	log       *slog.Logger

	mu        sync.Mutex
	keys      []ticketKey // newest first
	storeDown bool        // the last sync failed
}

// ticketKey is a key that can encrypt from ActiveFrom on. Its JSON form is stored.
type ticketKey struct {
	Key        []byte // 32 bytes
	ActiveFrom time.Time
}

func newTickets(shared storage.Storage, log *slog.Logger) *tickets {
	t := &tickets{tlsConfig: new(tls.Config), shared: shared, log: log}
	t.rotate(time.Now())
	return t
}

// configure makes c use the tickets and returns it.
func (t *tickets) configure(c *tls.Config) *tls.Config {
	c.WrapSession = t.tlsConfig.EncryptTicket
	c.UnwrapSession = t.tlsConfig.DecryptTicket
	return c
}

// run rotates keys until ctx ends. With a shared store it first loads the shared keys.
func (t *tickets) run(ctx context.Context) {
	if t.shared == nil {
		every(ctx, time.Minute, func() { t.rotate(time.Now()) })
		return
	}
	t.sync(ctx)
	every(ctx, ticketSyncInterval, func() { t.sync(ctx) })
}

// rotate adds a key if the newest is older than ticketKeyLifetime.
func (t *tickets) rotate(now time.Time) {
	t.mu.Lock()
	keys, _ := rotatedKeys(t.keys, now, now)
	t.mu.Unlock()
	t.useKeys(keys, now)
}

// rotatedKeys returns keys, with a new key that is active from activeFrom if the
// newest is older than ticketKeyLifetime. A key that becomes active later than a new
// one would was created by a node whose clock is ahead: it decrypts, but does not
// delay the new key.
func rotatedKeys(keys []ticketKey, now, activeFrom time.Time) (_ []ticketKey, changed bool) {
	index := activeKeyIndex(keys, now.Add(ticketKeyLead))
	if index < len(keys) && now.Sub(keys[index].ActiveFrom) < ticketKeyLifetime {
		return keys, false
	}
	newKey := make([]byte, 32)
	rand.Read(newKey)
	// Bound the keys from the future, to leave room for the others.
	keys = slices.Concat(keys[:min(index, maxTicketKeys/2)], []ticketKey{{newKey, activeFrom}}, keys[index:])
	return keys[:min(len(keys), maxTicketKeys)], true
}

// activeKeyIndex returns the index of the newest active key, or len(keys).
func activeKeyIndex(keys []ticketKey, now time.Time) int {
	index := slices.IndexFunc(keys, func(k ticketKey) bool { return !k.ActiveFrom.After(now) })
	if index < 0 {
		return len(keys)
	}
	return index
}

// useKeys replaces the keys. The newest active key encrypts, all keys decrypt.
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

// sync loads the shared keys and adds one if it is due. While the store is
// unavailable, the current keys stay in use.
func (t *tickets) sync(ctx context.Context) {
	err := t.syncKeys(ctx, time.Now())
	t.mu.Lock()
	changed := (err != nil) != t.storeDown
	t.storeDown = err != nil
	t.mu.Unlock()
	switch {
	case err != nil && changed && ctx.Err() == nil:
		t.log.Warn("cannot share session ticket keys; sessions of other nodes are not resumed", "err", err)
	case err == nil && changed:
		t.log.Info("session ticket keys are shared again")
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

// createSharedKey stores a new key and returns all keys. It returns nil, nil if
// another node holds the lock. The very first key is active at once.
func (t *tickets) createSharedKey(ctx context.Context, now time.Time) ([]ticketKey, error) {
	lease, err := t.shared.TryLock(ctx, ticketStorageKey)
	if errors.Is(err, storage.ErrLocked) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer lease.Release()
	keys, err := t.load(ctx)
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
	return keys, lease.Store(ctx, ticketStorageKey, text)
}

// load returns the shared keys, newest first. Invalid data counts as no keys.
func (t *tickets) load(ctx context.Context) ([]ticketKey, error) {
	text, err := t.shared.Load(ctx, ticketStorageKey)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read session ticket keys: %w", err)
	}
	var keys []ticketKey
	isInvalid := func(k ticketKey) bool { return len(k.Key) != 32 }
	if json.Unmarshal(text, &keys) != nil || slices.ContainsFunc(keys, isInvalid) {
		return nil, nil
	}
	slices.SortFunc(keys, func(a, b ticketKey) int { return b.ActiveFrom.Compare(a.ActiveFrom) })
	return keys[:min(len(keys), maxTicketKeys)], nil
}
