package inbox_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"inbox/inbox"
	"inbox/inbox/memstore"
)

func TestPollWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRig(t, nil)
		poll := s.start(request("bob", "GET", "/inbox", ""))
		time.Sleep(3 * time.Second)
		s.want(s.do("alice", "POST", "/inbox?to=bob", "hello"), 200, "")
		s.want(<-poll, 200, "hello")
	})
}

// start serves a request in another goroutine of a bubble until it blocks.
func (s *rig) start(r *http.Request) <-chan *httptest.ResponseRecorder {
	done := make(chan *httptest.ResponseRecorder, 1)
	go func() {
		defer func() {
			if recover() != nil {
				close(done) // aborted: no response
			}
		}()
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		done <- w
	}()
	synctest.Wait()
	return done
}

func TestPollWaitsAsLongAsRequested(t *testing.T) {
	for target, want := range map[string]time.Duration{
		"/inbox": 25 * time.Second, "/inbox?wait=7": 7 * time.Second, "/inbox?wait=0": 0,
		"/inbox?wait=25": 25 * time.Second, "/inbox?wait=26": 25 * time.Second, "/inbox?wait=3600": 25 * time.Second, "/inbox?wait=99999999999999999999": 25 * time.Second,
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newRig(t, nil)
			began := time.Now()
			s.want(s.do("bob", "GET", target, ""), 204, "")
			if took := time.Since(began); took != want {
				t.Errorf("%s: got 204 after %v, want %v", target, took, want)
			}
		})
	}
}

func TestLongPollingOff(t *testing.T) {
	s := newRig(t, func(c *inbox.Config, _ *inbox.Limits) { c.PollTimeout = 0 })
	s.want(s.do("bob", "GET", "/inbox", ""), 204, "")
	s.want(s.do("bob", "GET", "/inbox?wait=9", ""), 204, "")
}

func TestNewestPollWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRig(t, nil)
		first := s.start(request("bob", "GET", "/inbox", ""))
		second := s.start(request("bob", "GET", "/inbox", ""))
		w := <-first
		s.want(w, 204, "")
		if got := w.Header().Get("X-Poll-Ended"); got != "superseded" {
			t.Errorf("got X-Poll-Ended %q, want superseded", got)
		}
		s.do("alice", "POST", "/inbox?to=bob", "hello")
		w = <-second
		s.want(w, 200, "hello")
		if got := w.Header().Get("X-Poll-Ended"); got != "" {
			t.Errorf("got X-Poll-Ended %q, want none", got)
		}
	})
}

// TestClosedPollSupersedesNothing has the request of a client that closed its
// connection arrive after the poll with which it reconnected.
func TestClosedPollSupersedesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRig(t, nil)
		poll := s.start(request("bob", "GET", "/inbox", ""))
		s.gone = true
		s.wantAborted(request("bob", "GET", "/inbox", ""))
		s.gone = false
		s.do("alice", "POST", "/inbox?to=bob", "hello")
		s.want(<-poll, 200, "hello")
	})
}

// slowWriter is a client whose flush takes time, or fails.
type slowWriter struct {
	*httptest.ResponseRecorder
	flush chan error
}

func (w slowWriter) FlushError() error { return <-w.flush }

// TestMessageIsReservedWhileItIsWritten checks that a poll that arrives while the
// last one is being answered gets the next message if that was written, and the
// same one if not.
func TestMessageIsReservedWhileItIsWritten(t *testing.T) {
	for _, row := range []struct {
		err  error
		want string
	}{{nil, "two"}, {errors.New("connection reset"), "one"}} {
		synctest.Test(t, func(t *testing.T) {
			s := newRig(t, nil)
			s.do("bob", "GET", "/inbox?wait=0", "")
			s.do("alice", "POST", "/inbox?to=bob", "one")
			s.do("alice", "POST", "/inbox?to=bob", "two")
			w := slowWriter{httptest.NewRecorder(), make(chan error)}
			go func() {
				defer func() { _ = recover() }()
				s.ServeHTTP(w, request("bob", "GET", "/inbox", ""))
			}()
			synctest.Wait()
			second := s.start(request("bob", "GET", "/inbox", ""))
			third := s.start(request("bob", "GET", "/inbox", ""))
			s.want(<-second, 204, "")
			w.flush <- row.err
			s.want(<-third, 200, row.want)
		})
	}
}

