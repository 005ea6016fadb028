package inbox_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"inbox/inbox"
)

// inFlightRig has a budget of 4 MiB, of which one payer gets a quarter. The
// names bob1 and bob2 have the same payer.
func inFlightRig(t *testing.T) *rig {
	return newRig(t, func(c *inbox.Config, _ *inbox.Limits) {
		c.MaxInFlightBytes = 4 << 20
		c.Payer = func(r *http.Request) inbox.Payer {
			name, _, _ := r.BasicAuth()
			return inbox.Payer{Client: strings.TrimRight(name, "0123456789")}
		}
	})
}

// TestSlowBodiesAreCounted checks that bodies that are being read count against the
// share of their payer.
func TestSlowBodiesAreCounted(t *testing.T) {
	s := inFlightRig(t)
	s.do("bob", "GET", "/inbox?wait=0", "")
	body, slow := io.Pipe()
	r := request("alice", "POST", "/inbox?to=bob", "")
	r.Body, r.ContentLength = body, 700<<10
	done := make(chan *httptest.ResponseRecorder, 1)
	go func() {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		done <- w
	}()
	large := strings.Repeat("x", 700<<10)
	io.WriteString(slow, large[1:])
	s.wantProblem(s.do("alice", "POST", "/inbox?to=bob", large), 429, "payer-full")
	s.want(s.do("alice", "POST", "/inbox?to=bob", "an offer"), 200, "")
	s.want(s.do("carol", "POST", "/inbox?to=bob", large), 200, "")
	io.WriteString(slow, "x")
	slow.Close()
	s.want(<-done, 200, "")
	s.want(s.do("alice", "POST", "/inbox?to=bob", large), 200, "")
}

// TestRefusedBodiesAreNotCounted checks that a body that exceeds the budget leaves
// no charge.
func TestRefusedBodiesAreNotCounted(t *testing.T) {
	s := newRig(t, func(c *inbox.Config, _ *inbox.Limits) { c.MaxInFlightBytes = 1 << 20 })
	s.do("bob", "GET", "/inbox?wait=0", "")
	large := strings.Repeat("x", 700<<10)
	body, slow := io.Pipe()
	r := request("alice", "POST", "/inbox?to=bob", "")
	r.Body, r.ContentLength = body, int64(len(large))
	done := make(chan *httptest.ResponseRecorder, 1)
	go func() {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		done <- w
	}()
	io.WriteString(slow, large[1:])
	for range 5 {
		s.wantProblem(s.do("alice", "POST", "/inbox?to=bob", large), 503, "server-full")
	}
	slow.Close()
	<-done
	s.want(s.do("alice", "POST", "/inbox?to=bob", large), 200, "")
}

// blockingWriter is a client that does not read the response.
type blockingWriter struct {
	*httptest.ResponseRecorder
	writing, unblock chan struct{}
}

func (w *blockingWriter) Write(p []byte) (int, error) {
	close(w.writing)
	<-w.unblock
	return w.ResponseRecorder.Write(p)
}

// TestSlowReadersAreCounted checks that a message that is being written counts
// against the reader, because it stays in memory when its mailbox is closed.
func TestSlowReadersAreCounted(t *testing.T) {
	s := inFlightRig(t)
	large := strings.Repeat("x", 700<<10)
	leave := func(to string) {
		s.do(to, "GET", "/inbox?wait=0", "")
		s.want(s.do("alice", "POST", "/inbox?to="+to, large), 200, "")
	}
	leave("bob1")
	w := &blockingWriter{httptest.NewRecorder(), make(chan struct{}), make(chan struct{})}
	done := make(chan struct{})
	go func() { defer close(done); s.ServeHTTP(w, request("bob1", "GET", "/inbox?after=", "")) }()
	<-w.writing
	s.want(s.do("bob1", "DELETE", "/inbox", ""), 204, "")
	leave("bob2")
	s.wantProblem(s.do("bob2", "GET", "/inbox", ""), 429, "payer-full")
	close(w.unblock)
	<-done
	if got := s.do("bob2", "GET", "/inbox", "").Body.Len(); got != len(large) {
		t.Errorf("got %d bytes, want the whole message", got)
	}
}
