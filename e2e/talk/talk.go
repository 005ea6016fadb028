// Package talk exchanges messages between pairs of peers through a server and counts
// those accepted, delivered, lost and duplicated, and the longest gap. Failed requests
// are retried as by a well-behaved client.
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
	sendInterval = 10 * time.Millisecond // between messages of a sender
	retryDelay   = 20 * time.Millisecond // before a retry
	// drainTimeout bounds the wait for the last messages.
	drainTimeout = 15 * time.Second
)

// Server is the server under test.
type Server struct {
	URL string
	// Dial returns the dial function of pair i. Nil dials the URL's host from a
	// separate loopback address for each pair, so that limits per address do not apply
	// to all pairs together.
	Dial func(i int) func(ctx context.Context, network, addr string) (net.Conn, error)
	// RequestTimeout bounds a request, and the time without a message on a stream; 0 means one
	// minute.
	RequestTimeout time.Duration
	// Transport is that of the receivers.
	Transport Transport
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

// Stats are the counts.
type Stats struct {
	Accepted, Delivered, Lost, Duplicated int
	// Misordered counts messages that arrived after a later one, not counting duplicates.
	Misordered int
	// Refused counts refused connections, NoResponse requests without a response,
	// RetryAfter responses with that header, Unexpected all other responses.
	Refused, NoResponse, RetryAfter, Unexpected int
	// MaxGap is the longest time between two messages at one receiver.
	MaxGap time.Duration
	// UnexpectedSamples are up to five statuses of unexpected responses.
	UnexpectedSamples []string
}

func (f Stats) String() string {
	return fmt.Sprintf("accepted %d, delivered %d, lost %d, misordered %d, duplicated %d, "+
		"connections refused %d, requests without a response %d, responses with Retry-After %d, longest gap %v",
		f.Accepted, f.Delivered, f.Lost, f.Misordered, f.Duplicated, f.Refused, f.NoResponse, f.RetryAfter, f.MaxGap.Round(10*time.Millisecond))
}

// Counters accumulates the Stats of several pairs. The zero value is ready to use. It
// is safe for concurrent use.
type Counters struct {
	mu    sync.Mutex
	stats Stats
}

// Stats returns the current counts. Losses include only pairs that have ended.
func (t *Counters) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stats
}

// TakeMaxGap returns the longest gap since the previous call.
func (t *Counters) TakeMaxGap() (gap time.Duration) {
	t.update(func(f *Stats) { gap, f.MaxGap = f.MaxGap, 0 })
	return gap
}

func (t *Counters) update(change func(*Stats)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(&t.stats)
}

// CheckNoLoss fails the test if a message was lost or out of order, if there are more duplicates than
// requests without a response, or if a response was unexpected. If the store can fail,
// requests with Retry-After are ambiguous as well: the store can have accepted their
// message.
func (t *Counters) CheckNoLoss(test testing.TB, storeMayFail bool) {
	test.Helper()
	f := t.Stats()
	test.Log(f)
	if f.Lost > 0 || f.Accepted == 0 || f.Delivered < f.Accepted {
		test.Errorf("got %d of %d messages lost, want none, and at least one accepted", f.Lost, f.Accepted)
	}
	if f.Misordered > 0 {
		test.Errorf("got %d messages out of order, want none", f.Misordered)
	}
	ambiguous := f.NoResponse
	if storeMayFail {
		ambiguous += f.RetryAfter
	}
	if f.Duplicated > ambiguous {
		test.Errorf("got %d duplicates, want at most %d, the number of requests with an unknown result", f.Duplicated, ambiguous)
	}
	if f.Unexpected > 0 {
		test.Errorf("got %d unexpected responses, such as %q, want none", f.Unexpected, f.UnexpectedSamples)
	}
}

// recordFailure counts a failed request and waits for retryDelay or for the Retry-After
// of the response.
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
			seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After")) // invalid: no wait
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
