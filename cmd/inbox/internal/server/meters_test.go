package server

import (
	"testing"

	"inbox/cmd/inbox/internal/metrics"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestMetricsFollowTheConventions(t *testing.T) {
	sources := newTestServer(t, "-metrics-bind", "127.0.0.1:0").metricsSources()
	sources.Collectors = append(sources.Collectors, prometheus.NewGauge(prometheus.GaugeOpts{Name: "inbox_part", Help: "Metric of another component."}).Collect)
	collector := metrics.NewCollector(sources)
	if testutil.CollectAndCount(collector, "inbox_part") != 1 {
		t.Error("the metric of another component is missing")
	}
	problems, err := testutil.CollectAndLint(collector)
	if err != nil || len(problems) > 0 {
		t.Errorf("got %v, %v", problems, err)
	}
}
