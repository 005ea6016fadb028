package inbox

import (
	"net/http"
	"time"

	"inbox/inbox/internal/query"
)

// Stream is a receiver with the window of a stream, for tests outside the package.
type Stream struct{ rc *receiver }

// OpenStream opens a mailbox as a stream does. With manual, messages are acknowledged.
func (h *Handler) OpenStream(r *http.Request, manual bool, after uint64, wake func()) (Stream, error) {
	name, key, err := h.logins.Read(r, nil)
	if err != nil {
		return Stream{}, err
	}
	rc := h.newReceiver(WebSocket, name, query.Query{After: after, HasAfter: manual})
	if err := h.openReceiver(r, key, after, rc); err != nil {
		rc.leave()
		return Stream{}, err
	}
	return Stream{rc}, rc.watch(wake)
}

func (s Stream) HandOut(r *http.Request, write func(Message) error) error {
	for {
		if err := s.rc.handOut(r.Context(), write); err != errMore {
			return err
		}
	}
}

func (s Stream) Acknowledge(r *http.Request, id uint64) error {
	return s.rc.acknowledge(r.Context(), id)
}

func (s Stream) Leave() { s.rc.leave() }

// Send sends as a stream does.
func (h *Handler) Send(r *http.Request, to string, m Message, wait time.Duration) error {
	ended, err := h.admitSend(r, to)
	if err != nil {
		return err
	}
	return ended(h.putPending(r, to, m, wait))
}
