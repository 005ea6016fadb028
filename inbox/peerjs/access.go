package peerjs

import (
	"errors"
	"net/http"
	"strings"

	"inbox/inbox"
	"inbox/internal/problem"
	"inbox/internal/websocket"
)

// Access decides what the clients of a private server can do, by their keys, empty for the default
// one. Errors are problem documents, or [inbox.ErrStoreUnavailable]. All methods can be called
// concurrently.
type Access interface {
	// AdmitPeer returns an error to refuse a client that has an id, or sends to one.
	AdmitPeer(key, id string) error
	// OpenedPeer reports the claim of a client that was admitted. It must end with the key.
	OpenedPeer(key string, c inbox.Claim)
	// Inviter returns whom a guest counts against; empty for other clients.
	Inviter(key string) inbox.Payer
}

// maxKeyBytes bounds a key that is kept. Valid ones are shorter.
const maxKeyBytes = 256

// newRefusalCounter returns a counter of what an [Access] refuses.
func newRefusalCounter() problem.Counter {
	return problem.NewCounter("invitation-required", "invitation-expired")
}

// Refusals returns how many clients were refused because of their key, by the last part of the
// problem's type.
func (h *Handler) Refusals() map[string]int64 { return h.refused.Counts() }

// admit returns the frame that refuses the key of a client with an id. Without one, the error
// refuses the request.
func (h *Handler) admit(key, id string) (reason []byte, err error) {
	if h.Access == nil {
		return nil, nil
	}
	if err = h.Access.AdmitPeer(tokenOf(key), id); err == nil {
		return nil, nil
	}
	if errors.Is(err, inbox.ErrStoreUnavailable) {
		return nil, errUnavailable
	}
	return h.keyFrame(err), nil
}

// defaultKey is the key of a client whose page sets none.
const defaultKey = "peerjs"

// tokenOf returns the invitation or the guest pass that a key is, or "".
func tokenOf(key string) string {
	if key == defaultKey {
		return ""
	}
	return key
}

// keyFrame counts a refusal, and returns the frame with which the client emits the error
// invalid-key. Its text is for the tools of a browser.
func (h *Handler) keyFrame(err error) []byte {
	text := "This server is private"
	var p *problem.Problem
	if errors.As(err, &p) {
		h.refused.Add(p)
		text = p.Title + ". " + p.Detail
	}
	return []byte(invalidKeyPrefix + string(quote(text)) + "}}")
}

// setKey keeps the key of a session, whom its client counts against.
func (s *session) setKey(key string) {
	if s.h.Access == nil {
		return
	}
	s.key = strings.Clone(key[:min(len(key), maxKeyBytes)])
	if inviter := s.h.Access.Inviter(key); inviter.Client != "" {
		s.payer = inviter
	}
}

// holdClaim makes the claim of a session end with its key.
func (s *session) holdClaim() {
	if s.h.Access != nil {
		s.h.Access.OpenedPeer(s.key, s.claim)
	}
}

// canSend reports whether a client can send to an id.
func (s *session) canSend(id string) bool {
	return s.h.Access == nil || s.h.Access.AdmitPeer(s.key, id) == nil
}

// endIfRefused ends the connection if its key is no longer valid.
func (s *session) endIfRefused() (ended bool) {
	reason, _ := s.h.admit(s.key, s.id) // an outage ends nothing
	if reason == nil {
		return false
	}
	s.abandon()
	s.h.answers[refusedKey].Add(1)
	_ = s.conn.Write(websocket.Text, reason) // an error ends the connection
	s.conn.Close(websocket.PolicyViolation, "the invitation has ended")
	return true
}

// serveID responds with a new id, which a client with a guest pass cannot have.
func (h *Handler) serveID(w http.ResponseWriter, r *http.Request) {
	id := newID()
	if h.Access != nil {
		if err := h.Access.AdmitPeer(tokenOf(keyOfPath(r.URL.Path)), id); err != nil {
			h.refuseID(w, err)
			return
		}
	}
	respond(w, "text/html; charset=utf-8", id)
}

func (h *Handler) refuseID(w http.ResponseWriter, err error) {
	var p *problem.Problem
	switch {
	case errors.Is(err, inbox.ErrStoreUnavailable):
		err = errUnavailable
	case errors.As(err, &p):
		h.refused.Add(p)
	}
	refuse(w, err)
}

// keyOfPath returns KEY of a path …/KEY/id.
func keyOfPath(path string) string {
	parts := strings.Split(path, "/")
	return parts[len(parts)-2]
}
