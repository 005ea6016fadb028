package quota

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const testPacket = 1000

func TestPayerGetsAnEighth(t *testing.T) {
	q, c := newTestQuota(t, 0, gigabyte)
	ended := make(chan struct{})
	f, err := q.Open(netip.Addr{}, Payer{Client: hashOf(1)}, func() { close(ended) })
	if err != nil {
		t.Fatal(err)
	}
	if got := fill(c, f, testPacket); got != gigabyte/8 {
		t.Errorf("got %d bytes, want an eighth of the month", got)
	}
	if f.Allow(testPacket) {
		t.Error("allowed a packet over the share")
	}
	await(t, ended)
	if _, err := q.Open(netip.Addr{}, Payer{Client: hashOf(1)}, nil); !errors.Is(err, ErrShare) {
		t.Errorf("open again: got %v, want %v", err, ErrShare)
	}
	openClient(t, q, 2)
}

// TestPayerCannotCreepUp repeats attempts of one payer, with new flows, while others use the
// month: its use never exceeds an eighth of what the others leave, at any time.
func TestPayerCannotCreepUp(t *testing.T) {
	q, c := newTestQuota(t, 0, gigabyte)
	random := rand.New(rand.NewPCG(1, 2))
	var others int64
	for round := range 200 {
		if f, err := q.Open(netip.Addr{}, Payer{Client: hashOf(0)}, nil); err == nil {
			fill(c, f, 1+random.IntN(1400))
			f.Close()
		}
		own := q.month.accounts[hashOf(0)].used.Load()
		if got := q.month.used.Load(); got != own+others {
			t.Fatalf("round %d: counted %d bytes, want %d", round, got, own+others)
		}
		if own > gigabyte/8 || own < (gigabyte-others)/8-2000 && others < gigabyte/2 {
			t.Fatalf("round %d: used %d, others %d", round, own, others)
		}
		others += sendOnce(t, q, c, 1+round, random.Int64N(gigabyte/100))
	}
}

// sendOnce sends up to n bytes of a payer.
func sendOnce(t *testing.T, q *Quota, c *clock, i int, n int64) (sent int64) {
	f, err := q.Open(netip.Addr{}, Payer{Client: hashOf(i)}, nil)
	if err != nil {
		return 0
	}
	defer f.Close()
	for sent+testPacket <= n {
		switch f.q.charge(f, testPacket) {
		case allowed:
			sent += testPacket
		case flowRate:
			c.advance(100 * time.Millisecond)
		default:
			return sent
		}
	}
	return sent
}

func TestNetworkGetsHalf(t *testing.T) {
	q, c := newTestQuota(t, 0, gigabyte)
	var sent int64
	for i := range 1000 {
		f, err := q.Open(netip.Addr{}, Payer{Client: hashOf(i), Network: hashOf(5000)}, nil)
		if err != nil {
			break
		}
		sent += fill(c, f, testPacket)
		f.Close()
	}
	if sent > gigabyte/2 || sent < gigabyte/2-testPacket {
		t.Errorf("a /48 used %d bytes, want half of the month", sent)
	}
	if f := openClient(t, q, 6000); fill(c, f, testPacket) != gigabyte/16 {
		t.Error("another payer did not get an eighth of the rest")
	}
}

// TestLastSixteenth fills the month with payers that use all they can.
func TestLastSixteenth(t *testing.T) {
	q, c := newTestQuota(t, 0, gigabyte)
	payers := 0
	for ; q.month.used.Load() <= gigabyte-gigabyte/16-testPacket; payers++ {
		if payers > 1000 {
			t.Fatalf("1000 payers used only %d bytes", q.month.used.Load())
		}
		fill(c, openClient(t, q, payers), testPacket)
	}
	if payers < 20 { // each leaves seven eighths to the next one
		t.Errorf("%d payers used fifteen sixteenths of the month", payers)
	}
	fill(c, openClient(t, q, 5000), testPacket) // crosses the mark
	for i := range 3 {
		f := openClient(t, q, 10000+i)
		if got := fill(c, f, testPacket); got < gigabyte/250 || got > gigabyte/200 {
			t.Errorf("newcomer %d got %d bytes, want 0.5 %%", i, got)
		}
	}
	if _, err := q.Open(netip.Addr{}, Payer{Client: hashOf(0)}, nil); !errors.Is(err, ErrShare) {
		t.Errorf("a payer that used more: got %v, want %v", err, ErrShare)
	}
}

