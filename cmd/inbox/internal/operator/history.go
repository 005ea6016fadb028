package operator

import (
	"context"
	"sync"
	"time"

	"inbox/cmd/inbox/internal/memory"
)

const (
	// sampleInterval is the time between two samples, and maxSamples how many are kept: those
	// of 15 minutes.
	sampleInterval = 5 * time.Second
	maxSamples     = 180
	// rateSamples is how many intervals a rate is averaged over: a minute.
	rateSamples = int(time.Minute / sampleInterval)
)

// sample is the state at one time.
type sample struct {
	at                             time.Time
	counts                         counts
	mailboxes, receivers, resident int64
}

// history has the last samples.
type history struct {
	mu      sync.Mutex
	samples []sample // oldest first
}

func (h *history) add(s sample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.samples) > maxSamples {
		h.samples = append(h.samples[:0], h.samples[1:]...)
	}
	h.samples = append(h.samples, s)
}

// all returns a copy of the samples, oldest first.
func (h *history) all() []sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]sample(nil), h.samples...)
}

// Run takes samples for the charts until ctx is done.
func (o *Operator) Run(ctx context.Context) {
	ticker := time.NewTicker(sampleInterval)
	defer ticker.Stop()
	for {
		o.history.add(o.sample(time.Now()))
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (o *Operator) sample(now time.Time) sample {
	s := &o.sources
	return sample{
		at: now, counts: s.count(), mailboxes: s.Mailboxes().Inboxes, receivers: s.openReceivers(), resident: memory.Resident(),
	}
}

// rate returns how much a total grew per second between two samples.
func rate(from, to sample, total func(*counts) int64) float64 {
	seconds := to.at.Sub(from.at).Seconds()
	if seconds <= 0 {
		return 0
	}
	return float64(total(&to.counts)-total(&from.counts)) / seconds
}

// lastRate returns the rate of a total over the last minute, or less after the start.
func lastRate(samples []sample, total func(*counts) int64) float64 {
	if len(samples) < 2 {
		return 0
	}
	return rate(samples[max(0, len(samples)-1-rateSamples)], samples[len(samples)-1], total)
}

// History has a value for each interval, oldest first.
type History struct {
	IntervalSeconds   float64   `json:"interval_seconds"`
	MessagesPerSecond []float64 `json:"messages_per_second"`
	RefusalsPerSecond []float64 `json:"refusals_per_second"`
	TURNBitsPerSecond []float64 `json:"turn_bits_per_second"`
	Mailboxes         []int64   `json:"mailboxes"`
	Receivers         []int64   `json:"receivers"`
	MemoryBytes       []int64   `json:"memory_bytes"`
}

func historyOf(samples []sample) History {
	h := History{
		IntervalSeconds: sampleInterval.Seconds(), MessagesPerSecond: []float64{}, RefusalsPerSecond: []float64{}, TURNBitsPerSecond: []float64{},
		Mailboxes: []int64{}, Receivers: []int64{}, MemoryBytes: []int64{},
	}
	for i := 1; i < len(samples); i++ {
		from, to := samples[i-1], samples[i]
		h.MessagesPerSecond = append(h.MessagesPerSecond, round(rate(from, to, delivered)))
		h.RefusalsPerSecond = append(h.RefusalsPerSecond, round(rate(from, to, (*counts).refusedTotal)))
		h.TURNBitsPerSecond = append(h.TURNBitsPerSecond, round(8*rate(from, to, relayedBytes)))
		h.Mailboxes = append(h.Mailboxes, to.mailboxes)
		h.Receivers = append(h.Receivers, to.receivers)
		h.MemoryBytes = append(h.MemoryBytes, to.resident)
	}
	return h
}

func delivered(c *counts) int64    { return c.delivered }
func relayedBytes(c *counts) int64 { return c.relayedBytes }

// round keeps three digits behind the point.
func round(x float64) float64 { return float64(int64(x*1000+0.5)) / 1000 }