func TestDisconnectLosesNothing(t *testing.T) {
	s := newRig(t, nil)
	s.do("bob", "GET", "/inbox?wait=0", "")
	s.do("alice", "POST", "/inbox?to=bob", "hello")
	s.gone = true
	s.wantAborted(request("bob", "GET", "/inbox", ""))
	s.gone = false
	s.want(s.do("bob", "GET", "/inbox", ""), 200, "hello")
}

func TestCanceledPollTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRig(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		poll := s.start(request("bob", "GET", "/inbox", "").WithContext(ctx))
		cancel()
		if w := <-poll; w != nil {
			t.Errorf("got a response %d, want none", w.Code)
		}
		s.do("alice", "POST", "/inbox?to=bob", "hello")
		s.want(s.do("bob", "GET", "/inbox", ""), 200, "hello")
	})
}

func TestAcknowledgedDelivery(t *testing.T) {
	s := newRig(t, nil)
	s.want(s.do("bob", "GET", "/inbox?after=&wait=0", ""), 204, "")
	s.do("alice", "POST", "/inbox?to=bob", "one")
	s.do("alice", "POST", "/inbox?to=bob", "two")
	for _, after := range []string{"", "0", "", "99999999999999999", "99999999999999999999999"} {
		s.want(s.do("bob", "GET", "/inbox?after="+after, ""), 200, "one")
	}
	one := s.do("bob", "GET", "/inbox?after=", "").Header().Get("X-Message-Id")
	s.want(s.do("bob", "GET", "/inbox?after="+one, ""), 200, "two")
	w := s.do("bob", "GET", "/inbox?after="+one, "")
	s.want(w, 200, "two")
	s.want(s.do("bob", "GET", "/inbox?wait=0&after="+w.Header().Get("X-Message-Id"), ""), 204, "")
	s.want(s.do("bob", "GET", "/inbox?wait=0&after=", ""), 204, "")
}

// TestManualAckDoesNotBlockAPoll checks that a message with acknowledgement can be
// read again while it is still being written to a connection that can be dead.
func TestManualAckDoesNotBlockAPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRig(t, nil)
		s.do("bob", "GET", "/inbox?wait=0", "")
		s.do("alice", "POST", "/inbox?to=bob", "hello")
		unblock := make(chan struct{})
		go s.ServeHTTP(blockedWriter{httptest.NewRecorder(), unblock}, request("bob", "GET", "/inbox?after=", ""))
		synctest.Wait()
		began := time.Now()
		s.want(s.do("bob", "GET", "/inbox?after=&wait=0", ""), 200, "hello")
		if took := time.Since(began); took != 0 {
			t.Errorf("waited %v for a blocked poll, want no wait", took)
		}
		close(unblock)
	})
}

// blockedWriter is a client that does not read for a while.
type blockedWriter struct {
	*httptest.ResponseRecorder
	until chan struct{}
}

func (w blockedWriter) Write(b []byte) (int, error) {
	<-w.until
	return w.ResponseRecorder.Write(b)
}

// failingStore fails at Discard and Close. Like an engine over a network, it does
// nothing once the context has ended.
type failingStore struct {
	*memstore.Store
	err error
}

func (m failingStore) Discard(ctx context.Context, c inbox.Claim, upTo uint64) error {
	if err := errors.Join(m.err, ctx.Err()); err != nil {
		return err
	}
	return m.Store.Discard(ctx, c, upTo)
}

func (m failingStore) Close(ctx context.Context, c inbox.Claim) error {
	return errors.Join(m.err, m.Store.Close(ctx, c))
}

// hangUpWriter is a client that disconnects once it has the whole response.
type hangUpWriter struct {
	*httptest.ResponseRecorder
	hangUp func()
}

