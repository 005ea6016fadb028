package inbox_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"inbox/inbox"
)

func TestDeliveriesAreCounted(t *testing.T) {
	s := newRig(t, nil)
	s.do("bob", "GET", "/inbox?wait=0", "")
	s.do("alice", "POST", "/inbox?to=bob", "one")
	s.do("alice", "POST", "/inbox?to=bob", "two")
	if got := s.store.Stats(); got.Queued != 2 || got.QueuedBytes < 6 {
		t.Errorf("got %+v, want 2 messages", got)
	}
	s.gone = true
	s.wantAborted(request("bob", "GET", "/inbox", ""))
	s.gone = false
	s.want(s.do("bob", "GET", "/inbox", ""), 200, "one")
	s.want(s.do("bob", "GET", "/inbox?after=", ""), 200, "two")
	two := s.do("bob", "GET", "/inbox?after=", "")
	s.want(two, 200, "two")
	if got := s.store.Stats().Queued; got != 1 {
		t.Errorf("%d messages are queued, want the unacknowledged one", got)
	}
	s.ServeHTTP(failingWriter{httptest.NewRecorder()}, request("bob", "GET", "/inbox?after=", ""))
	s.do("bob", "GET", "/inbox?wait=0&after="+two.Header().Get("X-Message-Id"), "")
	if got, want := s.Receivers()[inbox.LongPoll].Deliveries, (inbox.Deliveries{AutoAck: 1, ManualAck: 2, Requeued: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := s.store.Stats(); got.Queued != 0 || got.QueuedBytes != 0 {
		t.Errorf("got %+v, want nothing queued", got)
	}
}

// failingWriter fails to write.
type failingWriter struct{ *httptest.ResponseRecorder }

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("connection reset") }

// TestQueuedMessagesAreCountedOnce checks that a message counts as long as it takes
// memory, whatever removes it.
func TestQueuedMessagesAreCountedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRig(t, func(_ *inbox.Config, l *inbox.Limits) { l.Capacity = 2 })
		want := func(n int64) {
			t.Helper()
			if got := s.store.Stats().Queued; got != n {
				t.Errorf("%d messages are queued, want %d", got, n)
			}
		}
		pending := s.start(request("alice", "POST", "/inbox?to=bob&wait=9", "waits"))
		want(1)
		if w := <-pending; w.Code != 404 {
			t.Errorf("got %d, want 404", w.Code)
		}
		want(0)
		for i := range 3 { // the last one finds it full
			s.do("bob", "POST", "/inbox?to=bob", strconv.Itoa(i))
		}
		want(2)
		s.do("bob", "DELETE", "/inbox", "")
		want(0)
		s.do("bob", "POST", "/inbox?to=bob", "expires")
		time.Sleep(2 * time.Minute)
		s.store.Sweep()
		want(0)
	})
}

// TestOnWait checks that the duration of a wait is reported, so that it can be
// subtracted from that of the request.
func TestOnWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var waits []time.Duration
		s := newRig(t, func(c *inbox.Config, _ *inbox.Limits) {
			c.OnWait = func(_ http.ResponseWriter, d time.Duration) { waits = append(waits, d) }
		})
		s.want(s.do("bob", "GET", "/inbox?wait=0", ""), 204, "")
		s.want(s.do("bob", "GET", "/inbox?wait=7", ""), 204, "")
		s.do("alice", "POST", "/inbox?to=nobody&wait=5", "hello")
		s.want(s.do("alice", "POST", "/inbox?to=bob", "hello"), 200, "")
		s.want(s.do("bob", "GET", "/inbox", ""), 200, "hello")
		if len(waits) != 2 || waits[0] != 7*time.Second || waits[1] != 5*time.Second {
			t.Errorf("got %v, want 7 s and 5 s", waits)
		}
	})
}