// useUpTo charges the month without a payer.
func useUpTo(q *Quota, bytes int64) { q.month.used.Store(bytes) }

func TestNearlyUsedMonth(t *testing.T) {
	q, c := newTestQuota(t, 0, gigabyte)
	var ended atomic.Int64
	done := make(chan struct{}, 10)
	var flows []*Flow
	for i := range 3 {
		f, err := q.Open(netip.Addr{}, Payer{Client: hashOf(i)}, func() { ended.Add(1); done <- struct{}{} })
		if err != nil {
			t.Fatal(err)
		}
		flows = append(flows, f)
	}
	useUpTo(q, gigabyte-gigabyte/100-1)
	if q.MonthUsed() {
		t.Error("used below 99 %")
	}
	useUpTo(q, gigabyte-gigabyte/100)
	if !q.MonthUsed() {
		t.Error("not used at 99 %")
	}
	if _, err := q.Open(netip.Addr{}, Payer{Client: hashOf(9)}, nil); !errors.Is(err, ErrMonthUsed) {
		t.Errorf("open at 99 %%: got %v, want %v", err, ErrMonthUsed)
	}
	for i, got := range sendFor(c, 60*time.Second, 1000, flows...) {
		if want := bytesIn(SlowFlowBits, 60*time.Second, slowBurst); !within(got, want) {
			t.Errorf("flow %d sent %d bytes in a minute, want %d", i, got, want)
		}
	}
	if ended.Load() != 0 {
		t.Fatal("a flow ended before the month was used")
	}
	flows[2].Close()
	useUpTo(q, gigabyte-100)
	c.advance(time.Minute)
	if flows[0].Allow(1000) {
		t.Error("allowed a packet over 100 %")
	}
	<-done
	<-done
	if flows[1].Allow(1) || ended.Load() != 2 {
		t.Errorf("ended %d flows, want 2", ended.Load())
	}
	if got := q.State(); got.MonthBytes != gigabyte-100 || got.DroppedMonth != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestMonthFollowsTheClock(t *testing.T) {
	q, c := newTestQuota(t, 0, gigabyte)
	f := openClient(t, q, 1)
	idle := openClient(t, q, 2)
	sendFor(c, time.Second, 1000, f, idle)
	idle.Close()
	used := q.State().MonthBytes
	c.set(time.Date(2026, 3, 31, 23, 59, 59, 999, time.UTC))
	if got := q.State(); got.MonthBytes != used || got.Payers != 2 {
		t.Errorf("at the end of the month: got %+v", got)
	}
	c.set(time.Date(2026, 4, 1, 2, 0, 0, 0, time.FixedZone("", 3*3600)))
	if got := q.State(); got.MonthBytes != used {
		t.Errorf("a local month reset the use: got %+v", got)
	}
	c.set(time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC))
	if got := q.State(); got.MonthBytes != used {
		t.Errorf("the next month began without a wait: got %+v", got)
	}
	sent := sum(sendFor(c, time.Second, 1000, f))
	c.advance(laterWait)
	if got := q.State(); got.MonthBytes != sent || got.Payers != 1 {
		t.Errorf("in the next month: got %+v, want the %d bytes since its begin", got, sent)
	}
	if got := q.month.begin.Load(); got != time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC).Unix() {
		t.Errorf("the month begins at %d", got)
	}
}