func (w hangUpWriter) FlushError() error { w.hangUp(); return nil }

// TestDisconnectAfterTheResponse checks that the client does not get the message
// again.
func TestDisconnectAfterTheResponse(t *testing.T) {
	var log bytes.Buffer
	s := newRig(t, func(c *inbox.Config, l *inbox.Limits) {
		c.Store, c.Logger = failingStore{memstore.New(*l), nil}, slog.New(slog.NewTextHandler(&log, nil))
	})
	s.do("bob", "GET", "/inbox?wait=0", "")
	s.do("alice", "POST", "/inbox?to=bob", "hello")
	ctx, hangUp := context.WithCancel(t.Context())
	w := hangUpWriter{httptest.NewRecorder(), hangUp}
	s.ServeHTTP(w, request("bob", "GET", "/inbox", "").WithContext(ctx))
	s.want(w.ResponseRecorder, 200, "hello")
	s.want(s.do("bob", "GET", "/inbox?wait=0", ""), 204, "")
	if log.Len() > 0 {
		t.Errorf("got log %s, want none", &log)
	}
}

// TestFailureAfterTheResponse checks that the operator learns of a delivered message
// that cannot be discarded, unless its mailbox has ended.
func TestFailureAfterTheResponse(t *testing.T) {
	for _, row := range []struct {
		err     error
		logged  bool
		deleted int
	}{
		{inbox.ErrClaimEnded, false, 204}, {inbox.ErrStopping, false, 503}, {errors.New("disk failure"), true, 500},
	} {
		var log bytes.Buffer
		s := newRig(t, func(c *inbox.Config, l *inbox.Limits) {
			c.Store, c.Logger = failingStore{memstore.New(*l), row.err}, slog.New(slog.NewTextHandler(&log, nil))
		})
		s.do("bob", "GET", "/inbox?wait=0", "")
		s.do("alice", "POST", "/inbox?to=bob", "hello")
		s.want(s.do("bob", "GET", "/inbox", ""), 200, "hello")
		if got := log.Len() > 0; got != row.logged {
			t.Errorf("%v: got log %q, want an entry: %v", row.err, &log, row.logged)
		}
		s.want(s.do("bob", "DELETE", "/inbox", ""), row.deleted, "*")
	}
}

// deadlineRecorder records the deadlines of a connection.
type deadlineRecorder struct {
	*httptest.ResponseRecorder
	read, write []time.Time
}

func (w *deadlineRecorder) SetReadDeadline(t time.Time) error { w.read = append(w.read, t); return nil }
func (w *deadlineRecorder) SetWriteDeadline(t time.Time) error {
	w.write = append(w.write, t)
	return nil
}

// TestWriteDeadline checks that the write deadline begins with the message, and that
// a pending send has no read deadline.
func TestWriteDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRig(t, func(c *inbox.Config, _ *inbox.Limits) { c.WriteTimeout = 7 * time.Second })
		pending, poll := &deadlineRecorder{ResponseRecorder: httptest.NewRecorder()}, &deadlineRecorder{ResponseRecorder: httptest.NewRecorder()}
		go s.ServeHTTP(pending, request("alice", "POST", "/inbox?to=bob&wait=20", "hello"))
		time.Sleep(5 * time.Second)
		s.ServeHTTP(poll, request("bob", "GET", "/inbox", ""))
		synctest.Wait()
		if want := []time.Time{time.Now().Add(7 * time.Second)}; !slices.Equal(poll.write, want) {
			t.Errorf("got write deadlines %v, want %v", poll.write, want)
		}
		if want := []time.Time{{}}; !slices.Equal(pending.read, want) {
			t.Errorf("got read deadlines %v, want none", pending.read)
		}
	})
}

// TestClosedStore checks that requests to a store that was saved get 503, and polls
// that wait get 204, both with Retry-After.
func TestClosedStore(t *testing.T) {
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
			t.Error("the poll that waited got no Retry-After")
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
