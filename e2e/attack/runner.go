package attack

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

const (
	// recoveryTimeout is how long the server may take to be as it was.
	recoveryTimeout = time.Minute
	// anonSlackBytes is what its own memory may be above what it was: Go keeps the
	// tables with which it managed more.
	anonSlackBytes = 16 << 20
	// openFileSlack allows for a connection that is just being closed.
	openFileSlack = 2
	// maxMemoryFactor is how far above -max-memory the server may go.
	maxMemoryFactor = 1.1
)

// outcome is what one attack did to the server.
type outcome struct {
	name               string
	figures            []string
	failures           []string
	probeLatencies     []time.Duration
	memory             int64 // the server's -max-memory
	rssBefore, rssPeak int64 // its RSS
	rssAfter           int64
	recovery           time.Duration // until everything was as before
	threads            int64
	goroutines, idle   int // at the end, and of a server that nobody attacked
	logBytes           int
	took               time.Duration // of the attack itself
}

func (o *outcome) fail(format string, args ...any) {
	o.failures = append(o.failures, fmt.Sprintf(format, args...))
}

// run starts a server, attacks it, and looks at what is left of it. It calls
// over when the attack is, and only what is left of it remains to be seen.
func run(ctx context.Context, program string, a attack, idle int, attackDone func()) (o outcome, err error) {
	o = outcome{name: a.name, memory: a.memory, idle: idle}
	once := sync.OnceFunc(attackDone)
	defer once()
	t, err := start(program, a.memory, a.flags)
	if err != nil {
		return o, err
	}
	s := &scenario{target: t}
	err = o.measure(ctx, s, a, once)
	goroutines, quitErr := t.quit()
	if err == nil {
		err = quitErr
	}
	if o.goroutines = len(goroutines); idle > 0 && o.goroutines > idle {
		o.fail("%d goroutines are left, want the %d of an idle server:\n%s", o.goroutines, idle, strings.Join(goroutines, "\n"))
	}
	o.figures, o.failures = s.figures, append(s.failures, o.failures...)
	return o, err
}

// measure measures before, during and after the attack.
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
		o.fail("the server logged: %s", line)
	}
	o.threads = s.proc.Threads()
	for i := 0; i < 50 && s.proc.OpenFiles() > files; i++ {
		sleep(ctx, 100*time.Millisecond)
	}
	sleep(ctx, 300*time.Millisecond) // the callers' connections are closed; their goroutines need a moment
	return nil
}

// attack runs the attack with a good client beside it.
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
		s.fail("the attack was not over after %v", timeout)
	}
	cancel()
	stopProbe()
	<-probeDone
	o.probeLatencies, o.rssPeak = g.takeLatencies(), s.proc.PeakRSS()
	if g.failed > 0 {
		o.fail("%d of %d messages of a good client failed, one with: %v", g.failed, len(o.probeLatencies), g.lastErr)
	}
	if most := int64(maxMemoryFactor * float64(o.memory)); o.rssPeak > most {
		o.fail("%d MiB of memory, want at most %d", o.rssPeak>>20, most>>20)
	}
}

// waitForRecovery waits until memory and files are as they were.
func (o *outcome) waitForRecovery(ctx context.Context, s *scenario, anon int64, files int) {
	began := time.Now()
	for {
		o.recovery, o.rssAfter = time.Since(began), s.proc.RSS()
		anonNow, open := s.proc.AnonRSS(), s.proc.OpenFiles()
		if anonNow <= anon+anonSlackBytes && open <= files+openFileSlack {
			return
		}
		if o.recovery > recoveryTimeout || !sleep(ctx, 100*time.Millisecond) {
			o.fail("after %v: %d MiB of memory and %d files, want %d and %d as before",
				o.recovery.Round(time.Second), anonNow>>20, open, anon>>20, files)
			return
		}
	}
}
