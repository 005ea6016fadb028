package attack

import (
	"context"
	"fmt"
	"math"
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

// requestFlood floods the server on persistent connections, and compares the latencies of
// good clients with those of quiet phases in between. The flooder uses this machine too,
// though with the lowest priority. For comparison, it also floods another server.
func requestFlood(f flooder, rounds int) func(context.Context, *scenario) {
	return func(ctx context.Context, s *scenario) {
		controlTarget, err := start(s.program, attack{memory: minMemory, flags: f.flags})
		if err != nil {
			s.fail("start the server for comparison: %v", err)
			return
		}
		defer controlTarget.quit()
		probes, stopProbes := s.startProbes(ctx, f, probeCount)
		defer stopProbes()
		var baseline, underFlood, control, underFloodRampUp, controlRampUp latencyPhases
		var answered, refused int64
		var floodDuration time.Duration
		began := time.Now()
		for range rounds {
			baselineTimes := latenciesDuring(ctx, probes, func() { sleep(ctx, phaseDuration) })
			floodRes, controlRes := s.floodPhase(ctx, f, s, probes), s.floodPhase(ctx, f, &scenario{target: controlTarget}, probes)
			if ctx.Err() != nil {
				s.fail("timeout after %d of %d rounds", len(underFlood.p99), rounds)
				break // the last round is incomplete
			}
			baseline.add(baselineTimes)
			underFlood.add(floodRes.steady)
			control.add(controlRes.steady)
			underFloodRampUp.add(floodRes.rampUp)
			controlRampUp.add(controlRes.rampUp)
			answered, refused, floodDuration = answered+floodRes.answered, refused+floodRes.refused, floodDuration+floodRes.duration
		}
		// On a busy machine there are fewer of both.
		if most := float64(f.addrs) * (defaultBurst + defaultRate*(time.Since(began).Seconds()+1)); float64(answered) > most {
			s.fail("got %d requests of %d addresses answered, want at most %.0f", answered, f.addrs, most)
		}
		conns := f.addrs * f.conns
		if most := float64(conns) * maxRefusalRate * floodDuration.Seconds(); float64(refused) > most {
			s.fail("got %d refusals in %v on %d connections, want at most %.0f because of their delay", refused, floodDuration, conns, most)
		}
		s.addFigure("%d rounds, %d answered, %d refused", len(underFlood.p99), answered, refused)
		s.addFigure("good clients' p50 / p99: quiet %s, flooded %s, other server flooded %s",
			&baseline, &underFlood, &control)
		s.addFigure("p99: %.2f times quiet, %.2f times other server flooded", underFlood.ratio(&baseline), underFlood.ratio(&control))
		s.addFigure("first %v: %s, %.2f times quiet, %.2f times other server flooded",
			rampUpDuration, &underFloodRampUp, underFloodRampUp.ratio(&baseline), underFloodRampUp.ratio(&controlRampUp))
		if r := underFlood.minRatio(&baseline); r > maxSlowdown {
			s.fail("got p99 of good clients %.1f times the quiet one in the best round, want at most %d", r, maxSlowdown)
		}
	}
}

// latencyPhases contains the latencies of good clients, per phase of one kind.
type latencyPhases struct{ p50, p99 []time.Duration }

func (p *latencyPhases) add(latencies []time.Duration) {
	p.p50 = append(p.p50, percentile(latencies, 0.5))
	p.p99 = append(p.p99, percentile(latencies, 0.99))
}

// String returns the medians over all phases.
func (p *latencyPhases) String() string {
	return milliseconds(percentile(p.p50, 0.5)) + " / " + milliseconds(percentile(p.p99, 0.5))
}

// ratio returns the ratio of the median p99 to that of baseline.
func (p *latencyPhases) ratio(baseline *latencyPhases) float64 {
	return float64(percentile(p.p99, 0.5)) / float64(max(percentile(baseline.p99, 0.5), 1))
}

// minRatio returns the smallest ratio, over all rounds, of the p99 to that of baseline.
func (p *latencyPhases) minRatio(baseline *latencyPhases) float64 {
	least := math.Inf(1)
	for i := range min(len(p.p99), len(baseline.p99)) {
		least = min(least, float64(p.p99[i])/float64(max(baseline.p99[i], 1)))
	}
	return least
}

// floodResult contains the latencies of good clients during a flood, and its counts.
type floodResult struct {
	rampUp, steady    []time.Duration
	answered, refused int64
	duration          time.Duration
}

// floodPhase floods target and measures the latencies of probes. The ramp-up is separate:
// the flooder then connects, and both sides of the handshakes use the cores of this machine.
func (s *scenario) floodPhase(ctx context.Context, from flooder, target *scenario, probes []*probe) (f floodResult) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan struct{})
	takeLatencies(probes)
	began := time.Now()
	go func() {
		defer close(done)
		f.answered, f.refused = target.runFloodProcess(ctx, from.name)
	}()
	sleep(ctx, rampUpDuration)
	f.rampUp = takeLatencies(probes)
	f.steady = latenciesDuring(ctx, probes, func() { sleep(ctx, phaseDuration) })
	stop()
	<-done
	f.duration = time.Since(began)
	return f
}

// startProbes runs n good clients until stopProbes is called.
func (s *scenario) startProbes(ctx context.Context, f flooder, n int) (probes []*probe, stopProbes func()) {
	for i := range n {
		name, from := fmt.Sprint("other", i), fmt.Sprintf("127.201.0.%d", 1+i)
		g := newProbe(s, name, from)
		if f.newProbe != nil {
			g = f.newProbe(s, name, from)
		}
		probes = append(probes, g)
	}
	return probes, s.runProbes(ctx, probes)
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
