package tlsmgr

import (
	"crypto/rand"
	"crypto/tls"
	"sync"
	"time"
)

const (
	// ticketLife is how long one key encrypts new session tickets.
	ticketLife = 24 * time.Hour
	// ticketKeys is how many keys decrypt: a ticket is good for seven days.
	ticketKeys = 8
)

// Tickets encrypts the session tickets of every configuration of a source. The
// keys can be replaced while servers use them, which is why it exists: a
// tls.Config that a server already has ignores new ones.
type Tickets struct {
	box *tls.Config // seals and opens, and serves nobody

	mu     sync.Mutex
	keys   [][32]byte // the newest first
	since  time.Time  // of the newest
	shared bool       // the keys are somebody else's to replace
}

// NewTickets returns tickets under the given keys. The first encrypts, all
// decrypt. Somebody else replaces them with [Tickets.Set], as several
// nodes that share their keys must.
func NewTickets(keys [][32]byte) *Tickets {
	t := &Tickets{box: new(tls.Config)}
	t.Set(keys)
	return t
}

// newTickets has keys of its own.
func newTickets() *Tickets {
	t := &Tickets{box: new(tls.Config)}
	t.turn(time.Now())
	return t
}

// Set replaces the keys, of which there must be one at least. Sessions under
// keys that are left out begin anew.
func (t *Tickets) Set(keys [][32]byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.shared = true
	t.keys = append([][32]byte(nil), keys...)
	t.box.SetSessionTicketKeys(t.keys)
}

// on makes a configuration use the tickets; nil leaves it to crypto/tls.
func (t *Tickets) on(c *tls.Config) *tls.Config {
	if t == nil {
		return c
	}
	c.WrapSession = t.box.EncryptTicket
	c.UnwrapSession = t.box.DecryptTicket
	return c
}

// turn puts a new key in front when the newest has served its day.
func (t *Tickets) turn(now time.Time) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.shared || len(t.keys) > 0 && now.Sub(t.since) < ticketLife {
		return
	}
	var fresh [32]byte
	rand.Read(fresh[:])
	t.keys = append([][32]byte{fresh}, t.keys...)
	t.keys = t.keys[:min(len(t.keys), ticketKeys)]
	t.since = now
	t.box.SetSessionTicketKeys(t.keys)
}
