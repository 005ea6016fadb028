package inbox_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"inbox/inbox"
)

// waitLimit is a Config.Enter that lets one wait.
type waitLimit struct{ waiting, entered atomic.Int64 }

var errTooManyWaits = errors.New("too many waits")

type waitRefusal struct{ error }

func (waitRefusal) Refuse(w http.ResponseWriter) { w.WriteHeader(http.StatusTooManyRequests) }

func (l *waitLimit) enter(*http.Request) (leave func(), err error) {
	if !l.waiting.CompareAndSwap(0, 1) {
		return nil, waitRefusal{errTooManyWaits}
	}
	l.entered.Add(1)
	return func() { l.waiting.Add(-1) }, nil
}

// TestOnlyWaitingRequestsCount checks that what Config.Enter counts is what waits, for as long as
// it does.
func TestOnlyWaitingRequestsCount(t *testing.T) {
	for _, row := range []struct {
		name, method, target string
		header               []string
		queued               bool // a message is in the mailbox
		waits                bool
		afterWait            int // status of the end of a wait
	}{
		{"a poll", "GET", "/inbox", nil, false, true, 204},
		{"a poll that finds a message", "GET", "/inbox", nil, true, false, 200},
		{"a poll with wait=0", "GET", "/inbox?wait=0", nil, false, false, 204},
		{"a send", "POST", "/inbox?to=bob", nil, false, false, 200},
		{"a send to an unknown name", "POST", "/inbox?to=carol", nil, false, false, 404},
		{"a pending send", "POST", "/inbox?to=carol&wait=5", nil, false, true, 404},
		{"an event stream", "GET", "/inbox", []string{"Accept: text/event-stream"}, false, true, 200},
		{"an event stream with a message", "GET", "/inbox", []string{"Accept: text/event-stream"}, true, true, 200},
		{"an acknowledgement", "POST", "/inbox/ack?upTo=1", nil, false, false, 204},
		{"the end", "DELETE", "/inbox", nil, false, false, 204},
	} {
		synctest.Test(t, func(t *testing.T) {
			limit := new(waitLimit)
			s := newRig(t, func(c *inbox.Config, _ *inbox.Limits) { c.Enter = limit.enter })
			s.want(s.do("bob", "GET", "/inbox?wait=0", ""), 204, "")
			if row.queued {
				s.want(s.do("alice", "POST", "/inbox?to=bob", "hello"), 200, "")
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			done, w := make(chan struct{}), httptest.NewRecorder()
			go func() {
				defer close(done)
				defer func() { _ = recover() }() // http.ErrAbortHandler, when the client leaves
				s.ServeHTTP(w, request("bob", row.method, row.target, "", row.header...).WithContext(ctx))
			}()
			synctest.Wait()
			entered, waiting := limit.entered.Load(), limit.waiting.Load()
			if waiting != entered || (entered == 1) != row.waits {
				t.Errorf("%s: got %d counted and %d waiting, want one if it waits: %v", row.name, entered, waiting, row.waits)
			}
			time.AfterFunc(time.Minute, cancel) // ends the stream
			<-done
			if w.Code != row.afterWait || limit.waiting.Load() != 0 {
				t.Errorf("%s: got %d at the end with %d waiting, want %d with none", row.name, w.Code, limit.waiting.Load(), row.afterWait)
			}
		})
	}
}

// TestWaitIsRefused checks that a request at the limit is refused when it would wait, and that an
// event stream is refused before it supersedes another receiver.
func TestWaitIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := new(waitLimit)
		s := newRig(t, func(c *inbox.Config, _ *inbox.Limits) { c.Enter = limit.enter })
		first := make(chan *httptest.ResponseRecorder, 1)
		go func() { first <- s.do("alice", "GET", "/inbox", "") }()
		synctest.Wait()
		s.want(s.do("bob", "GET", "/inbox", ""), 429, "")
		s.want(s.do("bob", "POST", "/inbox?to=carol&wait=5", "hello"), 429, "")
		s.want(s.do("bob", "POST", "/inbox?to=carol", "hello"), 404, "*")
		s.want(s.do("alice", "GET", "/inbox", "", "Accept: text/event-stream"), 429, "")
		synctest.Wait()
		s.want(s.do("bob", "POST", "/inbox?to=alice", "hello"), 200, "")
		s.want(<-first, 200, "hello")
		if n := limit.waiting.Load(); n != 0 {
			t.Errorf("%d still wait, want none", n)
		}
	})
}
