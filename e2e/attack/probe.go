package attack

import (
	"context"
	"slices"
	"sync"
	"time"

	"inbox/e2e"
)

// probeInterval is how often a good client relays a message to itself: two requests,
// well below what an address may make.
const probeInterval = 60 * time.Millisecond

// probe is a client that goes about its business while others attack.
type probe struct {
	client *e2e.Client

	mu        sync.Mutex
	latencies []time.Duration
	failed    int
	lastErr   error
}

func newProbe(s *scenario, name, from string) *probe { return &probe{client: s.peer(name, from)} }

// claim makes the name its own.
func (g *probe) claim(ctx context.Context) error {
	return wantStatus(ctx, g.client, "GET", "?wait=0", 204)
}

// run relays messages until ctx ends.
func (g *probe) run(ctx context.Context) {
	defer g.client.HTTP.CloseIdleConnections()
	for sleep(ctx, probeInterval) {
		began := time.Now()
		err := g.relay(ctx)
		if ctx.Err() != nil {
			return
		}
		g.mu.Lock()
		g.latencies = append(g.latencies, time.Since(began))
		if err != nil {
			g.failed++
			g.lastErr = err
		}
		g.mu.Unlock()
	}
}

func (g *probe) relay(ctx context.Context) error {
	if err := g.client.Send(ctx, g.client.Name, "text/plain", []byte("to myself"), 0); err != nil {
		return err
	}
	_, err := g.client.Receive(ctx)
	return err
}

// takeLatencies returns the times since it was last called.
func (g *probe) takeLatencies() []time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	latencies := g.latencies
	g.latencies = nil
	return latencies
}

// percentile of some times, in order or not; zero of none.
func percentile(durations []time.Duration, p float64) time.Duration {
	if len(durations) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(durations))
	return sorted[min(len(sorted)-1, int(p*float64(len(sorted))))]
}
