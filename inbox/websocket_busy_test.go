package inbox_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"inbox/inbox"
	"inbox/inbox/memstore"
)

// fullStore always has another message.
type fullStore struct{ *memstore.Store }

func (s *fullStore) Next(_ context.Context, _ inbox.Claim, after uint64) (inbox.Message, error) {
	return inbox.Message{ID: after + 1, From: "alice", ContentType: "text/plain", Body: []byte(strings.Repeat("x", 4<<10))}, nil
}

// TestBusyWebSocketIsRead has a WebSocket that does not acknowledge and for which there is always
// another message: what its client sends must be handled nevertheless.
func TestBusyWebSocketIsRead(t *testing.T) {
	s := newSocketServer(t, func(c *inbox.Config, l *inbox.Limits) {
		c.Store = &fullStore{memstore.New(*l)}
	})
	bob := s.hello(t, "bob")
	bob.send("ping")
	bob.send("send 1 bob text x")
	for pong, ok, began := false, false, time.Now(); !pong || !ok; {
		frame, _, err := bob.next()
		if err != nil || time.Since(began) > socketTimeout/2 {
			t.Fatalf("no answers, pong %v, ok %v, %v", pong, ok, err)
		}
		pong, ok = pong || frame == "pong", ok || frame == "ok 1"
	}
}
