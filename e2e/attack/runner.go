package attack

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

const (
	// settleTime is how long the server may take to be as it was.
	settleTime = time.Minute
	// ownSlack is what its own memory may be above what it was: Go keeps the
	// tables with which it managed more.
	ownSlack = 16 << 20
	// fileSlack allows for a connection that is just being closed.
	fileSlack = 2
	// memoryExcess is how far above -max-memory the server may go.
	memoryExcess = 1.1
)

// outcome is what one attack did to the server.
type outcome struct {
	name             string
	figures          []string
	failures         []string
	good             []time.Duration
	memory           int64 // the server's -max-memory
	before, peak     int64 // its RSS
	after            int64
	settled          time.Duration // until everything was as before
	threads          int64
	goroutines, idle int // at the end, and of a server that nobody attacked
	logged           int
	took             time.Duration // of the attack itself
}

func (o *outcome) fail(format string, args ...any) {
	o.failures = append(o.failures, fmt.Sprintf(format, args...))
}

// run starts a server, attacks it, and looks at what is left of it. It calls
// over when the attack is, and only what is left of it remains to be seen.
func run(ctx context.Context, program string, a attack, idle int, over func()) (o outcome, err error) {
	o = outcome{name: a.name, memory: a.memory, idle: idle}
	once := sync.OnceFunc(over)
	defer once()
	t, err := start(program, a.memory, a.flags)
	if err != nil {
		return o, err
	}
	s := &scene{target: t}
	err = o.watch(ctx, s, a, once)
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

// watch measures before, during and after the attack.
func (o *outcome) watch(ctx context.Context, s *scene, a attack, over func()) error {
	g := newGood(s, "good", goodAddr)
	if err := g.claim(ctx); err != nil {
		return fmt.Errorf("claim a name before the attack: %w", err)
	}
	g.peer.HTTP.CloseIdleConnections()
	pause(ctx, 100*time.Millisecond)
	o.before = s.proc.RSS()
	own, files := s.proc.Own(), s.proc.Files()
	if a.run != nil {
		o.attack(ctx, s, a, g)
	}
	over()
	o.settle(ctx, s, own, files)
	if err := s.call(ctx); err != nil {
		o.fail("%v", err)
	}
	var troubles []string
	o.logged, troubles = s.log.said()
	for _, line := range troubles {
		o.fail("the server logged: %s", line)
	}
	o.threads = s.proc.Threads()
	for i := 0; i < 50 && s.proc.Files() > files; i++ {
		pause(ctx, 100*time.Millisecond)
	}
	pause(ctx, 300*time.Millisecond) // the callers' connections are closed; their goroutines need a moment
	return nil
}

// attack runs the attack with a good client beside it.
func (o *outcome) attack(ctx context.Context, s *scene, a attack, g *good) {
	limit := a.limit
	if limit == 0 {
		limit = time.Minute
	}
	attacking, end := context.WithTimeout(ctx, limit)
	began := time.Now()
	living, leave := context.WithCancel(ctx)
	left := make(chan struct{})
	go func() { defer close(left); g.live(living) }()
	a.run(attacking, s)
	o.took = time.Since(began)
	if attacking.Err() != nil {
		s.fail("the attack was not over after %v", limit)
	}
	end()
	leave()
	<-left
	o.good, o.peak = g.take(), s.proc.Peak()
	if g.failed > 0 {
		o.fail("%d of %d messages of a good client failed, one with: %v", g.failed, len(o.good), g.why)
	}
	if most := int64(memoryExcess * float64(o.memory)); o.peak > most {
		o.fail("%d MiB of memory, want at most %d", o.peak>>20, most>>20)
	}
}

// settle waits until memory and files are as they were.
func (o *outcome) settle(ctx context.Context, s *scene, own int64, files int) {
	began := time.Now()
	for {
		o.settled, o.after = time.Since(began), s.proc.RSS()
		left, open := s.proc.Own(), s.proc.Files()
		if left <= own+ownSlack && open <= files+fileSlack {
			return
		}
		if o.settled > settleTime || !pause(ctx, 100*time.Millisecond) {
			o.fail("after %v: %d MiB of memory and %d files, want %d and %d as before",
				o.settled.Round(time.Second), left>>20, open, own>>20, files)
			return
		}
	}
}
