//go:build linux

package main

import (
	"fmt"
	"net/http"
	"regexp"
	"testing"
	"time"
)

// TestStoreMetrics checks the metrics while the store is absent, available, unavailable and
// available again.
func TestStoreMetrics(t *testing.T) {
	port := redisPort(t)
	p := start(t, "-https=false", "-metrics-bind", "127.0.0.1:0", "-store", fmt.Sprintf("redis://:geheim@127.0.0.1:%d", port))
	want := func(when string, lines ...string) {
		t.Helper()
		var text string
		for _, line := range lines {
			found := false
			for end := time.Now().Add(10 * time.Second); !found && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
				_, text = p.metrics("/metrics", "")
				found = regexp.MustCompile(`(?m)^inbox_store_` + line + `$`).MatchString(text)
			}
			if !found {
				t.Fatalf("%s: got no %q in\n%s", when, line, text)
			}
		}
	}
	const some = `[1-9]\d*`
	want("absent", "up 0", "outages_total 0", "command_duration_seconds_count 0")
	stop := startRedis(t, port, "geheim")
	p.wantReady(http.StatusOK)
	p.claim("bob")
	want("available", "up 1", "outages_total 0", "command_duration_seconds_count "+some, `command_failures_total{reason="unavailable"} 0`)
	stop()
	p.want(http.StatusServiceUnavailable, "GET", "/inbox", "bob", "")
	want("unavailable", "up 0", "outages_total 1", `command_failures_total{reason="(unavailable)"} `+some, `command_failures_total{reason="full"} 0`)
	startRedis(t, port, "geheim")
	want("back", "up 1", "outages_total 1")
}
