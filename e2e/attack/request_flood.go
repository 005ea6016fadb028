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
	requestFloodConns = 32
	probeCount        = 16 // good clients, each on an address of its own
	phaseDuration     = 1000 * time.Millisecond
	// rampUpDuration is when the flooder connects.
	rampUpDuration = 500 * time.Millisecond
	// maxSlowdown is a generous bound for the best round, since other work of the
	// machine only ever makes one look worse; the aim, for the middle one, is 1.5.
	maxSlowdown = 5
	// defaultRate and defaultBurst are those of requests, for one address.
	defaultRate, defaultBurst = 40.0, 600.0
	// maxRefusalRate is how many a second are made on one connection; delayed, they
	// are five or so, and undelayed hundreds.
	maxRefusalRate = 20.0
	minMemory      = 128 << 20 // of memory, for a server that is only there to be flooded
)

// requestFlood floods from one address on kept connections, and holds the
// patience of others against quiet phases in between. Since the flooder is on
// this machine too, if only as a process that waits for all others, it also
// floods another server for comparison.
func requestFlood(rounds int) func(context.Context, *scenario) {
	return func(ctx context.Context, s *scenario) {
		controlTarget, err := start(s.program, minMemory, nil)
		if err != nil {
			s.fail("a second server: %v", err)
			return
		}
		defer controlTarget.quit()
		probes, stopProbes := s.startProbes(ctx, probeCount)
		defer stopProbes()
		var baseline, underFlood, control, underFloodRampUp, controlRampUp latencyPhases
		var answered, refused int64
		var floodDuration time.Duration
		began := time.Now()
		for range rounds {
			baselineTimes := latenciesDuring(ctx, probes, func() { sleep(ctx, phaseDuration) })
			floodRes, controlRes := s.floodPhase(ctx, s, probes), s.floodPhase(ctx, &scenario{target: controlTarget}, probes)
			if ctx.Err() != nil {
				s.fail("cut off after %d of %d rounds", len(underFlood.p99), rounds)
				break // the last is not whole
			}
			baseline.add(baselineTimes)
			underFlood.add(floodRes.steady)
			control.add(controlRes.steady)
			underFloodRampUp.add(floodRes.rampUp)
			controlRampUp.add(controlRes.rampUp)
			answered, refused, floodDuration = answered+floodRes.answered, refused+floodRes.refused, floodDuration+floodRes.duration
		}
		// Of a busy machine there is less of both.
		if most := defaultBurst + defaultRate*(time.Since(began).Seconds()+1); float64(answered) > most {
			s.fail("%d requests of one address were answered, want at most %.0f", answered, most)
		}
		if most := requestFloodConns * maxRefusalRate * floodDuration.Seconds(); float64(refused) > most {
			s.fail("%d refusals in %v on %d connections, want them delayed: at most %.0f", refused, floodDuration, requestFloodConns, most)
		}
		s.addFigure("%d rounds, %d answered, %d refused", len(underFlood.p99), answered, refused)
		s.addFigure("others' p50 / p99: quiet %s, flooded %s, while another server is flooded %s", &baseline, &underFlood, &control)
		s.addFigure("p99 × %.2f of quiet, × %.2f of the other's flood", underFlood.ratio(&baseline), underFlood.ratio(&control))
		s.addFigure("in the first %v: %s, × %.2f of quiet, × %.2f of the other's", rampUpDuration, &underFloodRampUp, underFloodRampUp.ratio(&baseline), underFloodRampUp.ratio(&controlRampUp))
		if r := underFlood.minRatio(&baseline); r > maxSlowdown {
			s.fail("others' p99 is %.1f times the quiet one in the best of the rounds, want at most %d", r, maxSlowdown)
		}
	}
}

// latencyPhases are what good clients saw in the phases of one kind.
type latencyPhases struct{ p50, p99 []time.Duration }

func (p *latencyPhases) add(latencies []time.Duration) {
	p.p50 = append(p.p50, percentile(latencies, 0.5))
	p.p99 = append(p.p99, percentile(latencies, 0.99))
}

// String is the middle phase's.
func (p *latencyPhases) String() string {
	return milliseconds(percentile(p.p50, 0.5)) + " / " + milliseconds(percentile(p.p99, 0.5))
}

