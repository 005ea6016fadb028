package inbox

import (
	"errors"
	"net/http"
)

// Attempt is something that a client may do only so often, because a stranger
// could use it to guess.
type Attempt int

const (
	// PasswordGuess is a password that is not the name's.
	PasswordGuess Attempt = iota
	// PasswordMatch is one that is. It costs nothing; it shows an owner.
	PasswordMatch
	// NewName is the claim of a name that was free.
	NewName
	// UnknownRecipient is a message to a name that nobody has claimed.
	UnknownRecipient
)

// Guard limits attempts. All methods may be called concurrently.
type Guard interface {
	// Allow is asked before an attempt could turn out as a, of a new name when
	// there is none such yet, and returns an error
	// to refuse it. An error with a method Refuse(http.ResponseWriter) writes
	// its own answer.
	Allow(r *http.Request, a Attempt, name string) error
	// Record tells what an attempt turned out as.
	Record(r *http.Request, a Attempt, name string)
}

type noGuard struct{}

func (noGuard) Allow(*http.Request, Attempt, string) error { return nil }
func (noGuard) Record(*http.Request, Attempt, string)      {}

// credentials reads who asks, unless it may not try another password now.
func (h *Handler) credentials(r *http.Request) (name string, key Key, err error) {
	if name, key, err = h.keys.credentials(r); err == nil {
		err = h.guard.Allow(r, PasswordGuess, name)
	}
	return name, key, err
}

// open reads the credentials and claims their name, or checks the claim.
func (h *Handler) open(r *http.Request) (Claim, error) {
	name, key, err := h.credentials(r)
	if err != nil {
		return Claim{}, err
	}
	c, err := h.store.Open(r.Context(), name, key, nil)
	return h.finishOpen(r, name, key, c, err)
}

// finishOpen makes the mailbox that an Open without a payer did not find, and tells
// the guard what the password turned out as.
func (h *Handler) finishOpen(r *http.Request, name string, key Key, c Claim, err error) (Claim, error) {
	if errors.Is(err, ErrNoInbox) {
		c, err = h.claim(r, name, key)
	}
	switch {
	case err == nil:
		h.guard.Record(r, PasswordMatch, name)
	case errors.Is(err, ErrWrongKey):
		h.guard.Record(r, PasswordGuess, name)
	}
	return c, err
}

// claim makes the mailbox, unless somebody else just did.
func (h *Handler) claim(r *http.Request, name string, key Key) (Claim, error) {
	if err := h.guard.Allow(r, NewName, name); err != nil {
		return Claim{}, err
	}
	payer := h.payer(r)
	c, err := h.store.Open(r.Context(), name, key, &payer)
	if c.Created {
		h.guard.Record(r, NewName, name)
	}
	return c, err
}
