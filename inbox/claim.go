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
	// May is asked before an attempt could turn out as a, and returns an error
	// to refuse it. An error with a method Refuse(http.ResponseWriter) writes
	// its own answer.
	May(r *http.Request, a Attempt, name string) error
	// Did tells what an attempt turned out as.
	Did(r *http.Request, a Attempt, name string)
}

type noGuard struct{}

func (noGuard) May(*http.Request, Attempt, string) error { return nil }
func (noGuard) Did(*http.Request, Attempt, string)       {}

// open reads the credentials and claims their name, or checks the claim.
func (h *Handler) open(r *http.Request) (Claim, error) {
	name, password, ok := r.BasicAuth()
	if !ok {
		return Claim{}, errUnauthorized
	}
	if err := checkName(name); err != nil {
		return Claim{}, badRequest("the user name", err)
	}
	if err := checkPassword(password); err != nil {
		return Claim{}, badRequest("the password", err)
	}
	if err := h.guard.May(r, WrongPassword, name); err != nil {
		return Claim{}, err
	}
	return h.claim(r, name, h.keys.key(password))
}

// claim opens the mailbox and tells the guard what it was.
func (h *Handler) claim(r *http.Request, name string, key Key) (Claim, error) {
	payer := new(Payer)
	refusal := h.guard.May(r, NewName, name)
	if refusal == nil {
		*payer = h.payer(r)
	} else {
		payer = nil
	}
	c, err := h.store.Open(r.Context(), name, key, payer)
	switch {
	case err == nil && c.Fresh:
		h.guard.Did(r, NewName, name)
		h.guard.Did(r, RightPassword, name)
	case err == nil:
		h.guard.Did(r, RightPassword, name)
	case errors.Is(err, ErrWrongKey):
		h.guard.Did(r, WrongPassword, name)
	case errors.Is(err, ErrNoInbox):
		return c, refusal
	}
	return c, err
}
