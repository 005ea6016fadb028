package attack

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"inbox/e2e"
)

// probeInterval is the mean interval at which a good client sends a message to itself. Its two
// requests stay below the rate limit of an address.
const probeInterval = 60 * time.Millisecond

// probe is a good client, which sends and receives messages during an attack.
type probe struct {
	client *e2e.Client
	// exchange sends and receives a message, and end closes its connection. Without them, both
	// are those of a mailbox.
	exchange func(ctx context.Context) error
	end      func()

	mu        sync.Mutex
	latencies []time.Duration
	failed    int
	lastErr   error
}

func newProbe(s *scenario, name, from string) *probe { return &probe{client: s.peer(name, from)} }

// claim claims the name of the probe.
func (g *probe) claim(ctx context.Context) error {
	return wantStatus(ctx, g.client, "GET", "?wait=0", 204)
}

// run sends and receives messages until ctx ends.
func (g *probe) run(ctx context.Context) {
	defer g.close()
	// Clients that send at the same time would wait for one another.
	for sleep(ctx, probeInterval/2+rand.N(probeInterval)) {
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

func (g *probe) close() {
	if g.end != nil {
		g.end()
		return
	}
	g.client.HTTP.CloseIdleConnections()
}

func (g *probe) relay(ctx context.Context) error {
	if g.exchange != nil {
		return g.exchange(ctx)
	}
	if err := g.client.Send(ctx, g.client.Name, "text/plain", []byte("to myself"), 0); err != nil {
		return err
	}
	_, err := g.client.Receive(ctx)
	return err
}

// takeLatencies returns the latencies since the previous call.
func (g *probe) takeLatencies() []time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	latencies := g.latencies
	g.latencies = nil
	return latencies
}

// percentile returns the p quantile of unsorted durations, or zero without any.
func percentile(durations []time.Duration, p float64) time.Duration {
	if len(durations) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(durations))
	return sorted[min(len(sorted)-1, int(p*float64(len(sorted))))]
}
