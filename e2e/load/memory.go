package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"inbox/e2e/proc"
)

// memory is what one transport was measured to use.
type memory struct {
	transport                  transport
	base, idle, after, flooded int64 // RSS in bytes
	peak                       int64
	cpu                        time.Duration // of the server, per message
	latencies                  []time.Duration
	slow                       slowMessages
}

const (
	// connecting bounds the handshakes in progress.
	connecting = 64
	// arrivalTimeout bounds the time from the last message sent to the last received.
	arrivalTimeout = time.Minute
	// restTime is how long a server that has started rests before its memory is read.
	restTime = 2 * time.Second
)

// measureMemory measures the transports over one scheme, each with a server of its own, and prints
// the results.
func measureMemory(ctx context.Context, cfg config, scheme, dir string, out io.Writer) error {
	https := scheme == "https"
	fmt.Fprintf(out, "%s, %d peers, %d messages of %d bytes each, memory %v later\n", scheme, cfg.peers, cfg.messages, cfg.size, cfg.settle)
	fmt.Fprintf(out, memoryRow, "", "idle KB/peer", "after KB/peer", "after MB", "flood MB", "peak MB", "CPU/message", "p50", "p99", "max")
	for _, t := range cfg.transportsOver(https) {
		if err := raiseFileLimit(cfg.peers + t.posters(cfg.peers) + spareFiles); err != nil {
			return fmt.Errorf("%s: %w", t, err)
		}
		m, err := memoryOf(ctx, cfg, t, https, filepath.Join(dir, string(t)))
		if err != nil {
			return fmt.Errorf("%s: %w", t, err)
		}
		m.print(out, cfg)
		m.slow.print(out, len(m.latencies))
		if cfg.maxRSS > 0 && m.peak > cfg.maxRSS {
			return fmt.Errorf("%s: got %d bytes of memory at the most, want at most %d", t, m.peak, cfg.maxRSS)
		}
	}
	return nil
}

func (m *memory) print(w io.Writer, cfg config) {
	perPeer := func(rss int64) string { return fmt.Sprintf("%.1f", float64(rss-m.base)/1e3/float64(cfg.peers)) }
	slices.Sort(m.latencies)
	latency := func(q float64) string { return quantile(m.latencies, q).Round(time.Microsecond).String() }
	flooded := "-"
	if cfg.flood > 0 {
		flooded = megabytes(m.flooded)
	}
	fmt.Fprintf(w, memoryRow, m.transport, perPeer(m.idle), perPeer(m.after), megabytes(m.after), flooded, megabytes(m.peak),
		fmt.Sprintf("%.1f µs", float64(m.cpu.Nanoseconds())/1000), latency(0.5), latency(0.99), latency(1))
}

// memoryRow is printed as soon as it is known: a run takes minutes.
const memoryRow = "%8s  %12s  %13s  %8s  %8s  %7s  %11s  %10s  %10s  %10s\n"

func megabytes(n int64) string { return fmt.Sprint(n / 1e6) }

