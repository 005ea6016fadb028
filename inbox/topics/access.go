package topics

import (
	"errors"
	"net/http"
	"strings"
	"sync"

	"inbox/inbox"
	"inbox/internal/problem"
	"inbox/internal/websocket"
)

// Access decides who can use the topics of a private server. All methods can be called
// concurrently.
type Access interface {
	// AdmitMember returns an error to refuse a client: a problem document, or
	// [inbox.ErrStoreUnavailable].
	AdmitMember(token string) error
}

// InviteParameter is the parameter of a URL that has the invitation or the guest pass of a client.
const InviteParameter = "invite"

// maxInviteBytes bounds a token that is kept. Valid ones are shorter.
const maxInviteBytes = 256

// Token returns the invitation or the guest pass of a request, or "".
func Token(r *http.Request) string { return r.URL.Query().Get(InviteParameter) }

// accessCheck has the connections of a private server by their tokens. All methods can be called
// concurrently, and but check and refusals for nil, which admits everyone.
type accessCheck struct {
	access   Access
	refusals problem.Counter

	mu      sync.Mutex
	sockets map[*socket]string
}

func newAccessCheck(a Access) *accessCheck {
	if a == nil {
		return nil
	}
	return &accessCheck{access: a, refusals: problem.NewCounter("invitation-required", "invitation-expired"), sockets: map[*socket]string{}}
}

var errUnavailable = problem.New(http.StatusServiceUnavailable, "store-unavailable", "The server cannot reach its store", "Try again in a moment.")

// admit returns the token of an opening handshake, or an error to refuse it.
func (c *accessCheck) admit(r *http.Request) (token string, err error) {
	if c == nil {
		return "", nil
	}
	token = Token(r)
	err = c.access.AdmitMember(token)
	var p *problem.Problem
	switch {
	case errors.Is(err, inbox.ErrStoreUnavailable):
		err = errUnavailable
	case errors.As(err, &p):
		c.refusals.Add(p)
	}
	return strings.Clone(token[:min(len(token), maxInviteBytes)]), err
}

// add notes a connection, whose token can cease to be valid.
func (c *accessCheck) add(s *socket, token string) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sockets[s] = token
}

func (c *accessCheck) remove(s *socket) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.sockets, s)
}

// check removes and returns the connections whose tokens are no longer valid.
func (c *accessCheck) check() (ended []*socket) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for s, token := range c.sockets {
		if err := c.access.AdmitMember(token); err != nil && !errors.Is(err, inbox.ErrStoreUnavailable) {
			delete(c.sockets, s)
			ended = append(ended, s)
		}
	}
	return ended
}

// CheckAccess closes the connections whose invitations or guest passes are no longer valid. It does
// not wait.
func (h *Handler) CheckAccess() {
	if h.access == nil {
		return
	}
	for _, s := range h.access.check() {
		go s.conn.Close(websocket.PolicyViolation, "the invitation has ended") // waits for the frame that is being written
	}
}

// Refusals returns how many handshakes were refused for want of an invitation, by the last part of
// the problem's type. It is empty if the server is open.
func (h *Handler) Refusals() map[string]int64 {
	if h.access == nil {
		return nil
	}
	return h.access.refusals.Counts()
}
