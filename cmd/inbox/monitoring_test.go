package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"inbox/cmd/inbox/internal/logging"
)

// scrapeAll returns the text of /metrics of three servers, which together have
// every metric.
func scrapeAll(t *testing.T) string {
	t.Helper()
	p := start(t, "-metrics-bind", "127.0.0.1:0", "-domain", "localhost", "-acme-agree", "-http-bind=",
		"-acme-ca", "https://127.0.0.1:1/", "-acme-preflight=false", "-turn", "auto", "-turn-bind", "127.0.0.1:0")
	plain := start(t, "-metrics-bind", "127.0.0.1:0", "-https=false", "-compat", "peerjs,topics")
	plain.claim("alice")
	plain.want(http.StatusOK, "POST", "/inbox?to=alice", "bob", "hello")
	shared := start(t, "-metrics-bind", "127.0.0.1:0", "-https=false", "-store", "redis://127.0.0.1:1", "-access", "invited") // nothing listens there
	_, one := p.metrics("/metrics", "")
	_, other := plain.metrics("/metrics", "")
	_, third := shared.metrics("/metrics", "")
	return one + other + third
}

// parseMetrics returns the metrics in a text, with the labels of each.
func parseMetrics(text string) map[string][]string {
	metrics := map[string][]string{"up": {"job", "instance"}} // of Prometheus itself
	label := regexp.MustCompile(`([a-z_]+)="`)
	for line := range strings.Lines(text) {
		name := regexp.MustCompile(`^[a-z_]+`).FindString(line)
		if name == "" {
			continue
		}
		labels := append(metrics[name], "job", "instance") // added by Prometheus
		for _, m := range label.FindAllStringSubmatch(line, -1) {
			labels = append(labels, m[1])
		}
		slices.Sort(labels)
		metrics[name] = slices.Compact(labels)
	}
	return metrics
}

var (
	metricName = regexp.MustCompile(`\b(?:inbox|go|process)_[a-z_]+|\bup\b`)
	selector   = regexp.MustCompile(`\b((?:inbox|go|process)_[a-z_]+|up)\{([^}]*)\}`)
	grouping   = regexp.MustCompile(`\b(?:by|on) \(([a-z_, ]+)\)`)
	matcher    = regexp.MustCompile(`([a-z_]+) *[=!]~?"`)
)

// checkQuery reports metrics that the program does not have, and labels that the
// metric does not have.
func checkQuery(t *testing.T, where, query string, metrics map[string][]string) {
	t.Helper()
	names := metricName.FindAllString(query, -1)
	if len(names) == 0 && query != "vector(1)" {
		t.Errorf("%s: no metric in %q", where, query)
	}
	var all []string
	for _, name := range names {
		if metrics[name] == nil {
			t.Errorf("%s: the program has no %s", where, name)
		}
		all = append(all, metrics[name]...)
	}
	for _, m := range selector.FindAllStringSubmatch(query, -1) {
		for _, label := range matcher.FindAllStringSubmatch(m[2], -1) {
			if !slices.Contains(metrics[m[1]], label[1]) {
				t.Errorf("%s: %s has no label %s", where, m[1], label[1])
			}
		}
	}
	for _, m := range grouping.FindAllStringSubmatch(query, -1) {
		for label := range strings.SplitSeq(m[1], ", ") {
			if !slices.Contains(all, label) {
				t.Errorf("%s: no metric in %q has the label %s", where, query, label)
			}
		}
	}
}

