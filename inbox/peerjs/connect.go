package peerjs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"inbox/inbox"
	"inbox/internal/websocket"
)

// connect serves an opening handshake. An error refuses it before the WebSocket; what a client has
// to understand is a frame, because scripts cannot read the response.
func (h *Handler) connect(w http.ResponseWriter, r *http.Request) error {
	if err := websocket.Check(r); err != nil {
		return err
	}
	if !h.servesOrigin(r) {
		return errCrossSite
	}
	if h.stopping.Load() {
		return errStopping
	}
	leave, err := h.Enter(r)
	if err != nil {
		return err
	}
	started := false
	defer func() { // also after a panic
		if !started {
			leave()
		}
	}()
	s, reason, err := h.newSession(r)
	if reason == nil && err == nil {
		reason, err = h.acquire(r, s)
	}
	if err != nil {
		return err
	}
	conn, err := websocket.Upgrade(w, r, &h.socket)
	if err != nil {
		if reason == nil {
			h.fail(s)
		}
		return nil // the connection is closed
	}
	started = true
	if reason != nil {
		h.refuseSocket(conn, reason, leave)
		return nil
	}
	h.answers[opened].Add(1)
	detached := inbox.Detach(r, h.ClientFields)
	detached.URL = &h.url
	s.start(conn, detached, leave)
	return nil
}

// newSession returns the session that a request asks for, or the frame or the error that refuses it.
func (h *Handler) newSession(r *http.Request) (s *session, reason []byte, err error) {
	q := r.URL.Query()
	id, token, key := q.Get("id"), q.Get("token"), q.Get("key")
	switch {
	case id == "", token == "", key == "":
		return nil, errorFrame(errNothing), nil
	case len(id) > maxIDBytes, len(token) > maxTokenBytes, !isPlain(id), !isPlain(token):
		return nil, errorFrame(errInvalid), nil
	}
	if reason, err = h.admit(key, id); reason != nil || err != nil {
		return nil, reason, err
	}
	name := mailbox(id)
	s = &session{
		h: h, id: strings.TrimPrefix(name, mailbox("")), name: name, src: string(quote(id)),
		token: h.hash("token", token), payer: h.Payer(r), ready: make(chan struct{}),
	}
	proof := h.hash("receiver", id+"\x00"+token)
	s.receiver = binary.BigEndian.Uint64(proof[:]) | 1 // never zero
	s.setKey(key)
	return s, nil, nil
}

func isPlain(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl)
}

// refuseSocket sends a frame and ends the connection.
func (h *Handler) refuseSocket(conn *websocket.Conn, reason []byte, leave func()) {
	kind := refusedError
	switch {
	case &reason[0] == &idTakenFrame[0]:
		kind = refusedTaken
	case bytes.HasPrefix(reason, []byte(invalidKeyPrefix)):
		kind = refusedKey
	}
	h.answers[kind].Add(1)
	_ = conn.Write(websocket.Text, reason) // an error ends the connection
	conn.Start(refused{leave})
	conn.Close(websocket.NormalClosure, "")
}

// mailbox returns the name of the mailbox of an id. It has a colon, so no client of /inbox can have
// it.
func mailbox(id string) string { return "peerjs:" + id }

// keyOf returns the key of a mailbox, which all nodes have. Tokens are compared by the node that
// has the id.
func (h *Handler) keyOf(name string) inbox.Key { return h.hash("mailbox", name) }

// open claims the mailbox of a session. Created is false if it was claimed before.
func (h *Handler) open(r *http.Request, s *session) (inbox.Claim, error) {
	name := s.name
	c, err := h.Store.Open(r.Context(), name, h.keyOf(name), nil)
	if !errors.Is(err, inbox.ErrNoInbox) {
		return c, err
	}
	reserved, err := h.reserveID(r, name)
	if err != nil {
		return c, err
	}
	if reserved {
		defer h.Guard.Release(r, inbox.NewName, name)
	}
	c, err = h.Store.Open(r.Context(), name, h.keyOf(name), &s.payer)
	if c.Created {
		h.Guard.Record(r, inbox.NewName, name)
	}
	return c, err
}

// reserveID waits until the client can claim one more id, as an ERROR would destroy its peer.
func (h *Handler) reserveID(r *http.Request, name string) (reserved bool, err error) {
	for by := time.Now().Add(h.timing.id); ; {
		if err = h.Guard.Allow(r, inbox.NewName, name); err == nil {
			reserved, err = h.Guard.Reserve(r, inbox.NewName, name)
		}
		switch {
		case err == nil:
			return reserved, nil
		case r.Context().Err() != nil:
			return false, r.Context().Err()
		case time.Now().After(by):
			return false, errManyIDs
		}
		select {
		case <-time.After(retryEvery):
		case <-r.Context().Done():
		}
	}
}

var (
	errManyIDs = errors.New("too many new ids")
	errIDTaken = errors.New("the id is taken")
)

// reasonOf returns the frame that refuses a session. Without one, the error ends the request.
func (h *Handler) reasonOf(err error) []byte {
	switch {
	case errors.Is(err, errIDTaken):
		return idTakenFrame
	case errors.Is(err, errManyIDs):
		return errorFrame(errTooMany)
	case errors.Is(err, inbox.ErrPayerFull):
		return errorFrame(errPayerFull)
	case errors.Is(err, inbox.ErrTooManyInboxes), errors.Is(err, inbox.ErrStoreFull):
		return errorFrame(errFull)
	case errors.Is(err, context.Canceled), errors.Is(err, inbox.ErrStopping):
		return nil
	}
	if !errors.Is(err, inbox.ErrStoreUnavailable) {
		h.Logger.Error("claim an id of PeerJS", "err", err)
	}
	return nil
}