// TestWrongClock sets the clock, and corrects it, as NTP does after a start.
func TestWrongClock(t *testing.T) {
	q, c := newTestQuota(t, 0, gigabyte)
	fill(c, openClient(t, q, 1), testPacket)
	right, ledger := c.Now(), q.Ledger()
	for _, row := range []struct {
		name     string
		wrong    time.Time
		lasts    time.Duration
		survives bool
	}{
		{"1970", time.Unix(0, 0), 24 * time.Hour, true},
		{"month before", right.AddDate(0, -1, 0), 30 * 24 * time.Hour, true},
		{"end of the month before", time.Date(2026, 2, 28, 23, 0, 0, 0, time.UTC), 10 * time.Hour, true},
		{"another year, shortly", right.AddDate(70, 0, 0), laterWait - time.Second, true},
		{"another year", right.AddDate(70, 0, 0), laterWait, false},
	} {
		for _, when := range []string{"running", "at a start"} {
			t.Run(row.name+" "+when, func(t *testing.T) {
				checkWrongClock(t, ledger, when == "running", right, row.wrong, row.lasts, row.survives)
			})
		}
	}
}

func checkWrongClock(t *testing.T, ledger []byte, running bool, right, wrong time.Time, lasts time.Duration, survives bool) {
	c := newClock()
	c.set(wrong)
	if running {
		c.set(right)
	}
	q, err := New(Config{MonthBytes: gigabyte, Now: c.Now}, ledger)
	if err != nil {
		t.Fatal(err)
	}
	used := q.State().MonthBytes
	c.set(wrong)
	q.State()
	c.advance(lasts)
	q.State()
	c.set(right)
	q.State()
	c.advance(time.Hour)
	if got := q.State().MonthBytes; survives && got != used || !survives && got != 0 {
		t.Errorf("got %d bytes, had %d", got, used)
	}
	if again, err := New(Config{MonthBytes: gigabyte, Now: c.Now}, q.Ledger()); err != nil || again.State().MonthBytes != q.State().MonthBytes {
		t.Errorf("after a restart: %v, %+v", err, again.State())
	}
}

// TestMonthOfTheFuture has a ledger of a month that began by mistake: it lasts 31 days.
func TestMonthOfTheFuture(t *testing.T) {
	l := sampleLedger()
	l.begin = l.begin.AddDate(70, 0, 0)
	c := newClock()
	q, err := New(Config{MonthBytes: gigabyte, Now: c.Now}, l.encode())
	if err != nil {
		t.Fatal(err)
	}
	c.advance(earlierWait - time.Second)
	if got := q.State().MonthBytes; got != l.used {
		t.Errorf("got %d bytes, want %d", got, l.used)
	}
	c.advance(time.Second)
	if got := q.State().MonthBytes; got != 0 || q.month.begin.Load() != firstOfMonth(c.Now()).Unix() {
		t.Errorf("got %d bytes after a month", got)
	}
}

func TestWithoutMonthlyLimit(t *testing.T) {
	q, c := newTestQuota(t, 0, 0)
	f := openClient(t, q, 1)
	sent := sum(sendFor(c, 10*time.Second, 1000, f))
	if got := q.State(); got.MonthBytes != sent || got.MonthLimit != 0 || q.MonthUsed() {
		t.Errorf("sent %d, got %+v", sent, got)
	}
}

// TestConcurrentFlows checks that the total is exact and the month is never exceeded.
func TestConcurrentFlows(t *testing.T) {
	q, err := New(Config{MonthBytes: 1_000_000}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var sent atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 200 {
				addr, payer := client(i % 3)
				payer.Network = hashOf(100)
				f, err := q.Open(addr, payer, func() {})
				if err != nil {
					return
				}
				for range 20 {
					if f.Allow(100) {
						sent.Add(100 + HeaderBytes)
					}
				}
				q.State()
				q.Ledger()
				f.Close()
			}
		})
	}
	wg.Wait()
	got := q.State()
	if got.MonthBytes != sent.Load() || got.MonthBytes > 500_000 || got.MonthBytes < 300_000 || got.Flows != 0 {
		t.Errorf("sent %d, got %+v", sent.Load(), got)
	}
	for i := range 3 {
		if own := q.month.accounts[hashOf(i)].used.Load(); own > 125_000 {
			t.Errorf("payer %d used %d bytes, want an eighth of 1,000,000", i, own)
		}
	}
}

func await(t *testing.T, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("no end")
	}
}
