package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"inbox/tlsmgr"
)

var metricsLine = regexp.MustCompile(`msg=metrics addr=(\S+)`)

// metrics asks the metrics listener.
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
		"\ninbox_inboxes 2\n", "\ninbox_held_requests 0\n", "\ninbox_connections_accepted_total 1\n",
		"\ninbox_refused_total{problem=\"no-inbox\"} 1\n", "\ninbox_refused_total{problem=\"unauthorized\"} 1\n",
		"\ninbox_limited_total{limit=\"passwords\"} 0\n", "\ninbox_certificate_not_after_timestamp_seconds{name=\"localhost\",source=\"self-signed\"} ",
		"\ngo_goroutines ", "\nprocess_resident_memory_bytes ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if regexp.MustCompile(`limit="requests"} 0\n`).MatchString(text) {
		t.Error("refused requests are not counted")
	}
	if strings.Contains(text, "alice") || strings.Contains(text, "bob") {
		t.Error("names of peers are in the metrics")
	}
}

func TestMetricsFollowTheConventions(t *testing.T) {
	c, err := parse([]string{"-https=false"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	srv, err := newServer(c, process{environ: []string{"HOME=" + t.TempDir()}, stderr: io.Discard, timeouts: defaultTimeouts()}, listeners{metrics: listener}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	// A part that has metrics of its own adds them while the house is built.
	part := prometheus.NewGauge(prometheus.GaugeOpts{Name: "inbox_part", Help: "Of another part."})
	srv.collectors = append(srv.collectors, part)
	if testutil.CollectAndCount(collector{srv}, "inbox_part") != 1 {
		t.Error("the metrics of another part are not there")
	}
	problems, err := testutil.CollectAndLint(collector{srv})
	if err != nil || len(problems) > 0 {
		t.Errorf("got %v, %v", problems, err)
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
		t.Errorf("the public listener answers /metrics with %d", a.status)
	}
	_, text := p.metrics("/certificates", "localhost")
	var states []certificateState
	if err := json.Unmarshal([]byte(text), &states); err != nil || len(states) == 0 || states[0].Source != "self-signed" {
		t.Errorf("got %q, %v, want the self-signed certificate", text, err)
	}
}

func TestProfilesAreLoopbackOnly(t *testing.T) {
	all := newDomainServer(t).metricsHandler()
	for _, path := range []string{"", "heap", "cmdline", "profile?seconds=1", "trace?seconds=1"} {
		r := httptest.NewRequest("GET", "http://192.0.2.2/debug/pprof/"+path, nil)
		w := httptest.NewRecorder()
		if all.ServeHTTP(w, r); w.Code != http.StatusForbidden {
			t.Errorf("/debug/pprof/%s: a stranger got %d, want 403", path, w.Code)
		}
	}
	r, _ := http.NewRequest("GET", "/debug/pprof/", nil)
	for remote, want := range map[string]int{"127.0.0.1:1": 0, "[::1]:1": 0, "192.0.2.1:1": 403, "": 403} {
		w := &discardResponse{}
		r.RemoteAddr = remote
		passed := false
		loopbackOnly(func(http.ResponseWriter, *http.Request) { passed = true })(w, r)
		if passed != (want == 0) {
			t.Errorf("%q: passed %v", remote, passed)
		}
	}
}

// fakeSource is a source of which only the state is asked.
type fakeSource struct {
	certManager
	states []tlsmgr.NameState
}

func (c fakeSource) State() []tlsmgr.NameState { return c.states }

// What is known of certificates is on the metrics listener, each in its place.
func TestCertificateMetrics(t *testing.T) {
	at := func(n int64) time.Time { return time.Unix(n, 0) }
	srv := &server{source: fakeSource{states: []tlsmgr.NameState{
		{Name: "a.example", Source: "acme", NotBefore: at(1), NotAfter: at(2), RenewAt: at(3), Engine: "certmagic", Failures: 4, Obtained: 5, LastError: errors.New("away")},
		{Name: "b.example", Engine: "certmagic"},
		{Name: "c.example", Source: "file", NotBefore: at(6), NotAfter: at(7)},
	}}}
	want := map[string]float64{
		`not_before_timestamp_seconds{name="a.example",source="acme"}`: 1, `not_after_timestamp_seconds{name="a.example",source="acme"}`: 2,
		`renew_at_timestamp_seconds{name="a.example"}`: 3, `order_failures{name="a.example"}`: 4, `obtained_total{name="a.example"}`: 5, `failing{name="a.example"}`: 1,
		`not_before_timestamp_seconds{name="b.example",source=""}`: 0, `not_after_timestamp_seconds{name="b.example",source=""}`: 0,
		`renew_at_timestamp_seconds{name="b.example"}`: 0, `order_failures{name="b.example"}`: 0, `obtained_total{name="b.example"}`: 0, `failing{name="b.example"}`: 0,
		`not_before_timestamp_seconds{name="c.example",source="file"}`: 6, `not_after_timestamp_seconds{name="c.example",source="file"}`: 7, `failing{name="c.example"}`: 0,
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(certificates{collector{srv}})
	w := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	got := 0
	for line := range strings.Lines(w.Body.String()) {
		series, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "inbox_certificate_"), " ")
		if strings.HasPrefix(line, "#") {
			continue
		}
		got++
		if n, known := want[series]; !known || value != fmt.Sprint(n) {
			t.Errorf("%s is %s, want %v (known: %v)", series, value, n, known)
		}
	}
	if got != len(want) {
		t.Errorf("%d series, want %d", got, len(want))
	}
	w = httptest.NewRecorder()
	srv.serveCertificates(w, nil)
	if text := w.Body.String(); !strings.Contains(text, `"LastError":"away"`) || strings.Count(text, `"LastError":""`) != 2 {
		t.Errorf("the list lacks what went wrong, and where nothing did: %s", text)
	}
}

// certificates are the part of the collector that tells of them.
type certificates struct{ collector }

func (c certificates) Describe(descs chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, descs) }
func (c certificates) Collect(m chan<- prometheus.Metric)     { c.collectCertificates(m) }
