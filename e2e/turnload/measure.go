package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"
)

// drainTime is how long a round waits for the last packets.
const drainTime = 200 * time.Millisecond

// session is the clients of one target.
type session struct {
	*target
	clients  []client
	received atomic.Int64
	readers  sync.WaitGroup
	rounds   []round
}

// round is the measurement of one target in one round.
type round struct {
	sent, received int64
	cpu            time.Duration // of the process
}

func (r round) perPacket() float64 {
	return float64(r.cpu.Nanoseconds()) / 1000 / float64(max(r.received, 1))
}

func (r round) delivered() float64 { return float64(r.received) / float64(max(r.sent, 1)) }

// measure alternates between the targets and prints a table.
func measure(ctx context.Context, cfg config, targets []*target, overTLS bool, out io.Writer) error {
	rate, transport := cfg.udpRate, "UDP"
	var sessions []*session
	defer func() {
		for _, s := range sessions {
			s.close()
		}
	}()
	if overTLS {
		rate, transport = cfg.tlsRate, "TLS"
	}
	for _, t := range targets {
		if overTLS && t.tls == "" {
			continue
		}
		s, err := newSession(t, cfg.clients, overTLS)
		if err != nil {
			return err
		}
		sessions = append(sessions, s)
	}
	for r := range cfg.rounds + 1 {
		for _, s := range inOrder(sessions, r) {
			result, err := s.run(ctx, cfg, rate)
			if err != nil {
				return err
			}
			if r > 0 { // the first round is for warming up
				s.rounds = append(s.rounds, result)
			}
		}
	}
	fmt.Fprintf(out, "%s relay to relay, %d clients, %d packets/s of %d bytes, %d rounds of %v\n",
		transport, cfg.clients, rate, cfg.size, cfg.rounds, cfg.duration)
	return printTable(out, sessions)
}

// inOrder returns the sessions in the order of a round. The last one comes first, so that the
// server, which is the first one, runs between two others: next to the forwarder in each round.
// Every other round has the opposite order.
func inOrder(sessions []*session, round int) []*session {
	last := len(sessions) - 1
	order := append(slices.Clone(sessions[last:]), sessions[:last]...)
	if round%2 == 1 {
		slices.Reverse(order)
	}
	return order
}

// newSession connects pairs of clients, each from an own /24 of loopback addresses.
func newSession(t *target, clients int, overTLS bool) (*session, error) {
	s := &session{target: t}
	for i := range clients {
		c, err := t.dial(t, fmt.Sprintf("127.60.%d.1", i/2), overTLS)
		if err != nil {
			s.close()
			return nil, err
		}
		s.clients = append(s.clients, c)
	}
	for i := 0; i+1 < clients; i += 2 {
		if err := s.clients[i].join(s.clients[i+1], i/2); err != nil {
			s.close()
			return nil, fmt.Errorf("%s: %w", t.name, err)
		}
	}
	for _, c := range s.clients {
		s.readers.Go(func() { s.count(c) })
	}
	return s, nil
}

// count counts what a client receives until it is closed.
func (s *session) count(c client) {
	for {
		if _, err := c.receive(); err == nil {
			s.received.Add(1)
		} else if errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
			return
		}
	}
}

func (s *session) close() {
	for _, c := range s.clients {
		c.close()
	}
	s.readers.Wait()
}

// run sends at a rate for the duration of a round.
func (s *session) run(ctx context.Context, cfg config, rate int) (round, error) {
	before, err := s.pid().CPU()
	if err != nil {
		return round{}, err
	}
	received := s.received.Load()
	var sent atomic.Int64
	var senders sync.WaitGroup
	for _, c := range s.clients {
		senders.Go(func() { sent.Add(sendAt(ctx, c, cfg, float64(rate)/float64(len(s.clients)))) })
	}
	senders.Wait()
	time.Sleep(drainTime)
	after, err := s.pid().CPU()
	if err := errors.Join(err, ctx.Err()); err != nil {
		return round{}, err
	}
	return round{sent: sent.Load(), received: s.received.Load() - received, cpu: after - before}, nil
}

// sendAt sends a number of packets per second, and makes up for delays.
func sendAt(ctx context.Context, c client, cfg config, perSecond float64) (sent int64) {
	payload := make([]byte, cfg.size)
	interval := time.Duration(float64(time.Second) / perSecond)
	for began := time.Now(); ctx.Err() == nil; time.Sleep(interval) {
		elapsed := min(time.Since(began), cfg.duration)
		for ; sent < int64(elapsed.Seconds()*perSecond); sent++ {
			if c.send(payload) != nil {
				return sent
			}
		}
		if elapsed == cfg.duration {
			return sent
		}
	}
	return sent
}

// printTable prints a line for each target. Ratios compare rounds that ran side by side: the
// median, and in brackets the middle half of them.
func printTable(out io.Writer, sessions []*session) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "\tdelivered\tleast\tCPU/packet\tleast\t")
	for _, s := range sessions[1:] {
		fmt.Fprintf(w, "× %s\t", s.name)
	}
	fmt.Fprintln(w)
	for _, s := range sessions {
		delivered, cpu := s.each(round.delivered), s.each(round.perPacket)
		fmt.Fprintf(w, "%s\t%.2f %%\t%.2f %%\t%.1f µs\t%.1f µs\t", s.name,
			100*quantile(delivered, 0.5), 100*delivered[0], quantile(cpu, 0.5), cpu[0])
		for _, other := range sessions[1:] {
			ratios := s.ratios(other)
			fmt.Fprintf(w, "%.2f (%.2f-%.2f)\t", quantile(ratios, 0.5), quantile(ratios, 0.25), quantile(ratios, 0.75))
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// each returns a figure of each round, sorted.
func (s *session) each(of func(round) float64) (values []float64) {
	for _, r := range s.rounds {
		values = append(values, of(r))
	}
	slices.Sort(values)
	return values
}

// ratios returns the CPU time per packet in ratio to that of another target, of each round,
// sorted.
func (s *session) ratios(other *session) (values []float64) {
	for i, r := range s.rounds {
		values = append(values, r.perPacket()/other.rounds[i].perPacket())
	}
	slices.Sort(values)
	return values
}

func quantile(sorted []float64, q float64) float64 { return sorted[int(q*float64(len(sorted)-1)+0.5)] }