// memoryOf starts a server, connects the peers, lets them exchange messages, and reads the memory
// before, between and after.
func memoryOf(ctx context.Context, cfg config, t transport, https bool, dir string) (*memory, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	server, err := startInbox(ctx, cfg, https, dir)
	if err != nil {
		return nil, err
	}
	defer server.Stop()
	process := proc.ID(server.PID())
	m := &memory{transport: t}
	c := newCrowd(cfg, target{string(t), server.Addr, t, https, server.PID(), server})
	defer c.close()
	rss := func(after time.Duration, into *int64) func() error {
		return func() error {
			err := c.wait(ctx, after)
			*into, m.peak = process.RSS(), process.PeakRSS()
			return err
		}
	}
	for _, step := range []func() error{
		rss(restTime, &m.base),
		func() error { return c.connect(ctx) },
		rss(cfg.settle, &m.idle),
		func() error { return m.exchange(ctx, c, process) },
		rss(cfg.settle, &m.after),
		func() error { return m.flood(ctx, c, cfg.flood) },
		rss(0, &m.flooded),
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// exchange lets all peers send their messages, and measures CPU time and latency.
func (m *memory) exchange(ctx context.Context, c *crowd, process proc.ID) error {
	before, err := process.CPU()
	if err == nil {
		err = c.exchange(ctx, c.cfg.messages)
	}
	if err != nil {
		return err
	}
	after, err := process.CPU()
	m.cpu = (after - before) / time.Duration(len(c.peers)*c.cfg.messages)
	for _, p := range c.peers {
		p.mu.Lock()
		m.latencies = append(m.latencies, p.latencies...)
		m.slow.add(p)
		p.mu.Unlock()
	}
	return err
}

// flood floods the server, and then checks that each peer still receives.
func (m *memory) flood(ctx context.Context, c *crowd, duration time.Duration) error {
	if duration <= 0 {
		return nil
	}
	flood(ctx, c.target, duration)
	if err := c.alive(); err != nil {
		return fmt.Errorf("after a flood: %w", err)
	}
	if err := c.exchange(ctx, 1); err != nil {
		return fmt.Errorf("after a flood: %w", err)
	}
	return nil
}

// crowd is the peers of one server.
type crowd struct {
	cfg     config
	target  target
	peers   []*peer
	arrived atomic.Int64
	sent    int64
	readers sync.WaitGroup
	closed  atomic.Bool

	mu      sync.Mutex
	posters map[string]*sharedPoster // by source address
	ended   []error                  // of connections
}

func newCrowd(cfg config, t target) *crowd {
	return &crowd{cfg: cfg, target: t, posters: map[string]*sharedPoster{}}
}

// connect connects all peers.
func (c *crowd) connect(ctx context.Context) error {
	c.peers = make([]*peer, c.cfg.peers)
	return c.each(ctx, connecting, func(n int) error {
		p, err := c.newPeer(ctx, n)
		if err != nil {
			return fmt.Errorf("connect peer %d: %w", n, err)
		}
		c.peers[n] = p
		c.readers.Go(func() { c.read(p) })
		return nil
	})
}

// each calls f for each peer, in some goroutines, until one fails.
func (c *crowd) each(ctx context.Context, workers int, f func(n int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for ctx.Err() == nil {
				n := int(next.Add(1)) - 1
				if n >= c.cfg.peers {
					return
				}
				if err := f(n); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// read receives the messages of a peer until its connection ends.
func (c *crowd) read(p *peer) {
	err := p.link.run(func(body []byte) {
		p.received(sentAt(body), time.Since(started))
		c.arrived.Add(1)
	})
	if c.closed.Load() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = append(c.ended, fmt.Errorf("%s: %w", p.name, err))
}

// exchange lets each peer send messages to its partner, at the configured pace, and waits until all
// have arrived.
func (c *crowd) exchange(ctx context.Context, messages int) error {
	pace := newPace(c.cfg.pace)
	for range messages {
		err := c.each(ctx, connecting, func(n int) error {
			pace.wait(ctx)
			return c.send(ctx, c.peers[n])
		})
		if err != nil {
			return fmt.Errorf("send: %w", errors.Join(err, c.alive()))
		}
	}
	c.sent += int64(messages * len(c.peers))
	for deadline := time.Now().Add(arrivalTimeout); c.arrived.Load() < c.sent; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) || ctx.Err() != nil {
			return errors.Join(fmt.Errorf("got %d of %d messages", c.arrived.Load(), c.sent), c.alive())
		}
	}
	c.closePosters() // what has arrived was acknowledged
	return c.alive()
}

// alive returns an error if connections have ended.
func (c *crowd) alive() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.ended) == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d connections ended; first %w", len(c.ended), len(c.peers), c.ended[0])
}

// wait waits, and returns an error if connections have ended.
func (c *crowd) wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return c.alive()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close closes all connections.
func (c *crowd) close() {
	c.closed.Store(true)
	c.closePosters()
	for _, p := range c.peers {
		if p != nil {
			p.link.close()
		}
	}
	c.readers.Wait()
}

// pace spreads events evenly.
type pace struct {
	interval time.Duration
	mu       sync.Mutex
	next     time.Time
}

func newPace(perSecond int) *pace {
	return &pace{interval: time.Second / time.Duration(perSecond), next: time.Now()}
}

func (p *pace) wait(ctx context.Context) {
	p.mu.Lock()
	now := time.Now()
	at := p.next
	if at.Before(now) {
		at = now
	}
	p.next = at.Add(p.interval)
	p.mu.Unlock()
	if d := at.Sub(now); d > 0 {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
}