// ratio is that of the middle phases' p99.
func (p *latencyPhases) ratio(baseline *latencyPhases) float64 {
	return float64(percentile(p.p99, 0.5)) / float64(max(percentile(baseline.p99, 0.5), 1))
}

// minRatio is that of the p99 of the two phases of one round, in the round where it is least.
func (p *latencyPhases) minRatio(baseline *latencyPhases) float64 {
	least := math.Inf(1)
	for i := range min(len(p.p99), len(baseline.p99)) {
		least = min(least, float64(p.p99[i])/float64(max(baseline.p99[i], 1)))
	}
	return least
}

// floodResult is what good clients saw of a flood, and how it went.
type floodResult struct {
	rampUp, steady    []time.Duration
	answered, refused int64
	duration          time.Duration
}

// floodPhase is a phase with a flood. In its first moment the flooder's connections
// are made: their handshakes take this machine's cores on both sides.
func (s *scenario) floodPhase(ctx context.Context, target *scenario, probes []*probe) (f floodResult) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan struct{})
	takeLatencies(probes)
	began := time.Now()
	go func() {
		defer close(done)
		f.answered, f.refused = target.runFloodProcess(ctx, "requests")
	}()
	sleep(ctx, rampUpDuration)
	f.rampUp = takeLatencies(probes)
	f.steady = latenciesDuring(ctx, probes, func() { sleep(ctx, phaseDuration) })
	stop()
	<-done
	f.duration = time.Since(began)
	return f
}

// startProbes lets good clients live until leave is called.
func (s *scenario) startProbes(ctx context.Context, n int) (probes []*probe, stopProbes func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for i := range n {
		g := newProbe(s, fmt.Sprint("other", i), fmt.Sprintf("127.201.0.%d", 1+i))
		probes = append(probes, g)
		wg.Go(func() { g.run(ctx) })
	}
	sleep(ctx, phaseDuration) // connections are made
	return probes, func() {
		cancel()
		wg.Wait()
		for _, g := range probes {
			if g.failed > 0 {
				s.fail("%d messages of others failed: %v", g.failed, g.lastErr)
			}
		}
	}
}

// latenciesDuring returns how long the messages of good clients took while f ran.
func latenciesDuring(ctx context.Context, probes []*probe, f func()) (latencies []time.Duration) {
	sleep(ctx, 100*time.Millisecond) // what was under way before is of no interest
	takeLatencies(probes)
	f()
	return takeLatencies(probes)
}

// takeLatencies takes the times of all.
func takeLatencies(probes []*probe) (latencies []time.Duration) {
	for _, g := range probes {
		latencies = append(latencies, g.takeLatencies()...)
	}
	return latencies
}

// floodRequests asks on many connections of one address, each as fast as it is
// answered, until ctx ends.
func (s *scenario) floodRequests(ctx context.Context) (answered, refused int64) {
	var answeredCount, refusedCount atomic.Int64
	request := requestHead("GET", "/inbox?wait=0", "flooder") + "\r\n"
	parallel(requestFloodConns, requestFloodConns, func(i int) {
		for ctx.Err() == nil {
			c, err := s.dial(ctx, attackerAddr(0), "http/1.1")
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

// distributedFlood is as many addresses as a botnet has, seen through a proxy: half of
// them IPv6, each with a name of its own.
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
		s.addFigure("%d addresses, %s in %.1f s, %d ms of CPU", n, statusCounts(&statuses), time.Since(began).Seconds(), (s.cpu() - before).Milliseconds())
	}
}

// forwardedAddr is an address of the world outside, every other one of IPv6 with a
// /48 of its own.
func forwardedAddr(i int) string {
	if i%2 == 0 {
		return fmt.Sprintf("11.%d.%d.%d", i>>16&255, i>>8&255, i&255)
	}
	return fmt.Sprintf("2001:%x:%x::1", 0x1000+i>>16, i&0xffff)
}

// statusCounts writes how often each status came.
func statusCounts(statuses *sync.Map) string {
	text := ""
	for status := range 600 {
		if n, ok := statuses.Load(status); ok {
			text += fmt.Sprintf("%d × %d ", n.(*atomic.Int64).Load(), status)
		}
	}
	return text[:max(0, len(text)-1)]
}
