package attack

import (
	"context"
	"slices"
	"sync"
	"time"

	"inbox/e2e"
)

// beat is how often a good client relays a message to itself: two requests,
// well below what an address may make.
const beat = 60 * time.Millisecond

// good is a client that goes about its business while others attack.
type good struct {
	peer *e2e.Client

	mu     sync.Mutex
	times  []time.Duration
	failed int
	why    error
}

func newGood(s *scene, name, from string) *good { return &good{peer: s.peer(name, from)} }

// claim makes the name its own.
func (g *good) claim(ctx context.Context) error { return ask(ctx, g.peer, "GET", "?wait=0", 204) }

// live relays messages until ctx ends.
func (g *good) live(ctx context.Context) {
	defer g.peer.HTTP.CloseIdleConnections()
	for pause(ctx, beat) {
		began := time.Now()
		err := g.relay(ctx)
		if ctx.Err() != nil {
			return
		}
		g.mu.Lock()
		g.times = append(g.times, time.Since(began))
		if err != nil {
			g.failed++
			g.why = err
		}
		g.mu.Unlock()
	}
}

func (g *good) relay(ctx context.Context) error {
	if err := g.peer.Send(ctx, g.peer.Name, "text/plain", []byte("to myself"), 0); err != nil {
		return err
	}
	_, err := g.peer.Receive(ctx)
	return err
}

// take returns the times since it was last called.
func (g *good) take() []time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	times := g.times
	g.times = nil
	return times
}

// percentile of some times, in order or not; zero of none.
func percentile(times []time.Duration, p float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(times))
	return sorted[min(len(sorted)-1, int(p*float64(len(sorted))))]
}
