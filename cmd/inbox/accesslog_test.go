package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

func TestRequestsAreLoggedOnlyAtDebug(t *testing.T) {
	p := start(t)
	p.claim("alice")
	if strings.Contains(p.log.String(), "route=/inbox") {
		t.Errorf("a request is logged at level info:\n%s", p.log)
	}
}

func TestLogAsJSON(t *testing.T) {
	p := start(t, "-log-format", "json", "-log-level", "debug", "-https=false")
	p.want(http.StatusOK, "GET", "/healthz", "", "")
	p.stop()
	seen := map[string]int{}
	for line := range strings.Lines(p.log.String()) {
		var entry struct {
			Level, Msg, Route string
			Status            int
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		seen[entry.Level+" "+entry.Msg]++
		if entry.Msg == "request" && (entry.Route != "/healthz" || entry.Status != 200) {
			t.Errorf("got %q, want the request to /healthz", line)
		}
	}
	for _, once := range []string{"INFO listening", "DEBUG request", "INFO stopping", "INFO stopped"} {
		if seen[once] != 1 {
			t.Errorf("%s: got %d lines, want 1\n%s", once, seen[once], p.log)
		}
	}
}
