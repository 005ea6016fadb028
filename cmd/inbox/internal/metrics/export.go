package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("inbox_"+name, help, labels, nil)
}

// limitGauge omits a limit that is off, so that no ratio to it can be computed.
func limitGauge(m chan<- prometheus.Metric, d *prometheus.Desc, n int64) {
	if n > 0 {
		m <- gauge(d, n)
	}
}

func boolValue(yes bool) int64 {
	if yes {
		return 1
	}
	return 0
}

func unixSeconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func gauge(d *prometheus.Desc, n int64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
}

func counter(d *prometheus.Desc, n int64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
}
