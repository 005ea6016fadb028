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

// traffic is pairs that talk, with counters for each transport.
type traffic struct {
	pairs    []*talk.Pair
	counters map[talk.Transport]*talk.Counters
	cancel   context.CancelFunc
	running  sync.WaitGroup
}

func newTraffic() (*traffic, context.Context) {
	ctx, cancel := context.WithCancel(context.Background())
	f := &traffic{counters: map[talk.Transport]*talk.Counters{}, cancel: cancel}
	for _, transport := range talk.Transports {
		f.counters[transport] = new(talk.Counters)
	}
	return f, ctx
}

// startTraffic runs pairs, in turn over each transport, until end is called.
func startTraffic(s *service, pairs int, server talk.Server) *traffic {
	f, ctx := newTraffic()
	server.URL = "https://" + s.addr
	for i := range pairs {
		server.Transport = talk.Transports[i%len(talk.Transports)]
		p := talk.NewPair(server, fmt.Sprint("pair-", i), i, f.counters[server.Transport])
		f.pairs = append(f.pairs, p)
		f.running.Go(func() { p.Run(ctx) })
	}
	return f
}

// end waits for the last messages.
func (f *traffic) end() {
	f.cancel()
	f.running.Wait()
}

// checkNoLoss checks each transport.
func (f *traffic) checkNoLoss(t *testing.T) {
	t.Helper()
	for _, transport := range talk.Transports {
		t.Log(transport)
		f.counters[transport].CheckNoLoss(t, false)
	}
}

// refused returns how many connections were refused.
func (f *traffic) refused() (n int) {
	for _, c := range f.counters {
		n += c.Stats().Refused
	}
	return n
}

const (
	restartCount    = 5
	restartInterval = 700 * time.Millisecond
	pairCount       = 9
)

// With a socket that stays open, restarts under load lose no message and refuse no
// connection.
func TestRestartsWithSocketActivation(t *testing.T) {
	s := startService(t, true)
	pairs := startTraffic(s, pairCount, talk.Server{})
	downtime := restartRepeatedly(t, s)
	pairs.end()
	t.Logf("%d restarts, total downtime %v", restartCount, downtime)
	pairs.checkNoLoss(t)
	if n := pairs.refused(); n > 0 {
		t.Errorf("got %d refused connections, want none", n)
	}
}

// A server that binds its own socket refuses connections during a restart, but loses no
// message.
func TestRestartsLoseNothing(t *testing.T) {
	s := startService(t, false)
	pairs := startTraffic(s, pairCount, talk.Server{})
	downtime := restartRepeatedly(t, s)
	pairs.end()
	t.Logf("%d restarts, total downtime %v", restartCount, downtime)
	pairs.checkNoLoss(t)
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
	s := startService(t, false)
	pairs := startTraffic(s, pairCount, talk.Server{})
	time.Sleep(restartInterval)
	s.crash()
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	for _, p := range pairs.pairs {
		p.ResetAccepted()
	}
	time.Sleep(3 * time.Second)
	pairs.end()
	for i, p := range pairs.pairs {
		if p.Accepted() == 0 {
			t.Errorf("after the crash: got no message accepted of pair %d", i)
		}
	}
	for transport, counters := range pairs.counters {
		f := counters.Stats()
		t.Log(transport, f)
		if f.Lost > 0 || f.Unexpected > 0 || f.Misordered > 0 {
			t.Errorf("after the crash: got %d messages lost, %d misordered, %d unexpected responses %q, want none",
				f.Lost, f.Misordered, f.Unexpected, f.UnexpectedSamples)
		}
	}
}

// startCount is the number of starts of the server in TestSoak.
const startCount = 4

// TestSoak runs steady and short-lived pairs through restarts. The environment variable
// SOAK is the duration, as in SOAK=8h.
func TestSoak(t *testing.T) {
	duration := durationOr(t, 45*time.Second)
	s := startService(t, true)
	pairs, guests := startTraffic(s, pairCount, talk.Server{}), churn(s)
	var series []sampleSeries
	for i := range startCount {
		if i > 0 {
			if _, err := s.restart(); err != nil {
				t.Fatal(err)
			}
		}
		series = append(series, collectSamples(t, s, duration/startCount))
	}
	guests.end()
	pairs.end()
	pairs.checkNoLoss(t)
	guests.checkNoLoss(t)
	if refused := pairs.refused() + guests.refused(); refused > 0 {
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

// durationOr returns the duration of the environment variable SOAK, or another one without it.
func durationOr(t *testing.T, other time.Duration) time.Duration {
	t.Helper()
	text := os.Getenv("SOAK")
	if text == "" {
		return other
	}
	duration, err := time.ParseDuration(text)
	if err != nil || duration < 20*time.Second {
		t.Fatalf("SOAK=%s: want a duration of 20s or more", text)
	}
	return duration
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

// churn runs short-lived pairs with new names and addresses until it is ended.
func churn(s *service) *traffic {
	f, ctx := newTraffic()
	for worker := range 4 {
		f.running.Go(func() {
			for n := worker; ctx.Err() == nil; n += 4 {
				transport := talk.Transports[n%len(talk.Transports)]
				server := talk.Server{URL: "https://" + s.addr, Transport: transport}
				p := talk.NewPair(server, fmt.Sprint("guest-", n), 1000+n%60000, f.counters[transport])
				talkCtx, stopTalking := context.WithTimeout(ctx, 200*time.Millisecond)
				p.Run(talkCtx)
				stopTalking()
				if n%8 < 4 { // the others leave their mailbox to expire
					p.DeleteInbox()
				}
			}
		})
	}
	return f
}
