package ratelimit

import (
	"net/netip"
	"runtime"
	"testing"
	"time"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time {
	return epoch.Add(time.Duration(seconds * float64(time.Second)))
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// ip4 returns different addresses.
func ip4(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}) }

func TestLimiterRefills(t *testing.T) {
	l := NewLimiter(Budget{PerSecond: 2, Burst: 3}, 0)
	for _, step := range []struct {
		at   float64
		ok   bool
		wait time.Duration
	}{
		{0, true, 0}, {0, true, 0}, {0, true, 0}, {0, false, 500 * time.Millisecond},
		{0.25, false, 250 * time.Millisecond}, {0.5, true, 0}, {0.5, false, 500 * time.Millisecond},
		{100, true, 0}, {100, true, 0}, {100, true, 0}, {100, false, 500 * time.Millisecond},
	} {
		if got := l.Take(addr("192.0.2.1"), at(step.at)); got.OK != step.ok || got.Wait != step.wait {
			t.Errorf("at %v: got %+v, want %v after %v", step.at, got, step.ok, step.wait)
		}
	}
}

func TestLimiterGroupsAddressesByClient(t *testing.T) {
	for _, row := range []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"::ffff:192.0.2.1", "::ffff:192.0.2.2", false},
		{"2001:db8::1", "2001:db8::ffff:1", true},
		{"2001:db8:0:1::1", "2001:db8:0:2::1", false},
		{"192.0.2.1", "2001:db8::1", false},
	} {
		l := NewLimiter(Budget{PerSecond: 1, Burst: 1}, 0)
		l.Take(addr(row.a), at(0))
		if got := !l.Take(addr(row.b), at(0)).OK; got != row.same {
			t.Errorf("%s and %s: got same client %v, want %v", row.a, row.b, got, row.same)
		}
	}
}

// subnetOf returns an address in one of the subnets of a /48.
func subnetOf(i int) netip.Addr {
	return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 0, byte(i % 7), byte(i / 7)})
}

func TestNetworkHasSixteenBudgets(t *testing.T) {
	l := NewLimiter(Budget{PerSecond: 1, Burst: 10}, 0)
	granted := 0
	for subnet := range 100 {
		for range 10 {
			if l.Take(subnetOf(subnet), at(0)).OK {
				granted++
			}
		}
	}
	if granted != 160 {
		t.Errorf("got %d requests of one /48 granted, want 160", granted)
	}
	for again := range 17 { // sixteen tokens a second are refilled
		if got, want := l.Take(subnetOf(1000+again), at(1)).OK, again < 16; got != want {
			t.Errorf("request %d after a second: got granted %v, want %v", again, got, want)
		}
	}
	if !l.Take(addr("2001:db8:1::"), at(0)).OK {
		t.Error("another /48 was refused")
	}
}

// A client with a /48 must not get a budget for each of its subnets.
func TestChargeIncludesNetwork(t *testing.T) {
	l := NewLimiter(Budget{PerSecond: 1, Burst: 10}, 0)
	for i := range 160 {
		if !l.Ready(subnetOf(i), at(0)).OK {
			t.Fatalf("attempt %d was refused, want 160 for one /48", i)
		}
		l.Charge(subnetOf(i), at(0))
	}
	if l.Ready(subnetOf(500), at(0)).OK || !l.Ready(addr("2001:db8:1::"), at(0)).OK {
		t.Error("want all of the /48 refused and no other network")
	}
}

func TestZeroBudgetIsNoLimit(t *testing.T) {
	l := NewLimiter(Budget{}, 0)
	for range 1000 {
		l.Charge(ip4(1), at(0))
		if !l.Take(ip4(1), at(0)).OK || !l.Ready(ip4(1), at(0)).OK {
			t.Fatal("refused without a limit")
		}
	}
	if l.Len() != 0 {
		t.Errorf("got %d entries, want none", l.Len())
	}
}

func TestChargeGoesIntoDebt(t *testing.T) {
	l := NewLimiter(Budget{PerSecond: 1, Burst: 2}, 0)
	for range 5 {
		l.Charge(ip4(1), at(0))
	}
	if got := l.Ready(ip4(1), at(0)); got.OK || got.Wait != 4*time.Second {
		t.Errorf("got %+v, want a wait of 4s", got)
	}
	if !l.Ready(ip4(1), at(4)).OK || !l.Ready(ip4(2), at(0)).OK {
		t.Error("refused an address without debt")
	}
}

func TestReadyChangesNothing(t *testing.T) {
	l := NewLimiter(Budget{PerSecond: 1, Burst: 1}, 0)
	for i := range 100 {
		if !l.Ready(ip4(i%3), at(0)).OK {
			t.Fatal("refused")
		}
	}
	if l.Len() != 0 {
		t.Errorf("got %d entries, want none", l.Len())
	}
}

func BenchmarkTake(b *testing.B) {
	l := NewLimiter(Budget{PerSecond: 1e6, Burst: 1e6}, 0)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			l.Take(ip4(i&1023), time.Now())
		}
	})
}

// BenchmarkFullTable reports the memory of one remembered address.
func BenchmarkFullTable(b *testing.B) {
	for b.Loop() {
		before := heap()
		l := NewLimiter(Budget{PerSecond: 1, Burst: 2}, 0)
		for i := range 2 * DefaultTableSize {
			l.Take(ip4(i), at(0))
			l.Take(ip4(i), at(0))
		}
		b.ReportMetric(float64(heap()-before)/float64(l.Len()), "B/address")
	}
}

func heap() uint64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}
