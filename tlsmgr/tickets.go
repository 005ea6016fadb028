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
	// ticketLife is how long one key encrypts new session tickets.
	ticketLife = 24 * time.Hour
	// ticketKeys is how many keys decrypt: a ticket is good for seven days.
	ticketKeys = 8
	// ticketsRead is how often nodes read the keys they share, and ticketsAhead
	// how long a new one is known before it encrypts, so that all can decrypt.
	ticketsRead  = 20 * time.Second
	ticketsAhead = 3 * ticketsRead
	// ticketsKey is where nodes share them.
	ticketsKey = "tickets/keys.json"
)

// tickets encrypts the session tickets of every configuration of a source. The
// keys are replaced while servers use them, which is why it exists: a
// tls.Config that a server already has ignores new ones.
type tickets struct {
	box    *tls.Config // seals and opens, and serves nobody
	shared Shared      // nil: the keys are this process's own
	log    *slog.Logger

	mu   sync.Mutex
	keys []ticketKey // the newest first
	away bool        // the store could not be reached the last time
}

// ticketKey encrypts from a time on.
type ticketKey struct {
	Key  []byte // 32 bytes
	From time.Time
}

func newTickets(shared Shared, log *slog.Logger) *tickets {
	t := &tickets{box: new(tls.Config), shared: shared, log: log}
	t.turn(time.Now())
	return t
}

// on makes a configuration use the tickets; nil leaves it to crypto/tls.
func (t *tickets) on(c *tls.Config) *tls.Config {
	if t == nil {
		return c
	}
	c.WrapSession = t.box.EncryptTicket
	c.UnwrapSession = t.box.DecryptTicket
	return c
}

// run replaces keys until ctx ends. With a store it begins with that one's.
func (t *tickets) run(ctx context.Context) {
	if t == nil {
		return
	}
	if t.shared == nil {
		every(ctx, time.Minute, func() { t.turn(time.Now()) })
		return
	}
	t.follow(ctx)
	every(ctx, ticketsRead, func() { t.follow(ctx) })
}

// turn puts a new key in front when the newest has served its day.
func (t *tickets) turn(now time.Time) {
	t.mu.Lock()
	keys, _ := turned(t.keys, now, now)
	t.mu.Unlock()
	t.set(keys, now)
}

// turned are the keys with one more, which encrypts from a time on, when the
// newest has served its day. A key that begins later than a new one would was
// made by a clock that was ahead: it decrypts, and keeps nobody from making
// another.
func turned(keys []ticketKey, now, from time.Time) (_ []ticketKey, news bool) {
	at := begun(keys, now.Add(ticketsAhead))
	if at < len(keys) && now.Sub(keys[at].From) < ticketLife {
		return keys, false
	}
	fresh := make([]byte, 32)
	rand.Read(fresh)
	// Of those ahead the newest alone, lest there be no room.
	keys = slices.Concat(keys[:min(at, ticketKeys/2)], []ticketKey{{fresh, from}}, keys[at:])
	return keys[:min(len(keys), ticketKeys)], true
}

// begun is which of the keys is the newest whose time has come.
func begun(keys []ticketKey, now time.Time) int {
	at := slices.IndexFunc(keys, func(k ticketKey) bool { return !k.From.After(now) })
	if at < 0 {
		return len(keys)
	}
	return at
}

// set uses keys from now on. The newest whose time has come encrypts.
func (t *tickets) set(keys []ticketKey, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keys = keys
	var order [][32]byte
	for _, k := range keys {
		order = append(order, [32]byte(k.Key))
	}
	if at := begun(keys, now); at < len(order) {
		order[0], order[at] = order[at], order[0]
	}
	t.box.SetSessionTicketKeys(order)
}

// follow takes up the keys that nodes share, and makes one when it is time.
// Without the store, tickets go on under the keys there are.
func (t *tickets) follow(ctx context.Context) {
	err := t.followShared(ctx, time.Now())
	t.mu.Lock()
	news := (err != nil) != t.away
	t.away = err != nil
	t.mu.Unlock()
	switch {
	case err != nil && news && ctx.Err() == nil:
		t.log.Warn("the keys of session tickets cannot be shared; sessions of other nodes begin anew", "err", err)
	case err == nil && news:
		t.log.Info("the keys of session tickets are shared again")
	}
}

func (t *tickets) followShared(ctx context.Context, now time.Time) error {
	keys, err := t.load(ctx)
	if err != nil {
		return err
	}
	if _, due := turned(keys, now, now); due {
		if keys, err = t.make(ctx, now); err != nil || keys == nil {
			return err
		}
	}
	t.set(keys, now)
	return nil
}

// make adds a key for all, unless another node does; then nil is returned. The
// first of all encrypts at once.
func (t *tickets) make(ctx context.Context, now time.Time) ([]ticketKey, error) {
	held, free, taken, err := t.shared.TryLock(ctx, ticketsKey)
	if err != nil || !taken {
		return nil, err
	}
	defer free()
	keys, err := t.load(held)
	if err != nil {
		return nil, err
	}
	from := now.Add(ticketsAhead)
	if len(keys) == 0 {
		from = now
	}
	keys, news := turned(keys, now, from)
	if !news {
		return keys, nil
	}
	text, err := json.Marshal(keys)
	if err != nil {
		return nil, err
	}
	return keys, t.shared.Store(held, ticketsKey, text)
}

// load reads the keys of all; what is no list of keys counts as none.
func (t *tickets) load(ctx context.Context) ([]ticketKey, error) {
	text, err := t.shared.Load(ctx, ticketsKey)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the keys of session tickets: %w", err)
	}
	var keys []ticketKey
	bad := func(k ticketKey) bool { return len(k.Key) != 32 }
	if json.Unmarshal(text, &keys) != nil || slices.ContainsFunc(keys, bad) {
		return nil, nil
	}
	slices.SortFunc(keys, func(a, b ticketKey) int { return b.From.Compare(a.From) })
	return keys[:min(len(keys), ticketKeys)], nil
}
