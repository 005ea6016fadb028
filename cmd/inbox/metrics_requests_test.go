package main

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// metricValue returns the value of a series on the metrics listener, or 0 if it is absent.
func (p *program) metricValue(series string) float64 {
	p.t.Helper()
	_, text := p.metrics("/metrics", "")
	for line := range strings.Lines(text) {
		if rest, found := strings.CutPrefix(line, series+" "); found {
			n, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				p.t.Fatalf("%s: %v", line, err)
			}
			return n
		}
	}
	return 0
}

func (p *program) wantMetrics(series map[string]float64) {
	p.t.Helper()
	for name, want := range series {
		if got := p.metricValue(name); got != want {
			p.t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

func TestRequestsAreCounted(t *testing.T) {
	p := start(t, "-metrics-bind", "127.0.0.1:0", "-https=false")
	p.claim("alice")
	p.want(http.StatusOK, "POST", "/inbox?to=alice", "bob", "hello")
	p.want(http.StatusNotFound, "POST", "/inbox?to=nobody", "bob", "hello")
	p.want(http.StatusOK, "GET", "/", "", "")
	p.want(http.StatusNotFound, "GET", "/some/unknown/path", "", "")
	p.want(http.StatusMethodNotAllowed, "PUT", "/inbox", "", "")
	p.want(http.StatusNoContent, "DELETE", "/inbox", "alice", "")
	p.wantMetrics(map[string]float64{
		`inbox_requests_total{code="204",route="GET /inbox"}`:            1,
		`inbox_requests_total{code="200",route="POST /inbox"}`:           1,
		`inbox_requests_total{code="404",route="POST /inbox"}`:           1,
		`inbox_requests_total{code="404",route="pages"}`:                 1,
		`inbox_requests_total{code="405",route="/inbox"}`:                1,
		`inbox_requests_total{code="204",route="DELETE /inbox"}`:         1,
		`inbox_requests_total{code="500",route="GET /inbox"}`:            0,
		`inbox_request_duration_seconds_count{route="POST /inbox"}`:      2,
		`inbox_request_duration_seconds_bucket{route="pages",le="+Inf"}`: 2,
	})
	if _, text := p.metrics("/metrics", ""); strings.Contains(text, "unknown/path") {
		t.Error("a path is in the metrics")
	}
}

// TestLatencyExcludesWait checks that the time for which a poll or a pending send waits does
// does not count as latency.
func TestLatencyExcludesWait(t *testing.T) {
	p := start(t, "-metrics-bind", "127.0.0.1:0", "-https=false")
	for _, ask := range []func() response{
		func() response { return p.request("GET", "/inbox?wait=2", "alice", "") },
		func() response { return p.request("POST", "/inbox?to=nobody&wait=2", "alice", "hello") },
	} {
		began := time.Now()
		ask()
		if took := time.Since(began); took < 2*time.Second {
			t.Fatalf("the request took %v, want at least two seconds", took)
		}
	}
	for _, route := range []string{"GET /inbox", "POST /inbox"} {
		if n := p.metricValue(`inbox_request_duration_seconds_count{route="` + route + `"}`); n != 1 {
			t.Errorf("%s: got %v timed requests, want 1", route, n)
		}
		if sum := p.metricValue(`inbox_request_duration_seconds_sum{route="` + route + `"}`); sum <= 0 || sum > 1.5 {
			t.Errorf("%s: got %v s, want well below the wait of two seconds", route, sum)
		}
	}
}
