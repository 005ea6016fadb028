package inbox_test

import (
	"bytes"
	"context"
	"errors"
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

// start serves a request in the background of a bubble until it waits.
func (s *rig) start(r *http.Request) <-chan *httptest.ResponseRecorder {
	done := make(chan *httptest.ResponseRecorder, 1)
	go func() {
		defer func() {
			if recover() != nil {
				close(done) // aborted: no answer
			}
		}()
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		done <- w
	}()
	synctest.Wait()
	return done
}

func TestPollWaitsAsLongAsAsked(t *testing.T) {
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

// TestGonePollSupersedesNobody: the request of a client that hung up is read
// after the one with which it came back.
func TestGonePollSupersedesNobody(t *testing.T) {
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

// slowWriter is a client whose answer takes its time, or breaks.
type slowWriter struct {
	*httptest.ResponseRecorder
	flush chan error
}

func (w slowWriter) FlushError() error { return <-w.flush }

// TestMessageIsReservedWhileItIsWritten: a poll that comes while the last one
// is being answered gets the next message if that answer went out, the same
// one if it did not.
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

func TestHangUpLosesNothing(t *testing.T) {
	s := newRig(t, nil)
	s.do("bob", "GET", "/inbox?wait=0", "")
	s.do("alice", "POST", "/inbox?to=bob", "hello")
	s.gone = true
	s.wantAborted(request("bob", "GET", "/inbox", ""))
	s.gone = false
	s.want(s.do("bob", "GET", "/inbox", ""), 200, "hello")
}

func TestCancelledPollEatsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRig(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		poll := s.start(request("bob", "GET", "/inbox", "").WithContext(ctx))
		cancel()
		if w := <-poll; w != nil {
			t.Errorf("got an answer %d, want none", w.Code)
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

// TestAcknowledgedMessageKeepsNobodyWaiting: while it is written to a receiver
// that may have lost its network, the same receiver comes back and gets it.
func TestAcknowledgedMessageKeepsNobodyWaiting(t *testing.T) {
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
			t.Errorf("waited %v for a poll that is stuck", took)
		}
		close(unblock)
	})
}

// blockedWriter is a client that takes no byte for a while.
type blockedWriter struct {
	*httptest.ResponseRecorder
	until chan struct{}
}

func (w blockedWriter) Write(b []byte) (int, error) {
	<-w.until
	return w.ResponseRecorder.Write(b)
}

// failingStore is a memory engine that fails at ends: at Discard and Close. Like an
// engine over a network it does nothing for a context that is over.
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

// hangUpWriter is a client that hangs up once it has all of its answer.
type hangUpWriter struct {
	*httptest.ResponseRecorder
	hangUp func()
}

func (w hangUpWriter) FlushError() error { w.hangUp(); return nil }

// TestHangUpAfterTheAnswer: he has the message, and does not get it again.
func TestHangUpAfterTheAnswer(t *testing.T) {
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

// TestFailureAfterTheAnswer: a message that went out and cannot be discarded
// is for the operator to know; that its mailbox is gone is nothing.
func TestFailureAfterTheAnswer(t *testing.T) {
	for _, row := range []struct {
		err     error
		logged  bool
		deleted int
	}{
		{inbox.ErrClaimEnded, false, 204}, {inbox.ErrStopping, false, 503}, {errors.New("the disk is on fire"), true, 500},
	} {
		var log bytes.Buffer
		s := newRig(t, func(c *inbox.Config, l *inbox.Limits) {
			c.Store, c.Logger = failingStore{memstore.New(*l), row.err}, slog.New(slog.NewTextHandler(&log, nil))
		})
		s.do("bob", "GET", "/inbox?wait=0", "")
		s.do("alice", "POST", "/inbox?to=bob", "hello")
		s.want(s.do("bob", "GET", "/inbox", ""), 200, "hello")
		if got := log.Len() > 0; got != row.logged {
			t.Errorf("%v: got log %q, want one %v", row.err, &log, row.logged)
		}
		s.want(s.do("bob", "DELETE", "/inbox", ""), row.deleted, "*")
	}
}

// deadlineRecorder is a client whose connection has deadlines.
type deadlineRecorder struct {
	*httptest.ResponseRecorder
	read, write []time.Time
}

func (w *deadlineRecorder) SetReadDeadline(t time.Time) error { w.read = append(w.read, t); return nil }
func (w *deadlineRecorder) SetWriteDeadline(t time.Time) error {
	w.write = append(w.write, t)
	return nil
}

// TestWriteDeadline: a receiver that takes nothing is left in time, which
// begins when there is something to take; a knock outlives the time for its body.
func TestWriteDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRig(t, func(c *inbox.Config, _ *inbox.Limits) { c.WriteTimeout = 7 * time.Second })
		pending, poll := &deadlineRecorder{ResponseRecorder: httptest.NewRecorder()}, &deadlineRecorder{ResponseRecorder: httptest.NewRecorder()}
		go s.ServeHTTP(pending, request("alice", "POST", "/inbox?to=bob&wait=20", "hello"))
		time.Sleep(5 * time.Second)
		s.ServeHTTP(poll, request("bob", "GET", "/inbox", ""))
		synctest.Wait()
		if want := []time.Time{time.Now().Add(7 * time.Second)}; !slices.Equal(poll.write, want) {
			t.Errorf("got %v to write until, want %v", poll.write, want)
		}
		if want := []time.Time{{}}; !slices.Equal(pending.read, want) {
			t.Errorf("got %v to read until, want no end", pending.read)
		}
	})
}
