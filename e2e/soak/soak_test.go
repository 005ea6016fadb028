package soak

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"inbox/e2e"
	"inbox/e2e/talk"
)

// program is the server's binary, built once for all tests.
var program string

func TestMain(m *testing.M) {
	e2e.Main(m, &program)
}

// startService starts the server, and stops it when the test ends.
func startService(t *testing.T, held bool) *service {
	t.Helper()
	s, err := newService(program, t.TempDir(), held)
	if err == nil {
		err = s.start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
		s.socket.Close() // there may be none, which is no more than an error
		if said := s.said(); said != "" {
			t.Errorf("the server logged:\n%s", said)
		}
	})
	return s
}

// traffic lets pairs talk until the returned function is called, which waits
// for the last message.
func traffic(s *service, pairs int, t *talk.Tally) (all []*talk.Pair, end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i := range pairs {
		p := talk.NewPair(talk.Server{URL: "https://" + s.addr}, fmt.Sprint("pair-", i), i, t)
		all = append(all, p)
		wg.Go(func() { p.Run(ctx) })
	}
	return all, func() { cancel(); wg.Wait() }
}

const (
	restartCount = 5
	betweenThem  = 700 * time.Millisecond
	pairCount    = 8
)

// Behind a socket that stays open, restarts under load lose no message and
// refuse no connection.
func TestRestartsBehindASocket(t *testing.T) {
	s, total := startService(t, true), &talk.Tally{}
	_, end := traffic(s, pairCount, total)
	away := restartOften(t, s)
	end()
	t.Logf("%d restarts, of %v together", restartCount, away)
	total.NothingLost(t, false)
	if total.Figures().Refused > 0 {
		t.Errorf("%d connections were refused, want none", total.Figures().Refused)
	}
}

// A server that binds by itself refuses connections while it is away, and
// loses no message either.
func TestRestartsLoseNothing(t *testing.T) {
	s, total := startService(t, false), &talk.Tally{}
	_, end := traffic(s, pairCount, total)
	away := restartOften(t, s)
	end()
	t.Logf("%d restarts, of %v together", restartCount, away)
	total.NothingLost(t, false)
}

func restartOften(t *testing.T, s *service) (away time.Duration) {
	t.Helper()
	for range restartCount {
		time.Sleep(betweenThem)
		d, err := s.restart()
		if err != nil {
			t.Fatal(err)
		}
		away += d
	}
	return away
}

// A crash loses what was in memory. What is accepted after it arrives, and the
// peers need nobody's hand.
func TestACrashLosesOnlyMemory(t *testing.T) {
	s, total := startService(t, false), &talk.Tally{}
	pairs, end := traffic(s, pairCount, total)
	time.Sleep(betweenThem)
	s.crash()
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	for _, p := range pairs {
		p.Forget()
	}
	time.Sleep(3 * time.Second)
	end()
	f := total.Figures()
	t.Log(f)
	after := 0
	for _, p := range pairs {
		after += p.Accepted()
	}
	if after == 0 || f.Lost > 0 || f.Unexpected > 0 {
		t.Errorf("after the crash: accepted %d, lost %d, unexpected %d %q", after, f.Lost, f.Unexpected, f.First)
	}
}

// lives is how many times the soak's server is started.
const lives = 4

// TestSoak lets pairs talk and others come and go, through restarts. SOAK is
// how long, as in SOAK=8h.
func TestSoak(t *testing.T) {
	long := 45 * time.Second
	if text := os.Getenv("SOAK"); text != "" {
		var err error
		if long, err = time.ParseDuration(text); err != nil || long < 20*time.Second {
			t.Fatalf("SOAK=%s: want a duration of 20s or more", text)
		}
	}
	s, total, guests := startService(t, true), &talk.Tally{}, &talk.Tally{}
	_, end := traffic(s, pairCount, total)
	stopChurn := churn(s, guests)
	var all []life
	for i := range lives {
		if i > 0 {
			if _, err := s.restart(); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, live(t, s, long/lives))
	}
	stopChurn()
	end()
	total.NothingLost(t, false)
	guests.NothingLost(t, false)
	if refused := total.Figures().Refused + guests.Figures().Refused; refused > 0 {
		t.Errorf("%d connections were refused, want none", refused)
	}
	for i, l := range all {
		t.Logf("life %d: %v", i+1, l)
		third := len(l) / 3
		for _, g := range growth(fmt.Sprintf("life %d", i+1), l[third:2*third], l[2*third:]) {
			t.Error(g)
		}
	}
	for _, g := range growth("from the first life to the last", all[0], all[lives-1]) {
		t.Error(g)
	}
}

// live measures for so long.
func live(t *testing.T, s *service, long time.Duration) (l life) {
	t.Helper()
	for end := time.Now().Add(long); time.Now().Before(end); time.Sleep(long / 40) {
		got, err := s.measure()
		if err != nil {
			t.Fatal(err)
		}
		l = append(l, got)
	}
	return l
}

// churn lets pairs come, talk for a moment and leave, under new names and from
// other addresses, until the returned function is called.
func churn(s *service, t *talk.Tally) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for lane := range 4 {
		wg.Go(func() {
			for n := lane; ctx.Err() == nil; n += 4 {
				p := talk.NewPair(talk.Server{URL: "https://" + s.addr}, fmt.Sprint("guest-", n), 1000+n%60000, t)
				talk, hangUp := context.WithTimeout(ctx, 200*time.Millisecond)
				p.Run(talk)
				hangUp()
				if n%8 < 4 { // the others leave without a word
					p.Leave()
				}
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}
