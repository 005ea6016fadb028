// Package talk lets pairs of peers talk through a server, and keeps account:
// what was accepted, what arrived, what was lost, what came twice, and how long
// anybody had to wait. It tries again what fails, as a good client would.
package talk

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	sendInterval = 10 * time.Millisecond // between two messages of a sender
	retryDelay   = 20 * time.Millisecond // before a request is tried again
	// drainTimeout is what the last messages have to arrive.
	drainTimeout = 15 * time.Second
)

// Server is where pairs talk.
type Server struct {
	URL string
	// Dial connects pair number i. Nil: to the URL's host, from a loopback
	// address of the pair's own, so that limits do not take all for one.
	Dial func(i int) func(ctx context.Context, network, addr string) (net.Conn, error)
	// RequestTimeout is when a request is given up that was not answered; 0 is a minute.
	RequestTimeout time.Duration
}

func (s Server) dial(i int) func(context.Context, string, string) (net.Conn, error) {
	if s.Dial != nil {
		return s.Dial(i)
	}
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1+byte(i>>16), byte(i>>8), byte(1+i%250))}}
	return from.DialContext
}

func (s Server) requestTimeout() time.Duration {
	if s.RequestTimeout == 0 {
		return time.Minute
	}
	return s.RequestTimeout
}

// Stats are what was counted.
type Stats struct {
	Accepted, Delivered, Lost, Duplicated int
	// Refused are connections, Broken requests without an answer, Told those
	// that were told to come back, Unexpected all other answers.
	Refused, NoResponse, RetryAfter, Unexpected int
	// MaxGap is the longest time in which nothing arrived at one receiver.
	MaxGap time.Duration
	// UnexpectedSamples are the first of what was unexpected.
	UnexpectedSamples []string
}

func (f Stats) String() string {
	return fmt.Sprintf("accepted %d, delivered %d, lost %d, duplicated %d, connections refused %d, requests without an answer %d, told to come back %d, longest gap %v",
		f.Accepted, f.Delivered, f.Lost, f.Duplicated, f.Refused, f.NoResponse, f.RetryAfter, f.MaxGap.Round(10*time.Millisecond))
}

// Counters counts what several pairs meet. The zero value is ready; it may be used
// concurrently.
type Counters struct {
	mu    sync.Mutex
	stats Stats
}

// Stats returns what was counted until now; losses only of pairs that have ended.
func (t *Counters) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stats
}

// TakeMaxGap returns the longest gap since it was last called.
func (t *Counters) TakeMaxGap() (gap time.Duration) {
	t.update(func(f *Stats) { gap, f.MaxGap = f.MaxGap, 0 })
	return gap
}

func (t *Counters) update(change func(*Stats)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(&t.stats)
}

// CheckNoLoss fails the test when a message was lost, when more came twice than
// requests went without an answer, or when an answer was none that a server
// gives. With a store that can go away, a request that is told to come back
// counts as one without an answer: its message may have been stored.
func (t *Counters) CheckNoLoss(test testing.TB, storeMayFail bool) {
	test.Helper()
	f := t.Stats()
	test.Log(f)
	if f.Lost > 0 || f.Accepted == 0 || f.Delivered < f.Accepted {
		test.Errorf("lost %d of %d messages, want none of many", f.Lost, f.Accepted)
	}
	ambiguous := f.NoResponse
	if storeMayFail {
		ambiguous += f.RetryAfter
	}
	if f.Duplicated > ambiguous {
		test.Errorf("%d messages came twice, and only %d requests had no sure answer", f.Duplicated, ambiguous)
	}
	if f.Unexpected > 0 {
		test.Errorf("%d answers that nobody expects, such as %q", f.Unexpected, f.UnexpectedSamples)
	}
}

// recordFailure counts an answer that is none of those that the peer hoped for, and
// waits as long as it asks for.
func (t *Counters) recordFailure(ctx context.Context, resp *http.Response, err error) {
	if ctx.Err() != nil {
		return
	}
	wait := retryDelay
	t.update(func(f *Stats) {
		switch {
		case errors.Is(err, syscall.ECONNREFUSED):
			f.Refused++
		case err != nil:
			f.NoResponse++
		case resp.Header.Get("Retry-After") != "" && (resp.StatusCode == 204 || resp.StatusCode == 503):
			f.RetryAfter++
			seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After")) // the server's own: nonsense is no wait
			wait = time.Duration(seconds) * time.Second
		default:
			f.Unexpected++
			f.UnexpectedSamples = append(f.UnexpectedSamples, resp.Status)[:min(len(f.UnexpectedSamples)+1, 5)]
		}
	})
	sleep(ctx, wait)
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
