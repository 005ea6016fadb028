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

// program is the path of the server's binary, built once for all tests.
var program string

func TestMain(m *testing.M) {
	e2e.Main(m, &program)
}

// startService starts the server and stops it at the end of the test.
func startService(t *testing.T, withSocket bool) *service {
	t.Helper()
	s, err := newService(program, t.TempDir(), withSocket)
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
		s.socket.Close() // a nil file only returns an error
		if unexpected := s.unexpectedLog(); unexpected != "" {
			t.Errorf("got unexpected log lines, want none:\n%s", unexpected)
		}
	})
	return s
}

// startTraffic runs pairs until end is called, which waits for the last messages.
func startTraffic(s *service, pairs int, t *talk.Counters) (talkingPairs []*talk.Pair, end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i := range pairs {
		p := talk.NewPair(talk.Server{URL: "https://" + s.addr}, fmt.Sprint("pair-", i), i, t)
		talkingPairs = append(talkingPairs, p)
		wg.Go(func() { p.Run(ctx) })
	}
	return talkingPairs, func() { cancel(); wg.Wait() }
}

const (
	restartCount    = 5
	restartInterval = 700 * time.Millisecond
	pairCount       = 8
)

// With a socket that stays open, restarts under load lose no message and refuse no
// connection.
func TestRestartsWithSocketActivation(t *testing.T) {
	s, counters := startService(t, true), &talk.Counters{}
	_, stopTraffic := startTraffic(s, pairCount, counters)
	downtime := restartRepeatedly(t, s)
	stopTraffic()
	t.Logf("%d restarts, total downtime %v", restartCount, downtime)
	counters.CheckNoLoss(t, false)
	if counters.Stats().Refused > 0 {
		t.Errorf("got %d refused connections, want none", counters.Stats().Refused)
	}
}

// A server that binds its own socket refuses connections during a restart, but loses no
// message.
func TestRestartsLoseNothing(t *testing.T) {
	s, counters := startService(t, false), &talk.Counters{}
	_, stopTraffic := startTraffic(s, pairCount, counters)
	downtime := restartRepeatedly(t, s)
	stopTraffic()
	t.Logf("%d restarts, total downtime %v", restartCount, downtime)
	counters.CheckNoLoss(t, false)
}

func restartRepeatedly(t *testing.T, s *service) (downtime time.Duration) {
	t.Helper()
	for range restartCount {
		time.Sleep(restartInterval)
		d, err := s.restart()
		if err != nil {
			t.Fatal(err)
		}
		downtime += d
	}
	return downtime
}

// A crash loses the messages in memory. Peers recover automatically, and messages
// accepted afterwards arrive.
func TestCrashLosesOnlyMemory(t *testing.T) {
	s, counters := startService(t, false), &talk.Counters{}
	pairs, stopTraffic := startTraffic(s, pairCount, counters)
	time.Sleep(restartInterval)
	s.crash()
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	for _, p := range pairs {
		p.ResetAccepted()
	}
	time.Sleep(3 * time.Second)
	stopTraffic()
	f := counters.Stats()
	t.Log(f)
	after := 0
	for _, p := range pairs {
		after += p.Accepted()
	}
	if after == 0 || f.Lost > 0 || f.Unexpected > 0 {
		t.Errorf("after the crash: got %d messages accepted, %d lost, %d unexpected responses %q, want some accepted, none lost",
			after, f.Lost, f.Unexpected, f.UnexpectedSamples)
	}
}

// startCount is the number of starts of the server in TestSoak.
const startCount = 4

// TestSoak runs steady and short-lived pairs through restarts. The environment variable
// SOAK is the duration, as in SOAK=8h.
func TestSoak(t *testing.T) {
	duration := 45 * time.Second
	if text := os.Getenv("SOAK"); text != "" {
		var err error
		if duration, err = time.ParseDuration(text); err != nil || duration < 20*time.Second {
			t.Fatalf("SOAK=%s: want a duration of 20s or more", text)
		}
	}
	s, counters, churnCounters := startService(t, true), &talk.Counters{}, &talk.Counters{}
	_, stopTraffic := startTraffic(s, pairCount, counters)
	stopChurn := churn(s, churnCounters)
	var series []sampleSeries
	for i := range startCount {
		if i > 0 {
			if _, err := s.restart(); err != nil {
				t.Fatal(err)
			}
		}
		series = append(series, collectSamples(t, s, duration/startCount))
	}
	stopChurn()
	stopTraffic()
	counters.CheckNoLoss(t, false)
	churnCounters.CheckNoLoss(t, false)
	if refused := counters.Stats().Refused + churnCounters.Stats().Refused; refused > 0 {
		t.Errorf("got %d refused connections, want none", refused)
	}
	for i, l := range series {
		t.Logf("run %d: %v", i+1, l)
		third := len(l) / 3
		for _, g := range growth(fmt.Sprintf("run %d", i+1), l[third:2*third], l[2*third:]) {
			t.Error(g)
		}
	}
	for _, g := range growth("from the first run to the last", series[0], series[startCount-1]) {
		t.Error(g)
	}
}

// collectSamples samples the server for the given duration.
func collectSamples(t *testing.T, s *service, duration time.Duration) (series sampleSeries) {
	t.Helper()
	for end := time.Now().Add(duration); time.Now().Before(end); time.Sleep(duration / 40) {
		got, err := s.measure()
		if err != nil {
			t.Fatal(err)
		}
		series = append(series, got)
	}
	return series
}

// churn runs short-lived pairs with new names and addresses until stop is called.
func churn(s *service, t *talk.Counters) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for n := worker; ctx.Err() == nil; n += 4 {
				p := talk.NewPair(talk.Server{URL: "https://" + s.addr}, fmt.Sprint("guest-", n), 1000+n%60000, t)
				talkCtx, stopTalking := context.WithTimeout(ctx, 200*time.Millisecond)
				p.Run(talkCtx)
				stopTalking()
				if n%8 < 4 { // the others leave their mailbox to expire
					p.DeleteInbox()
				}
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}
