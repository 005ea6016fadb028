//go:build linux

package redisstore

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// eventStream is bob's stream at a node.
type eventStream struct {
	t    *testing.T
	body *bufio.Reader
}

func (n node) stream(t *testing.T, query string) *eventStream {
	t.Helper()
	server := httptest.NewServer(n.Handler)
	t.Cleanup(server.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, "GET", server.URL+"/inbox"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("bob", "password of bob")
	r.Header.Set("Accept", "text/event-stream")
	answer, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { answer.Body.Close() })
	s := &eventStream{t, bufio.NewReader(answer.Body)}
	s.next() // retry
	return s
}

// next returns the lines of the next event.
func (s *eventStream) next() string {
	s.t.Helper()
	var lines []string
	for {
		line, err := s.body.ReadString('\n')
		if err != nil {
			s.t.Fatalf("got %v after %q, want an event", err, lines)
		}
		if line == "\n" {
			return strings.Join(lines, " ")
		}
		lines = append(lines, strings.TrimSuffix(line, "\n"))
	}
}

// message returns the ID of the next event, which has the body.
func (s *eventStream) message(body string) (id string) {
	s.t.Helper()
	event := s.next()
	if !strings.HasSuffix(event, fmt.Sprintf(`"type":"text","body":%q}`, body)) {
		s.t.Fatalf("got %s, want %s", event, body)
	}
	id, _, _ = strings.Cut(strings.TrimPrefix(event, "id: "), " ")
	return id
}

func (n node) send(t *testing.T, body string) {
	t.Helper()
	r := httptest.NewRequest("POST", "/inbox?to=bob", strings.NewReader(body))
	r.SetBasicAuth("alice", "password of alice")
	r.Header.Set("Content-Type", "text/plain")
	w := httptest.NewRecorder()
	n.ServeHTTP(w, r)
	want(t, w, 200, "")
}

// TestStreamsAcrossNodes has a stream at one node. Messages and acknowledgements come over another
// one, and then a newer stream there.
func TestStreamsAcrossNodes(t *testing.T) {
	t.Parallel()
	onBothTopologies(t, func(t *testing.T, url string) {
		a, b := newNode(t, url), newNode(t, url)
		older := a.stream(t, "?after=")
		id := ""
		for i := range 150 { // more than two windows: the stream finds the acknowledgements in the store
			b.send(t, fmt.Sprint(i))
			id = older.message(fmt.Sprint(i))
			if i%50 == 49 {
				want(t, b.do("bob", "POST", "/inbox/ack?upTo="+id, ""), 204, "")
			}
		}
		b.send(t, "not acknowledged")
		id = older.message("not acknowledged")
		newer := b.stream(t, "?after=")
		if got := older.next(); got != "id: superseded event: end data: superseded" {
			t.Errorf("got %s, want the end", got)
		}
		if _, err := older.body.ReadByte(); err != io.EOF {
			t.Errorf("got %v after the end, want EOF", err)
		}
		if got := newer.message("not acknowledged"); got != id {
			t.Errorf("got the message again with ID %s, it had %s", got, id)
		}
		a.send(t, "for the newer one")
		newer.message("for the newer one")
		want(t, a.do("bob", "GET", "/inbox?after="+id, ""), 200, "for the newer one") // a poll takes over
		if got := newer.next(); got != "id: superseded event: end data: superseded" {
			t.Errorf("got %s, want the end", got)
		}
		last := a.stream(t, "")
		last.message("for the newer one")
		want(t, b.do("bob", "DELETE", "/inbox", ""), 204, "")
		if got := last.next(); got != "event: end data: claim-ended" {
			t.Errorf("got %s, want the end", got)
		}
	})
}
