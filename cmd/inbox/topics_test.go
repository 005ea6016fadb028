package main

import (
	"context"
	"crypto/tls"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// topicSocket returns a WebSocket of a client of y-webrtc or Trystero.
func (p *program) topicSocket(t *testing.T) *socket {
	t.Helper()
	dialer := ws.Dialer{Timeout: socketTimeout, TLSConfig: &tls.Config{InsecureSkipVerify: true}}
	conn, r, _, err := dialer.Dial(context.Background(), "ws"+strings.TrimPrefix(p.url, "http")+"/topics")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(socketTimeout))
	s := &socket{t, conn, conn}
	if r != nil {
		s.r = r
	}
	return s
}

// TestTopics checks the topics of the program, which ends their connections when it stops.
func TestTopics(t *testing.T) {
	for _, scheme := range []string{"-https=true", "-https=false"} {
		t.Run(scheme, func(t *testing.T) {
			p := start(t, "-compat", "topics", scheme)
			alice, bob, trystero := p.topicSocket(t), p.topicSocket(t), p.topicSocket(t)
			alice.send(`{"type":"subscribe","topics":["room"]}`)
			alice.send(`{"type":"ping"}`)
			alice.want(`{"type":"pong"}`)
			bob.send(`{"type":"publish","topic":"room","data":{"type":"announce"}}`)
			alice.want(`{"type":"publish","topic":"room","data":{"type":"announce"},"clients":1}`)
			trystero.send(`{"type":"subscribe","topic":"room"}`)
			trystero.send(`{"type":"publish","topic":"room","payload":"p"}`)
			trystero.want(`{"topic":"room","payload":"p"}`)
			p.cancel()
			for _, s := range []*socket{alice, bob, trystero} {
				s.wantClose(ws.StatusGoingAway)
			}
		})
	}
}

// TestTopicsAreOptional checks that the path is a page's without the option, and unavailable with
// a store.
func TestTopicsAreOptional(t *testing.T) {
	start(t).want(http.StatusNotFound, "GET", "/topics", "", "")
	shared := start(t, "-compat", "topics", "-https=false", "-store", "redis://127.0.0.1:1") // nothing listens there
	shared.want(http.StatusServiceUnavailable, "GET", "/topics", "", "")
	if !strings.Contains(shared.log.String(), "/topics answers 503") {
		t.Errorf("the start does not say it:\n%s", shared.log)
	}
}
