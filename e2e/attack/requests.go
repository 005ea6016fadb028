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
	floodConns = 32
	others     = 16 // good clients, each on an address of its own
	phase      = 1000 * time.Millisecond
	// firstMoment is when the flooder connects.
	firstMoment = 500 * time.Millisecond
	// mostSlower is a generous bound for the best round, since other work of the
	// machine only ever makes one look worse; the aim, for the middle one, is 1.5.
	mostSlower = 5
	// defaultRate and defaultBurst are those of requests, for one address.
	defaultRate, defaultBurst = 40.0, 600.0
	// refusalsMost is how many a second are made on one connection; delayed, they
	// are five or so, and undelayed hundreds.
	refusalsMost = 20.0
	smallest     = 128 << 20 // of memory, for a server that is only there to be flooded
)

// requestFlood floods from one address on kept connections, and holds the
// patience of others against quiet phases in between. Since the flooder is on
// this machine too, if only as a process that waits for all others, it also
// floods another server for comparison.
func requestFlood(rounds int) func(context.Context, *scene) {
	return func(ctx context.Context, s *scene) {
		elsewhere, err := start(s.program, smallest, nil)
		if err != nil {
			s.fail("a second server: %v", err)
			return
		}
		defer elsewhere.quit()
		goods, leave := s.crowdOfGood(ctx, others)
		defer leave()
		var quiet, here, there, hereFirst, thereFirst phases
		var answered, refused int64
		var lasted time.Duration
		began := time.Now()
		for range rounds {
			quietly := during(ctx, goods, func() { pause(ctx, phase) })
			ours, theirs := s.loud(ctx, s, goods), s.loud(ctx, &scene{target: elsewhere}, goods)
			if ctx.Err() != nil {
				s.fail("cut off after %d of %d rounds", len(here.p99), rounds)
				break // the last is not whole
			}
			quiet.add(quietly)
			here.add(ours.later)
			there.add(theirs.later)
			hereFirst.add(ours.first)
			thereFirst.add(theirs.first)
			answered, refused, lasted = answered+ours.answered, refused+ours.refused, lasted+ours.lasted
		}
		// Of a busy machine there is less of both.
		if most := defaultBurst + defaultRate*(time.Since(began).Seconds()+1); float64(answered) > most {
			s.fail("%d requests of one address were answered, want at most %.0f", answered, most)
		}
		if most := floodConns * refusalsMost * lasted.Seconds(); float64(refused) > most {
			s.fail("%d refusals in %v on %d connections, want them delayed: at most %.0f", refused, lasted, floodConns, most)
		}
		s.note("%d rounds, %d answered, %d refused", len(here.p99), answered, refused)
		s.note("others' p50 / p99: quiet %s, flooded %s, while another server is flooded %s", &quiet, &here, &there)
		s.note("p99 × %.2f of quiet, × %.2f of the other's flood", here.ratio(&quiet), here.ratio(&there))
		s.note("in the first %v: %s, × %.2f of quiet, × %.2f of the other's", firstMoment, &hereFirst, hereFirst.ratio(&quiet), hereFirst.ratio(&thereFirst))
		if r := here.leastRatio(&quiet); r > mostSlower {
			s.fail("others' p99 is %.1f times the quiet one in the best of the rounds, want at most %d", r, mostSlower)
		}
	}
}

// phases are what good clients saw in the phases of one kind.
type phases struct{ p50, p99 []time.Duration }

func (p *phases) add(times []time.Duration) {
	p.p50 = append(p.p50, percentile(times, 0.5))
	p.p99 = append(p.p99, percentile(times, 0.99))
}

// String is the middle phase's.
func (p *phases) String() string {
	return milliseconds(percentile(p.p50, 0.5)) + " / " + milliseconds(percentile(p.p99, 0.5))
}

// ratio is that of the middle phases' p99.
func (p *phases) ratio(to *phases) float64 {
	return float64(percentile(p.p99, 0.5)) / float64(max(percentile(to.p99, 0.5), 1))
}

// leastRatio is that of the p99 of the two phases of one round, in the round where it is least.
func (p *phases) leastRatio(to *phases) float64 {
	least := math.Inf(1)
	for i := range min(len(p.p99), len(to.p99)) {
		least = min(least, float64(p.p99[i])/float64(max(to.p99[i], 1)))
	}
	return least
}

// flooded is what good clients saw of a flood, and how it went.
type flooded struct {
	first, later      []time.Duration
	answered, refused int64
	lasted            time.Duration
}

