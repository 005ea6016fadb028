package inbox_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"inbox/inbox"
)

// newSmallRig accepts bodies of 100 bytes.
func newSmallRig(t *testing.T) *rig {
	return newRig(t, func(c *inbox.Config, _ *inbox.Limits) {
		c.MaxBodyBytes = 100
	})
}

// TestPasswordIsCheckedFirst checks that a wrong password hides every other reason to
// refuse a request.
func TestPasswordIsCheckedFirst(t *testing.T) {
	s := newSmallRig(t)
	s.want(s.do("alice", "GET", "/inbox?wait=0", ""), 204, "")
	for _, target := range []string{"/inbox?to=nobody", "/inbox?to=alice", "/inbox", "/inbox?to=", "/inbox?to=alice&wait=junk", "/inbox?to=nobody&wait=1"} {
		for _, body := range []string{"hello", strings.Repeat("x", 1000)} {
			r := request("alice", "POST", target, body)
			r.SetBasicAuth("alice", "a wrong password")
			s.wantStatus(r, 401)
		}
	}
	for _, target := range []string{"/inbox", "/inbox?after=junk"} {
		r := request("alice", "GET", target, "")
		r.SetBasicAuth("alice", "a wrong password")
		s.wantStatus(r, 401)
	}
	s.want(s.do("alice", "POST", "/inbox?to=alice", strings.Repeat("x", 1000)), 413, "*")
	s.want(s.do("alice", "POST", "/inbox?to=nobody", "hello"), 404, "*")
	s.want(s.do("", "POST", "/inbox?to=alice", "hello"), 401, "*")
}

// TestPollWithWrongPassword checks that such a poll does not end that of the owner,
// and gets no message.
func TestPollWithWrongPassword(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSmallRig(t)
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.want(s.do("alice", "GET", "/inbox?wait=20", ""), 200, "hello")
		}()
		time.Sleep(time.Second)
		r := request("alice", "GET", "/inbox", "")
		r.SetBasicAuth("alice", "a wrong password")
		s.wantStatus(r, 401)
		s.want(s.do("bob", "POST", "/inbox?to=alice", "hello"), 200, "")
		<-done
	})
}

func TestNewerPollWithShorterWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSmallRig(t)
		done := make(chan struct{})
		go func() {
			defer close(done)
			w := s.do("alice", "GET", "/inbox?wait=20", "")
			if w.Code != 204 || w.Header().Get("X-Poll-Ended") != "superseded" {
				t.Errorf("got %d, X-Poll-Ended %q, want 204, superseded", w.Code, w.Header().Get("X-Poll-Ended"))
			}
		}()
		time.Sleep(time.Second)
		s.want(s.do("alice", "GET", "/inbox?wait=1", ""), 204, "")
		<-done
	})
}

func (s *rig) wantStatus(r *http.Request, status int) {
	s.t.Helper()
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if w.Code != status {
		s.t.Fatalf("%s %s: got %d %q, want %d", r.Method, r.URL, w.Code, w.Body, status)
	}
}