// dashboard is the part of Grafana's format that the tests read.
type dashboard struct {
	Panels []struct {
		Title, Type, Description string
		Targets                  []struct{ Expr string }
	}
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	text, err := os.ReadFile("../../docs/grafana.json")
	if err == nil {
		err = json.Unmarshal(text, &d)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestMonitoringQueriesExistingMetrics(t *testing.T) {
	metrics := parseMetrics(scrapeAll(t))
	queries := 0
	for _, p := range readDashboard(t).Panels {
		if p.Type != "row" && (len(p.Targets) == 0 || p.Description == "") {
			t.Errorf("panel %q has no query or no description", p.Title)
		}
		for _, target := range p.Targets {
			checkQuery(t, "panel "+p.Title, target.Expr, metrics)
			queries++
		}
	}
	for name, query := range alerts(t) {
		checkQuery(t, "alert "+name, query, metrics)
		queries++
	}
	if queries < 40 {
		t.Errorf("got %d queries, want at least 40", queries)
	}
}

// alerts returns the expressions of docs/alerts.yaml by alert: the value of expr, on
// its line or on the indented lines after it.
func alerts(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	rules := map[string]string{}
	rule := regexp.MustCompile(`(?m)^      - alert: (\w+)\n        expr: (.*\n(?:          .*\n)*)`)
	for _, m := range rule.FindAllStringSubmatch(string(text), -1) {
		rules[m[1]] = strings.TrimSpace(strings.TrimPrefix(m[2], "|"))
	}
	if n := strings.Count(string(text), "- alert:"); len(rules) != n || n == 0 {
		t.Fatalf("got %d alerts, want %d", len(rules), n)
	}
	return rules
}

// TestMonitoringIsDocumented compares docs/monitoring.md with the metrics and alerts.
func TestMonitoringIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	exported := scrapeAll(t)
	metrics := parseMetrics(exported)
	suffix := regexp.MustCompile(`_(bucket|sum|count)$`)
	for name := range metrics {
		if told := suffix.ReplaceAllString(name, ""); strings.HasPrefix(name, "inbox_") && !strings.Contains(string(text), "`"+told) {
			t.Errorf("docs/monitoring.md does not describe %s", told)
		}
	}
	for _, name := range regexp.MustCompile("`(inbox_[a-z_]+)").FindAllStringSubmatch(string(text), -1) {
		if metrics[name[1]] == nil && metrics[name[1]+"_count"] == nil {
			t.Errorf("docs/monitoring.md describes %s, which does not exist", name[1])
		}
	}
	for name := range alerts(t) {
		if !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("docs/monitoring.md does not describe the alert %s", name)
		}
	}
	reasons := slices.Collect(maps.Keys(logging.NewErrorLog(nil).HandshakeErrors()))
	for _, m := range regexp.MustCompile(`(?m)^inbox_turn_[a-z_]+\{reason="(.+?)"`).FindAllStringSubmatch(exported, -1) {
		reasons = append(reasons, m[1])
	}
	if len(reasons) < 30 {
		t.Errorf("got %d reasons, want those of handshakes and of TURN", len(reasons))
	}
	for _, reason := range reasons {
		if !strings.Contains(string(text), "`"+reason+"`") {
			t.Errorf("docs/monitoring.md does not describe the reason %s", reason)
		}
	}
}

// promtool runs promtool with input on its standard input and returns its output.
func promtool(t *testing.T, input string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil && os.Getenv("CI") == "" {
		t.Skip("promtool is not installed; scripts/test install installs it")
	}
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), path, args...)
	c.Stdin = strings.NewReader(input)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestMetricsPassPromtool checks the format of /metrics and the names in it.
func TestMetricsPassPromtool(t *testing.T) {
	for _, scheme := range []string{"-https=true", "-https=false"} {
		p := start(t, scheme, "-metrics-bind", "127.0.0.1:0")
		p.claim("alice")
		_, text := p.metrics("/metrics", "")
		if out := promtool(t, text, "check", "metrics"); out != "" {
			t.Error(out)
		}
	}
}

// TestMonitoringQueriesAreValid checks the syntax of the dashboard's queries.
func TestMonitoringQueriesAreValid(t *testing.T) {
	var rules []map[string]string
	for _, p := range readDashboard(t).Panels {
		for _, target := range p.Targets {
			query := strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*").Replace(target.Expr)
			rules = append(rules, map[string]string{"record": fmt.Sprintf("panel:%d", len(rules)), "expr": query})
		}
	}
	// JSON is YAML.
	text, _ := json.Marshal(map[string]any{"groups": []any{map[string]any{"name": "panels", "rules": rules}}})
	file := filepath.Join(t.TempDir(), "rules.yaml")
	writeFile(t, file, string(text))
	promtool(t, "", "check", "rules", file)
}