// loud is a phase with a flood. In its first moment the flooder's connections
// are made: their handshakes take this machine's cores on both sides.
func (s *scene) loud(ctx context.Context, target *scene, goods []*good) (f flooded) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan struct{})
	takeAll(goods)
	began := time.Now()
	go func() {
		defer close(done)
		f.answered, f.refused = target.apart(ctx, "requests")
	}()
	pause(ctx, firstMoment)
	f.first = takeAll(goods)
	f.later = during(ctx, goods, func() { pause(ctx, phase) })
	stop()
	<-done
	f.lasted = time.Since(began)
	return f
}

// crowdOfGood lets good clients live until leave is called.
func (s *scene) crowdOfGood(ctx context.Context, n int) (goods []*good, leave func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for i := range n {
		g := newGood(s, fmt.Sprint("other", i), fmt.Sprintf("127.201.0.%d", 1+i))
		goods = append(goods, g)
		wg.Go(func() { g.live(ctx) })
	}
	pause(ctx, phase) // connections are made
	return goods, func() {
		cancel()
		wg.Wait()
		for _, g := range goods {
			if g.failed > 0 {
				s.fail("%d messages of others failed: %v", g.failed, g.why)
			}
		}
	}
}

// during returns how long the messages of good clients took while f ran.
func during(ctx context.Context, goods []*good, f func()) (times []time.Duration) {
	pause(ctx, 100*time.Millisecond) // what was under way before is of no interest
	takeAll(goods)
	f()
	return takeAll(goods)
}

// takeAll takes the times of all.
func takeAll(goods []*good) (times []time.Duration) {
	for _, g := range goods {
		times = append(times, g.take()...)
	}
	return times
}

// floodRequests asks on many connections of one address, each as fast as it is
// answered, until ctx ends.
func (s *scene) floodRequests(ctx context.Context) (answered, refused int64) {
	var ok, no atomic.Int64
	request := head("GET", "/inbox?wait=0", "flooder") + "\r\n"
	each(floodConns, floodConns, func(i int) {
		for ctx.Err() == nil {
			c, err := s.dial(ctx, stranger(0), "http/1.1")
			if err != nil {
				continue
			}
			l := newLine(c)
			for goesOn := true; goesOn && ctx.Err() == nil; {
				var status int
				if status, goesOn, err = l.ask(request); err != nil {
					break
				}
				if status == http.StatusTooManyRequests {
					no.Add(1)
				} else {
					ok.Add(1)
				}
			}
			c.Close()
		}
	})
	return ok.Load(), no.Load()
}

// crowd is as many addresses as a botnet has, seen through a proxy: half of
// them IPv6, each with a name of its own.
func crowd(n int) func(context.Context, *scene) {
	return func(ctx context.Context, s *scene) {
		began := time.Now()
		before := s.cpu()
		proxy := s.http("127.0.0.1")
		defer proxy.CloseIdleConnections()
		var statuses sync.Map
		each(n, 16, func(i int) {
			c := &e2e.Client{Server: s.url(), Name: fmt.Sprint("bot", i), Password: "x", HTTP: proxy}
			for range 2 {
				got, err := status(ctx, c, "GET", "?wait=0", nil, "X-Forwarded-For", forwarded(i))
				if err != nil {
					s.fail("address %d: %v", i, err)
					return
				}
				count, _ := statuses.LoadOrStore(got, new(atomic.Int64))
				count.(*atomic.Int64).Add(1)
			}
		})
		s.note("%d addresses, %s in %.1f s, %d ms of CPU", n, counts(&statuses), time.Since(began).Seconds(), (s.cpu() - before).Milliseconds())
	}
}

// forwarded is an address of the world outside, every other one of IPv6 with a
// /48 of its own.
func forwarded(i int) string {
	if i%2 == 0 {
		return fmt.Sprintf("11.%d.%d.%d", i>>16&255, i>>8&255, i&255)
	}
	return fmt.Sprintf("2001:%x:%x::1", 0x1000+i>>16, i&0xffff)
}

// counts writes how often each status came.
func counts(statuses *sync.Map) string {
	text := ""
	for status := range 600 {
		if n, ok := statuses.Load(status); ok {
			text += fmt.Sprintf("%d × %d ", n.(*atomic.Int64).Load(), status)
		}
	}
	return text[:max(0, len(text)-1)]
}
