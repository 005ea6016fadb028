package inbox

import (
	"errors"
	"net/http"
)

// Attempt is something that a client may do only so often, because a stranger
// could use it to guess.
type Attempt int

const (
	// WrongPassword is a password that is not the name's.
	WrongPassword Attempt = iota
	// RightPassword is one that is. It costs nothing; it shows an owner.
	RightPassword
	// NewName is the claim of a name that was free.
	NewName
	// MissedName is a message to a name that nobody has claimed.
	MissedName
)

// Guard limits attempts. All methods may be called concurrently.
type Guard interface {
	// May is asked before an attempt could turn out as a, of a new name when
	// there is none such yet, and returns an error
	// to refuse it. An error with a method Refuse(http.ResponseWriter) writes
	// its own answer.
	May(r *http.Request, a Attempt, name string) error
	// Did tells what an attempt turned out as.
	Did(r *http.Request, a Attempt, name string)
}

type noGuard struct{}

func (noGuard) May(*http.Request, Attempt, string) error { return nil }
func (noGuard) Did(*http.Request, Attempt, string)       {}

// credentials reads who asks, unless it may not try another password now.
func (h *Handler) credentials(r *http.Request) (name string, key Key, err error) {
	if name, key, err = h.keys.credentials(r); err == nil {
		err = h.guard.May(r, WrongPassword, name)
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
	return h.opened(r, name, key, c, err)
}

// opened makes the mailbox that an Open without a payer did not find, and tells
// the guard what the password turned out as.
func (h *Handler) opened(r *http.Request, name string, key Key, c Claim, err error) (Claim, error) {
	if errors.Is(err, ErrNoInbox) {
		c, err = h.claim(r, name, key)
	}
	switch {
	case err == nil:
		h.guard.Did(r, RightPassword, name)
	case errors.Is(err, ErrWrongKey):
		h.guard.Did(r, WrongPassword, name)
	}
	return c, err
}

// claim makes the mailbox, unless somebody else just did.
func (h *Handler) claim(r *http.Request, name string, key Key) (Claim, error) {
	if err := h.guard.May(r, NewName, name); err != nil {
		return Claim{}, err
	}
	payer := h.payer(r)
	c, err := h.store.Open(r.Context(), name, key, &payer)
	if c.Fresh {
		h.guard.Did(r, NewName, name)
	}
	return c, err
}
