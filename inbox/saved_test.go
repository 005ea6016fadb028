package inbox_test

import (
	"io"
	"net/http/httptest"
	"testing"
	"testing/synctest"
)

// Whoever still comes to a store that was saved is told to come back.
func TestASavedStoreSendsPeersAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRig(t, nil)
		poll := s.start(request("bob", "GET", "/inbox", ""))
		pending := s.start(request("alice", "POST", "/inbox?to=carol&wait=9", "hello"))
		if _, err := s.store.Save(io.Discard, nil); err != nil {
			t.Fatal(err)
		}
		w := <-poll
		s.want(w, 204, "")
		if w.Header().Get("Retry-After") == "" {
			t.Error("the held poll got no Retry-After")
		}
		for _, w := range []*httptest.ResponseRecorder{
			<-pending, s.do("bob", "GET", "/inbox", ""), s.do("alice", "POST", "/inbox?to=bob", "hello"), s.do("bob", "DELETE", "/inbox", ""),
		} {
			s.wantProblem(w, 503, "stopping")
			if w.Header().Get("Retry-After") == "" {
				t.Error("got no Retry-After, want one")
			}
		}
	})
}
