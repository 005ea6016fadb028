package memstore_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"inbox/inbox"
	"inbox/inbox/memstore"
)

// name16 returns a name of 16 bytes, as in docs/benchmarks.md.
func name16(i int) string { return fmt.Sprintf("peer-%011d", i) }

// BenchmarkIdleInboxes reports what one of a million idle mailboxes costs.
func BenchmarkIdleInboxes(b *testing.B) {
	for b.Loop() {
		before := heapBytes()
		m := memstore.New(inbox.Limits{Timeout: time.Hour})
		claimNames(b, m, 1_000_000)
		b.ReportMetric(float64(heapBytes()-before)/1e6, "B/inbox")
		runtime.KeepAlive(m)
	}
}

func heapBytes() uint64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

func claimNames(b *testing.B, m *memstore.Store, n int) {
	for i := range n {
		if _, err := m.Open(context.Background(), name16(i), inbox.Key{}, new(inbox.Payer)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkExpiry reports the latency of Put and Next, first on an empty store
// and then while a million mailboxes expire and are swept beside them.
func BenchmarkExpiry(b *testing.B) {
	const life = 3 * time.Second
	for b.Loop() {
		empty := latencies(b, memstore.New(inbox.Limits{Timeout: life}), 2*time.Second)
		m := memstore.New(inbox.Limits{Timeout: life})
		began := time.Now()
		claimNames(b, m, 1_000_000)
		claimed := time.Since(began)
		runtime.GC()
		time.Sleep(time.Until(began.Add(life)))
		stop := make(chan struct{})
		go sweep(m, stop)
		busy := latencies(b, m, claimed+time.Second)
		close(stop)
		if left := m.Stats().Inboxes; left > 1 {
			b.Fatalf("got %d mailboxes after the expiry, want the one in use", left)
		}
		b.ReportMetric(float64(empty)/1e3, "empty-p99.9-µs")
		b.ReportMetric(float64(busy)/1e3, "expiring-p99.9-µs")
	}
}

func sweep(m *memstore.Store, stop <-chan struct{}) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			m.Sweep()
		case <-stop:
			return
		}
	}
}

// latencies puts and discards messages for this time and returns the 99.9th
// percentile of one Open, Put, Next and Discard together.
func latencies(b *testing.B, m *memstore.Store, duration time.Duration) time.Duration {
	var all []time.Duration
	ctx := context.Background()
	for end := time.Now().Add(duration); time.Now().Before(end); {
		began := time.Now()
		c, err := m.Open(ctx, "receiver", inbox.Key{}, new(inbox.Payer))
		if err == nil {
			_, err = m.Put(ctx, "receiver", inbox.Message{Body: make([]byte, 64)}, 0)
		}
		msg, nextErr := m.Next(ctx, c, 0)
		if err != nil || nextErr != nil || m.Discard(ctx, c, msg.ID) != nil {
			b.Fatal(err, nextErr)
		}
		all = append(all, time.Since(began))
		time.Sleep(20 * time.Microsecond)
	}
	slices.Sort(all)
	return all[len(all)*999/1000]
}
