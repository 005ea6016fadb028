package main

import (
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

var metricsLine = regexp.MustCompile(`msg=metrics addr=(\S+)`)

// metrics sends a GET to the metrics listener.
func (p *program) metrics(path, host string) (int, string) {
	p.t.Helper()
	m := metricsLine.FindStringSubmatch(p.log.String())
	if m == nil {
		p.t.Fatalf("no metrics listener in the log:\n%s", p.log)
	}
	r, err := http.NewRequest("GET", "http://"+m[1]+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	r.Host, r.Close = host, true
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return a.StatusCode, string(text)
}

func TestMetrics(t *testing.T) {
	p := start(t, "-metrics-bind", "127.0.0.1:0", "-rate", "1", "-burst", "8")
	p.claim("alice")
	p.want(http.StatusOK, "POST", "/inbox?to=alice", "bob", "hello")
	p.want(http.StatusNotFound, "POST", "/inbox?to=nobody", "bob", "hello")
	p.requestAs("alice", "a guess", "/inbox")
	for range 5 {
		p.request("GET", "/ice", "", "")
	}
	_, text := p.metrics("/metrics", "")
	for _, want := range []string{
		"\ninbox_inboxes 2\n", "\ninbox_streams_open ", "\ninbox_frames_dropped_connections_total 0\n",
		"\ninbox_polls_open 0\n", "\ninbox_connections_accepted_total 1\n",
		"\ninbox_refused_total{problem=\"no-inbox\"} 1\n", "\ninbox_refused_total{problem=\"unauthorized\"} 1\n",
		"\ninbox_limited_total{limit=\"passwords\"} 0\n", "\ninbox_certificate_not_after_timestamp_seconds{name=\"localhost\",source=\"self-signed\"} ",
		"\ngo_goroutines ", "\nprocess_resident_memory_bytes ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if regexp.MustCompile(`limit="requests"} 0\n`).MatchString(text) {
		t.Error("rejected requests are not counted")
	}
	if strings.Contains(text, "alice") || strings.Contains(text, "bob") {
		t.Error("names of peers are in the metrics")
	}
}

func TestMetricsListenerHosts(t *testing.T) {
	p := start(t, "-metrics-bind", "127.0.0.1:0", "-metrics-hosts", "Monitor.example")
	for _, row := range []struct {
		path, host string
		status     int
	}{
		{"/metrics", "127.0.0.1", 200}, {"/metrics", "localhost:9", 200}, {"/metrics", "[::1]:9", 200},
		{"/metrics", "monitor.example", 200}, {"/metrics", "evil.example", 421}, {"/debug/pprof/", "evil.example", 421},
		{"/debug/pprof/goroutine", "127.0.0.1", 200}, {"/inbox", "127.0.0.1", 404}, {"/health", "127.0.0.1", 200}, {"/health", "evil.example", 421},
	} {
		if got, text := p.metrics(row.path, row.host); got != row.status {
			t.Errorf("%s as %s: got %d %q, want %d", row.path, row.host, got, text, row.status)
		}
	}
	if a := p.request("GET", "/metrics", "", ""); a.status != http.StatusNotFound {
		t.Errorf("GET /metrics on the public listener: got %d, want 404", a.status)
	}
	_, text := p.metrics("/certificates", "localhost")
	var states []struct{ Source string }
	if err := json.Unmarshal([]byte(text), &states); err != nil || len(states) == 0 || states[0].Source != "self-signed" {
		t.Errorf("got %q, %v, want the self-signed certificate", text, err)
	}
}
