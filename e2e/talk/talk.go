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
	pace  = 10 * time.Millisecond // between two messages of a sender
	pause = 20 * time.Millisecond // before a request is tried again
	// arrivalTime is what the last messages have to arrive.
	arrivalTime = 15 * time.Second
)

// Server is where pairs talk.
type Server struct {
	URL string
	// Dial connects pair number i. Nil: to the URL's host, from a loopback
	// address of the pair's own, so that limits do not take all for one.
	Dial func(i int) func(ctx context.Context, network, addr string) (net.Conn, error)
	// RequestLimit is when a request is given up that was not answered; 0 is a minute.
	RequestLimit time.Duration
}

func (s Server) dial(i int) func(context.Context, string, string) (net.Conn, error) {
	if s.Dial != nil {
		return s.Dial(i)
	}
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1+byte(i>>16), byte(i>>8), byte(1+i%250))}}
	return from.DialContext
}

func (s Server) requestLimit() time.Duration {
	if s.RequestLimit == 0 {
		return time.Minute
	}
	return s.RequestLimit
}

// Figures are what was counted.
type Figures struct {
	Accepted, Delivered, Lost, Duplicated int
	// Refused are connections, Broken requests without an answer, Told those
	// that were told to come back, Unexpected all other answers.
	Refused, Broken, Told, Unexpected int
	// Gap is the longest time in which nothing arrived at one receiver.
	Gap time.Duration
	// First are the first of what was unexpected.
	First []string
}

func (f Figures) String() string {
	return fmt.Sprintf("accepted %d, delivered %d, lost %d, duplicated %d, connections refused %d, requests without an answer %d, told to come back %d, longest gap %v",
		f.Accepted, f.Delivered, f.Lost, f.Duplicated, f.Refused, f.Broken, f.Told, f.Gap.Round(10*time.Millisecond))
}

// Tally counts what several pairs meet. The zero value is ready; it may be used
// concurrently.
type Tally struct {
	mu sync.Mutex
	f  Figures
}

// Figures returns what was counted until now; losses only of pairs that have ended.
func (t *Tally) Figures() Figures {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.f
}

// TakeGap returns the longest gap since it was last called.
func (t *Tally) TakeGap() (gap time.Duration) {
	t.add(func(f *Figures) { gap, f.Gap = f.Gap, 0 })
	return gap
}

func (t *Tally) add(change func(*Figures)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(&t.f)
}

// NothingLost fails the test when a message was lost, when more came twice than
// requests went without an answer, or when an answer was none that a server
// gives. With a store that can go away, a request that is told to come back
// counts as one without an answer: its message may have been stored.
func (t *Tally) NothingLost(test testing.TB, storeMayGo bool) {
	test.Helper()
	f := t.Figures()
	test.Log(f)
	if f.Lost > 0 || f.Accepted == 0 || f.Delivered < f.Accepted {
		test.Errorf("lost %d of %d messages, want none of many", f.Lost, f.Accepted)
	}
	unsure := f.Broken
	if storeMayGo {
		unsure += f.Told
	}
	if f.Duplicated > unsure {
		test.Errorf("%d messages came twice, and only %d requests had no sure answer", f.Duplicated, unsure)
	}
	if f.Unexpected > 0 {
		test.Errorf("%d answers that nobody expects, such as %q", f.Unexpected, f.First)
	}
}

// failed counts an answer that is none of those that the peer hoped for, and
// waits as long as it asks for.
func (t *Tally) failed(ctx context.Context, answer *http.Response, err error) {
	if ctx.Err() != nil {
		return
	}
	wait := pause
	t.add(func(f *Figures) {
		switch {
		case errors.Is(err, syscall.ECONNREFUSED):
			f.Refused++
		case err != nil:
			f.Broken++
		case answer.Header.Get("Retry-After") != "" && (answer.StatusCode == 204 || answer.StatusCode == 503):
			f.Told++
			seconds, _ := strconv.Atoi(answer.Header.Get("Retry-After")) // the server's own: nonsense is no wait
			wait = time.Duration(seconds) * time.Second
		default:
			f.Unexpected++
			f.First = append(f.First, answer.Status)[:min(len(f.First)+1, 5)]
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
