package attack

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"slices"
	"time"
)

// comparison compares the latencies of good clients in quiet phases with those while the server is
// flooded, and those while another server on this machine is. The latter are what the flooder itself
// does to them.
type comparison struct {
	*scenario
	other  *scenario
	probes []*probe

	rounds                       int
	quiet, flooded, otherFlooded phases
	floodedRampUp, otherRampUp   phases
	answered, refused            int64 // counts of the flooder
	floodDuration                time.Duration
}

// extraRounds are made as long as the good clients were too slow in all rounds.
const extraRounds = 3

// compare makes rounds of three phases each. It returns nil if it failed.
func (s *scenario) compare(ctx context.Context, f flooder, probes []*probe, rounds int) *comparison {
	c := &comparison{scenario: s, probes: probes, other: &scenario{flooderCPUs: s.flooderCPUs}}
	err := startOn(s.flooderCPUs, func() (err error) {
		c.other.target, err = start(s.program, attack{memory: minMemory, flags: f.flags})
		return err
	})
	if err != nil {
		s.fail("start the server for comparison: %v", err)
		return nil
	}
	defer c.other.quit()
	defer s.runProbes(ctx, probes)()
	for c.rounds < rounds || c.rounds < rounds+extraRounds && c.slowdown() > maxSlowdown {
		quiet := s.measurePhase(ctx, probes, phaseDuration, func() {})
		flooded, other := c.flood(ctx, f, s), c.flood(ctx, f, c.other)
		if ctx.Err() != nil {
			s.fail("timeout after %d of %d rounds", c.rounds, rounds)
			return c
		}
		c.rounds++
		c.quiet.add(quiet)
		c.flooded.add(flooded.steady)
		c.floodedRampUp.add(flooded.rampUp)
		c.otherFlooded.add(other.steady)
		c.otherRampUp.add(other.rampUp)
		c.answered, c.refused = c.answered+flooded.answered, c.refused+flooded.refused
		c.floodDuration += flooded.duration
	}
	return c
}

// slowdown returns the ratio of the p99 of the good clients to that without a flood in the best
// round.
func (c *comparison) slowdown() float64 {
	return min(c.flooded.minRatio(&c.quiet), c.flooded.minRatio(&c.otherFlooded))
}

// report adds what was compared to the figures.
func (c *comparison) report() {
	if c.rounds == 0 {
		return
	}
	c.addFigure("good clients' p50 / p99: quiet %s, flooded %s, other server flooded %s", &c.quiet, &c.flooded, &c.otherFlooded)
	c.addFigure("p99: %.2f times quiet, %.2f times other server flooded", c.flooded.ratio(&c.quiet), c.flooded.ratio(&c.otherFlooded))
	c.addFigure("first %v: %s, %.2f times quiet, %.2f times other server flooded", rampUpDuration, &c.floodedRampUp,
		c.floodedRampUp.ratio(&c.quiet), c.floodedRampUp.ratio(&c.otherRampUp))
	c.addFigure("CPU of the server: quiet %s, flooded %s, first %v %s, other server flooded %s", c.quiet.use(), c.flooded.use(),
		rampUpDuration, c.floodedRampUp.use(), c.otherFlooded.use())
	if r := c.slowdown(); r > maxSlowdown {
		c.fail("got p99 of good clients %.1f times that without a flood, or %v, in the best of %d rounds, want at most %d", r, noiseFloor, c.rounds, maxSlowdown)
	}
}

// phase is what was measured in a phase.
type phase struct {
	latencies     []time.Duration // of good clients
	duration, cpu time.Duration   // of the phase, and CPU time of the server
	frames        float64         // of WebSockets of -compat that the server handled per second
}

// noiseFloor is the p99 of a quiet phase in which a busy machine can make any multiple of it.
const noiseFloor = 20 * time.Millisecond

// settleDuration is longer than messages are on their way that a phase must not contain.
const settleDuration = 100 * time.Millisecond

// measurePhase measures a phase, which begins with begin.
func (s *scenario) measurePhase(ctx context.Context, probes []*probe, d time.Duration, begin func()) (p phase) {
	// What would delay the good clients in the phase precedes it.
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	frames, counted := s.countFrames(), time.Now()
	sleep(ctx, settleDuration)
	takeLatencies(probes)
	cpu, began := s.cpu(), time.Now()
	begin()
	sleep(ctx, d)
	p.latencies = takeLatencies(probes)
	p.duration, p.cpu = time.Since(began), s.cpu()-cpu
	p.frames = (s.countFrames() - frames) / time.Since(counted).Seconds()
	return p
}

// countFrames is frames, but reports an error itself.
func (s *scenario) countFrames() float64 {
	n, err := s.frames()
	if err != nil {
		s.fail("read the metrics: %v", err)
	}
	return n
}

// phases are phases of one kind.
type phases struct {
	p50, p99      []time.Duration // of good clients, per phase
	frames        []float64       // per second, per phase
	duration, cpu time.Duration   // of all
}

func (p *phases) add(one phase) {
	p.p50 = append(p.p50, percentile(one.latencies, 0.5))
	p.p99 = append(p.p99, percentile(one.latencies, 0.99))
	p.frames = append(p.frames, one.frames)
	p.duration, p.cpu = p.duration+one.duration, p.cpu+one.cpu
}

// String returns the medians over all phases.
func (p *phases) String() string {
	return milliseconds(percentile(p.p50, 0.5)) + " / " + milliseconds(percentile(p.p99, 0.5))
}

// use returns the share of a CPU that the server took, and its frames per second if there are any.
func (p *phases) use() string {
	text := fmt.Sprintf("%.1f %%", 100*p.cpu.Seconds()/p.duration.Seconds())
	if most := slices.Max(p.frames); most > 0 {
		text += fmt.Sprintf(" with %.0f to %.0f frames/s", slices.Min(p.frames), most)
	}
	return text
}

// ratio returns the ratio of the median p99 to that of baseline.
func (p *phases) ratio(baseline *phases) float64 {
	return float64(percentile(p.p99, 0.5)) / float64(max(percentile(baseline.p99, 0.5), 1))
}

// minRatio returns the smallest ratio, over all rounds, of the p99 to that of baseline, or to
// noiseFloor.
func (p *phases) minRatio(baseline *phases) float64 {
	least := math.Inf(1)
	for i := range min(len(p.p99), len(baseline.p99)) {
		least = min(least, float64(p.p99[i])/float64(max(baseline.p99[i], noiseFloor)))
	}
	return least
}

// floodResult contains what was measured during a flood, and its counts.
type floodResult struct {
	rampUp, steady    phase
	answered, refused int64
	duration          time.Duration
}

// flood floods target and measures the latencies of good clients. The ramp-up is separate: the
// flooder then connects.
func (c *comparison) flood(ctx context.Context, from flooder, target *scenario) (f floodResult) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan struct{})
	var began time.Time
	f.rampUp = c.measurePhase(ctx, c.probes, rampUpDuration, func() {
		began = time.Now()
		go func() {
			defer close(done)
			f.answered, f.refused = target.runFloodProcess(ctx, from.name)
		}()
	})
	f.steady = c.measurePhase(ctx, c.probes, phaseDuration, func() {})
	stop()
	<-done
	f.duration = time.Since(began)
	return f
}
