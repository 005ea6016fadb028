package main

import (
	"sync/atomic"
	"time"

	"inbox/inbox/redisstore"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	descStoreUp       = desc("store_up", "Whether the whole store that servers share is there, as this one sees it.")
	descStoreOutages  = desc("store_outages_total", "Times that the store, or a part of it, was noticed to be away.")
	descStoreFailures = desc("store_command_failures_total", "Commands that the store did not do: it was away, full, or refused what it always has to do.", "reason")
)

// storeLatencyBuckets are the upper ends of the histogram, in seconds: a command
// takes some 100 µs, and is given up after 1.2 s, one for certificates after three.
var storeLatencyBuckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5}

// storeMeter counts what the store is asked, and shows it in the metrics.
type storeMeter struct {
	store    *redisstore.Store
	latency  prometheus.Histogram
	failures [redisstore.NumOutcomes]atomic.Int64
}

func newStoreMeter() *storeMeter {
	return &storeMeter{latency: prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "inbox_store_command_duration_seconds", Buckets: storeLatencyBuckets,
		Help: "Time until the store had answered a command.",
	})}
}

// observe is for redisstore.Config.
func (m *storeMeter) observe(o redisstore.Outcome, took time.Duration) {
	if o == redisstore.Answered {
		m.latency.Observe(took.Seconds())
		return
	}
	m.failures[o].Add(1)
}

// Describe implements [prometheus.Collector].
func (m *storeMeter) Describe(descs chan<- *prometheus.Desc) {
	prometheus.DescribeByCollect(m, descs)
}

// Collect implements [prometheus.Collector].
func (m *storeMeter) Collect(to chan<- prometheus.Metric) {
	to <- gauge(descStoreUp, boolValue(m.store.Ready() == nil))
	to <- counter(descStoreOutages, m.store.Outages())
	m.latency.Collect(to)
	for o := redisstore.Answered + 1; o < redisstore.NumOutcomes; o++ {
		to <- counter(descStoreFailures, m.failures[o].Load(), o.String())
	}
}
