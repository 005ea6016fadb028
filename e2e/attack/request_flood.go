package attack

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"inbox/e2e"
)

const (
	probeCount    = 16 // good clients, each with its own address
	phaseDuration = 1000 * time.Millisecond
	// rampUpDuration is the time in which the flooder connects.
	rampUpDuration = 500 * time.Millisecond
	// maxSlowdown is a generous bound for the best round, because other load of the machine
	// can only make a round worse. The aim for the median is 1.5.
	maxSlowdown = 5
	// defaultRate and defaultBurst are the default request limits of one address.
	defaultRate, defaultBurst = 40.0, 600.0
	// maxRefusalRate bounds the refusals per second on one connection. With the delay of
	// refusals there are about five, without it hundreds.
	maxRefusalRate = 20.0
	minMemory      = 128 << 20 // -max-memory of the server for comparison
)

// flooder is a flood of requests from addresses in as many networks.
type flooder struct {
	name  string // in floods
	addrs int
	conns int // per address
	// flags are additional options of the server.
	flags []string
	// newProbe returns a good client; nil is one with a mailbox.
	newProbe func(s *scenario, name, from string) *probe
}

var (
	oneFlooder     = flooder{name: "requests", addrs: 1, conns: 32}
	networkFlooder = flooder{name: "requests of 50 networks", addrs: 50, conns: 4}
)

// requestFlood floods the server on persistent connections, and compares the latencies of good
// clients with those without a flood.
func requestFlood(f flooder, rounds int) func(context.Context, *scenario) {
	return func(ctx context.Context, s *scenario) {
		began := time.Now()
		c := s.compare(ctx, f, s.newProbes(f, probeCount), rounds)
		if c == nil {
			return
		}
		// On a busy machine there are fewer of both.
		if most := float64(f.addrs) * (defaultBurst + defaultRate*(time.Since(began).Seconds()+1)); float64(c.answered) > most {
			s.fail("got %d requests of %d addresses answered, want at most %.0f", c.answered, f.addrs, most)
		}
		conns := f.addrs * f.conns
		if most := float64(conns) * maxRefusalRate * c.floodDuration.Seconds(); float64(c.refused) > most {
			s.fail("got %d refusals in %v on %d connections, want at most %.0f because of their delay", c.refused, c.floodDuration, conns, most)
		}
		s.addFigure("%d rounds, %d answered, %d refused", c.rounds, c.answered, c.refused)
		c.report()
	}
}

// newProbes returns n good clients.
func (s *scenario) newProbes(f flooder, n int) (probes []*probe) {
	for i := range n {
		name, from := fmt.Sprint("other", i), fmt.Sprintf("127.201.0.%d", 1+i)
		g := newProbe(s, name, from)
		if f.newProbe != nil {
			g = f.newProbe(s, name, from)
		}
		probes = append(probes, g)
	}
	return probes
}

// runProbes runs good clients until stopProbes is called.
func (s *scenario) runProbes(ctx context.Context, probes []*probe) (stopProbes func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, g := range probes {
		wg.Go(func() { g.run(ctx) })
	}
	sleep(ctx, phaseDuration) // until they are connected
	return func() {
		cancel()
		wg.Wait()
		for _, g := range probes {
			if g.failed > 0 {
				s.fail("%d messages of a good client failed, the last with: %v", g.failed, g.lastErr)
			}
		}
	}
}

// latenciesDuring returns the latencies of good clients while f runs.
func latenciesDuring(ctx context.Context, probes []*probe, f func()) (latencies []time.Duration) {
	sleep(ctx, 100*time.Millisecond) // discards messages that began before f
	takeLatencies(probes)
	f()
	return takeLatencies(probes)
}

// takeLatencies takes the latencies of all probes.
func takeLatencies(probes []*probe) (latencies []time.Duration) {
	for _, g := range probes {
		latencies = append(latencies, g.takeLatencies()...)
	}
	return latencies
}

// run sends requests on all connections, each as fast as the responses arrive, until ctx
// ends. Each address has a mailbox of its own.
func (f flooder) run(s *scenario, ctx context.Context) (answered, refused int64) {
	var answeredCount, refusedCount atomic.Int64
	conns := f.addrs * f.conns
	parallel(conns, conns, func(i int) {
		request := requestHead("GET", "/inbox?wait=0", fmt.Sprint("flooder", i%f.addrs)) + "\r\n"
		for ctx.Err() == nil {
			c, err := s.dial(ctx, attackerAddr(i%f.addrs), "http/1.1")
			if err != nil {
				continue
			}
			l := newHTTP1Conn(c)
			for keepAlive := true; keepAlive && ctx.Err() == nil; {
				var status int
				if status, keepAlive, err = l.roundTrip(request); err != nil {
					break
				}
				if status == http.StatusTooManyRequests {
					refusedCount.Add(1)
				} else {
					answeredCount.Add(1)
				}
			}
			c.Close()
		}
	})
	return answeredCount.Load(), refusedCount.Load()
}

// distributedFlood sends requests from n client addresses, half of them IPv6, through a
// proxy. Each client has its own name.
func distributedFlood(n int) func(context.Context, *scenario) {
	return func(ctx context.Context, s *scenario) {
		began := time.Now()
		before := s.cpu()
		proxy := s.http("127.0.0.1")
		defer proxy.CloseIdleConnections()
		var statuses sync.Map
		parallel(n, 16, func(i int) {
			c := &e2e.Client{Server: s.url(), Name: fmt.Sprint("bot", i), Password: "x", HTTP: proxy}
			for range 2 {
				got, err := requestStatus(ctx, c, "GET", "?wait=0", nil, "X-Forwarded-For", forwardedAddr(i))
				if err != nil {
					s.fail("address %d: %v", i, err)
					return
				}
				count, _ := statuses.LoadOrStore(got, new(atomic.Int64))
				count.(*atomic.Int64).Add(1)
			}
		})
		s.addFigure("%d addresses, %s in %.1f s, %d ms of CPU",
			n, statusCounts(&statuses), time.Since(began).Seconds(), (s.cpu() - before).Milliseconds())
	}
}

// forwardedAddr returns the i-th public address. Every other one is IPv6, with its own /48.
func forwardedAddr(i int) string {
	if i%2 == 0 {
		return fmt.Sprintf("11.%d.%d.%d", i>>16&255, i>>8&255, i&255)
	}
	return fmt.Sprintf("2001:%x:%x::1", 0x1000+i>>16, i&0xffff)
}

// statusCounts formats the number of responses per status.
func statusCounts(statuses *sync.Map) string {
	text := ""
	for status := range 600 {
		if n, ok := statuses.Load(status); ok {
			text += fmt.Sprintf("%d × %d ", n.(*atomic.Int64).Load(), status)
		}
	}
	return text[:max(0, len(text)-1)]
}
