package quota

import (
	"net/netip"
	"testing"
)

// newBusyFlow returns a flow with all kinds of limits, none of which is reached.
func newBusyFlow(t testing.TB) *Flow {
	q, err := New(Config{RateBits: 1 << 50, MonthBytes: 1 << 60}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := q.Open(netip.MustParseAddr("2001:db8::1"), Payer{hashOf(1), hashOf(2)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestAllowDoesNotAllocate(t *testing.T) {
	f := newBusyFlow(t)
	if n := testing.AllocsPerRun(1000, func() { f.Allow(1200) }); n != 0 {
		t.Errorf("got %v allocations", n)
	}
}

func BenchmarkAllow(b *testing.B) {
	f := newBusyFlow(b)
	b.ReportAllocs()
	for b.Loop() {
		f.Allow(1)
	}
}

func BenchmarkAllowParallel(b *testing.B) {
	q := newBusyFlow(b).q
	b.RunParallel(func(pb *testing.PB) {
		f, err := q.Open(netip.MustParseAddr("2001:db8::1"), Payer{hashOf(1), hashOf(2)}, nil)
		if err != nil {
			b.Error(err)
			return
		}
		for pb.Next() {
			f.Allow(1)
		}
	})
}
