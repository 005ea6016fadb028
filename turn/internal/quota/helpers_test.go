package quota

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"testing"
	"time"
)

const gigabyte = 1_000_000_000

// clock is a clock that a test sets.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func (c *clock) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
}

// newTestQuota returns a quota with a clock of its own.
func newTestQuota(t testing.TB, rateBits, monthBytes int64) (*Quota, *clock) {
	t.Helper()
	c := newClock()
	q, err := New(Config{RateBits: rateBits, MonthBytes: monthBytes, Now: c.Now}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return q, c
}

func hashOf(i int) Hash {
	var h Hash
	h[0] = 1
	binary.BigEndian.PutUint64(h[4:], uint64(i))
	return h
}

// client returns the address and the payer of client i. Each has an IPv4 address.
func client(i int) (netip.Addr, Payer) {
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), Payer{Client: hashOf(i)}
}

func openClient(t testing.TB, q *Quota, i int) *Flow {
	t.Helper()
	f, err := q.Open(netip.Addr{}, Payer{Client: hashOf(i)}, nil)
	if err != nil {
		t.Fatalf("open the flow of client %d: %v", i, err)
	}
	return f
}

// fill sends through the flow, in fake time, until the month or a share refuses more. It
// returns how many bytes were sent.
func fill(c *clock, f *Flow, packet int) (sent int64) {
	for range 10_000_000 {
		switch f.q.charge(f, int64(packet)) {
		case allowed:
			sent += int64(packet)
		case flowRate, addressRate, serverRate:
			c.advance(100 * time.Millisecond)
		default:
			return sent
		}
	}
	panic("no end")
}

// sendFor offers packets to the flows in turn for a while of fake time and returns what each
// one sent, with headers.
func sendFor(c *clock, d time.Duration, packet int, flows ...*Flow) []int64 {
	sent := make([]int64, len(flows))
	const step = 10 * time.Millisecond
	for range d / step {
		for more := true; more; {
			more = false
			for i, f := range flows {
				if f.Allow(packet) {
					sent[i] += int64(packet) + HeaderBytes
					more = true
				}
			}
		}
		c.advance(step)
	}
	return sent
}

// within reports whether got is within 2 % of want.
func within(got, want int64) bool { return got >= want-want/50 && got <= want+want/50 }
