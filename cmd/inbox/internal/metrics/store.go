package metrics

import (
	"sync/atomic"
	"time"

	"inbox/inbox/redisstore"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	descStoreUp       = desc("store_up", "Whether this server can reach the whole shared store.")
	descStoreOutages  = desc("store_outages_total", "Times that the store, or a part of it, became unavailable.")
	descStoreFailures = desc("store_command_failures_total", "Commands that failed: the store was unavailable, full, or refused a command that it must support.", "reason")
)

// storeLatencyBuckets are upper bounds in seconds: a command takes about 100 µs and times out
// after 1.2 s, or after 3 s for certificates.
var storeLatencyBuckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5}

// StoreMeter counts and times the commands of a shared store. All methods can be called
// concurrently.
type StoreMeter struct {
	latency  prometheus.Histogram
	failures [redisstore.NumOutcomes]atomic.Int64
}

// NewStoreMeter returns a meter whose Observe is for redisstore.Config.
func NewStoreMeter() *StoreMeter {
	return &StoreMeter{latency: prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "inbox_store_command_duration_seconds", Buckets: storeLatencyBuckets,
		Help: "Time until the store answered a command.",
	})}
}

// Observe counts a command.
func (m *StoreMeter) Observe(o redisstore.Outcome, took time.Duration) {
	if o == redisstore.Answered {
		m.latency.Observe(took.Seconds())
		return
	}
	m.failures[o].Add(1)
}

// Collector returns a collector of the meter and of the state of the store.
func (m *StoreMeter) Collector(store *redisstore.Store) prometheus.CollectorFunc {
	return func(to chan<- prometheus.Metric) {
		to <- gauge(descStoreUp, boolValue(store.Ready() == nil))
		to <- counter(descStoreOutages, store.Outages())
		m.latency.Collect(to)
		for o := redisstore.Answered + 1; o < redisstore.NumOutcomes; o++ {
			to <- counter(descStoreFailures, m.failures[o].Load(), o.String())
		}
	}
}
