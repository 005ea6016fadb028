package inbox

import (
	"errors"
	"net/http"
	"strings"

	"inbox/inbox/internal/login"
)

// Attempt is something that a client can do only at a limited rate, because it
// could be used to guess.
type Attempt int

const (
	// PasswordGuess is a wrong password for a name.
	PasswordGuess Attempt = iota
	// PasswordMatch is the right one. It costs nothing and identifies an owner.
	PasswordMatch
	// NewName is the claim of a free name.
	NewName
	// UnknownRecipient is a message to a name that is not claimed.
	UnknownRecipient
	// NewCode is the claim of a free name that begins with [Config.CodePrefix]. It is not a
	// NewName.
	NewCode
	// UnknownCode is a message to such a name that is not claimed. It is no
	// UnknownRecipient.
	UnknownCode
)

// Guard limits attempts. All methods can be called concurrently.
type Guard interface {
	// Allow returns an error to refuse a request that could turn out as a:
	// PasswordGuess for every name, UnknownRecipient and UnknownCode for every
	// recipient, NewName and NewCode for a name that is free. An error with a
	// method Refuse(http.ResponseWriter) writes its own response.
	Allow(r *http.Request, a Attempt, name string) error
	// Record reports what a request turned out as.
	Record(r *http.Request, a Attempt, name string)
	// Reserve reserves the cost of an attempt that can turn out as a, which is
	// any but PasswordMatch and UnknownRecipient, before the store is asked.
	// Attempts that run at the same time thus cannot exceed the limit. It can
	// wait for their outcome. An error refuses the request, as that of Allow
	// does. If reserved is true, Release follows, after Record.
	Reserve(r *http.Request, a Attempt, name string) (reserved bool, err error)
	// Release ends a reservation.
	Release(r *http.Request, a Attempt, name string)
}

type noGuard struct{}

func (noGuard) Allow(*http.Request, Attempt, string) error { return nil }
func (noGuard) Record(*http.Request, Attempt, string)      {}
func (noGuard) Release(*http.Request, Attempt, string)     {}
func (noGuard) Reserve(*http.Request, Attempt, string) (bool, error) {
	return false, nil
}

// credentials returns the name of a request and the key of its password, unless
// the client has to wait before it can try another password.
func (h *Handler) credentials(r *http.Request) (name string, key Key, err error) {
	var remembered *login.Memory
	if conn := stateOf(r); conn != nil {
		remembered = &conn.logins
	}
	if name, key, err = h.logins.Read(r, remembered); err == nil {
		err = h.guard.Allow(r, PasswordGuess, name)
	}
	if err == nil && h.access != nil {
		err = h.admit(r, name, key)
	}
	return name, key, err
}

// open claims the name, or checks the key of its claim.
func (h *Handler) open(r *http.Request, name string, key Key) (Claim, error) {
	return h.openWith(r, name, key, func() (Claim, error) { return h.store.Open(r.Context(), name, key, nil) })
}

// openWith is open with a step of the store that is Open without a payer, or Check.
func (h *Handler) openWith(r *http.Request, name string, key Key, step func() (Claim, error)) (Claim, error) {
	reserved, err := h.guard.Reserve(r, PasswordGuess, name)
	if err != nil {
		return Claim{}, err
	}
	if reserved {
		defer h.guard.Release(r, PasswordGuess, name)
	}
	c, err := step()
	return h.completeOpen(r, name, key, c, err)
}

// completeOpen takes the result of an Open without a payer. It claims a name
// that is free, and reports to the guard whether the password was right. A client
// that disconnects before the result is charged for a guess: it could learn the
// result otherwise, as from a name that its DELETE has released.
func (h *Handler) completeOpen(r *http.Request, name string, key Key, c Claim, err error) (Claim, error) {
	if errors.Is(err, ErrNoInbox) {
		c, err = h.claim(r, name, key)
	}
	switch {
	case err == nil:
		err = h.matched(r, c, key)
	case errors.Is(err, ErrWrongKey), r.Context().Err() != nil:
		h.guard.Record(r, PasswordGuess, name)
	}
	return c, err
}

// claim makes the mailbox, unless another request has just made it.
func (h *Handler) claim(r *http.Request, name string, key Key) (Claim, error) {
	if h.access != nil {
		if err := h.access.Admit(tokenOf(r), name, h.payer(r)); err != nil {
			return Claim{}, err
		}
	}
	kind := NewName
	if h.isCode(name) {
		kind = NewCode
	}
	if err := h.guard.Allow(r, kind, name); err != nil {
		return Claim{}, err
	}
	reserved, err := h.guard.Reserve(r, kind, name)
	if err != nil {
		return Claim{}, err
	}
	if reserved {
		defer h.guard.Release(r, kind, name)
	}
	payer := h.payer(r)
	c, err := h.store.Open(r.Context(), name, key, &payer)
	if c.Created {
		h.claims.Add(1)
		h.guard.Record(r, kind, name)
	}
	return c, err
}

// isCode reports whether a name is short enough to be guessed.
func (h *Handler) isCode(name string) bool {
	return h.codePrefix != "" && strings.HasPrefix(name, h.codePrefix)
}
