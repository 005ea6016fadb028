package attack

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

const (
	// recoveryTimeout bounds the time until the server has released memory and files.
	recoveryTimeout = time.Minute
	// anonSlackBytes is the tolerated growth of anonymous memory: Go keeps the tables with
	// which it managed a larger heap.
	anonSlackBytes = 16 << 20
	// openFileSlack tolerates connections that are being closed.
	openFileSlack = 2
	// maxMemoryFactor bounds the peak RSS as a multiple of -max-memory.
	maxMemoryFactor = 1.1
)

// outcome contains the effects of one attack on the server. Sizes are in bytes.
type outcome struct {
	name               string
	figures            []string
	failures           []string
	probeLatencies     []time.Duration
	memory             int64 // the server's -max-memory
	rssBefore, rssPeak int64 // RSS of the server
	rssAfter           int64
	recovery           time.Duration // until memory and files were released
	threads            int64
	goroutines, idle   int // after the attack, and of an idle server
	logBytes           int
	took               time.Duration // of the attack itself
}

func (o *outcome) fail(format string, args ...any) {
	o.failures = append(o.failures, fmt.Sprintf(format, args...))
}

// run starts a server, attacks it, and checks its recovery. It calls attackDone when the
// attack has ended and only the recovery remains.
func run(ctx context.Context, program string, a attack, idle int, attackDone func()) (o outcome, err error) {
	o = outcome{name: a.name, memory: a.memory, idle: idle}
	s := &scenario{}
	if a.measuresLatency {
		if err := confine(serverCPUs); err != nil {
			return o, err
		}
		s.flooderCPUs = flooderCPUs
	}
	once := sync.OnceFunc(func() {
		if a.measuresLatency && confine(allCPUs) != nil {
			s.fail("this process cannot use all CPUs again")
		}
		attackDone()
	})
	defer once()
	if s.target, err = start(program, a); err != nil {
		return o, err
	}
	err = o.measure(ctx, s, a, once)
	goroutines, quitErr := s.quit()
	if err == nil {
		err = quitErr
	}
	if o.goroutines = len(goroutines); idle > 0 && o.goroutines > idle {
		o.fail("got %d goroutines, want the %d of an idle server:\n%s", o.goroutines, idle, strings.Join(goroutines, "\n"))
	}
	o.figures, o.failures = s.figures, append(s.failures, o.failures...)
	return o, err
}

// measure runs the attack and measures the server before, during and after it.
func (o *outcome) measure(ctx context.Context, s *scenario, a attack, attackDone func()) error {
	g := newProbe(s, "good", probeAddr)
	if err := g.claim(ctx); err != nil {
		return fmt.Errorf("claim a name before the attack: %w", err)
	}
	g.client.HTTP.CloseIdleConnections()
	sleep(ctx, 100*time.Millisecond)
	o.rssBefore = s.proc.RSS()
	anon, files := s.proc.AnonRSS(), s.proc.OpenFiles()
	if a.run != nil {
		o.attack(ctx, s, a, g)
	}
	attackDone()
	o.waitForRecovery(ctx, s, anon, files)
	if err := s.call(ctx); err != nil {
		o.fail("%v", err)
	}
	var unexpected []string
	o.logBytes, unexpected = s.log.summary()
	for _, line := range unexpected {
		o.fail("unexpected log line: %s", line)
	}
	o.threads = s.proc.Threads()
	for i := 0; i < 50 && s.proc.OpenFiles() > files; i++ {
		sleep(ctx, 100*time.Millisecond)
	}
	sleep(ctx, 300*time.Millisecond) // the connections of the call are closed; their goroutines end a moment later
	return nil
}

// attack runs the attack while a good client uses the server.
func (o *outcome) attack(ctx context.Context, s *scenario, a attack, g *probe) {
	timeout := a.timeout
	if timeout == 0 {
		timeout = time.Minute
	}
	attackCtx, cancel := context.WithTimeout(ctx, timeout)
	began := time.Now()
	probing, stopProbe := context.WithCancel(ctx)
	probeDone := make(chan struct{})
	go func() { defer close(probeDone); g.run(probing) }()
	a.run(attackCtx, s)
	o.took = time.Since(began)
	if attackCtx.Err() != nil {
		s.fail("timeout after %v: the attack has not ended", timeout)
	}
	cancel()
	stopProbe()
	<-probeDone
	o.probeLatencies, o.rssPeak = g.takeLatencies(), s.proc.PeakRSS()
	if g.failed > 0 {
		o.fail("%d of %d messages of the good client failed, the last with: %v", g.failed, len(o.probeLatencies), g.lastErr)
	}
	if most := int64(maxMemoryFactor * float64(o.memory)); o.rssPeak > most {
		o.fail("got %d MiB of memory, want at most %d", o.rssPeak>>20, most>>20)
	}
}

// waitForRecovery waits until memory and files are released.
func (o *outcome) waitForRecovery(ctx context.Context, s *scenario, anon int64, files int) {
	began := time.Now()
	for {
		o.recovery, o.rssAfter = time.Since(began), s.proc.RSS()
		anonNow, open := s.proc.AnonRSS(), s.proc.OpenFiles()
		if anonNow <= anon+anonSlackBytes && open <= files+openFileSlack {
			return
		}
		if o.recovery > recoveryTimeout || !sleep(ctx, 100*time.Millisecond) {
			o.fail("after %v: got %d MiB of memory and %d files, want %d and %d as before the attack",
				o.recovery.Round(time.Second), anonNow>>20, open, anon>>20, files)
			return
		}
	}
}
