package main

import (
	"net/http"
	"testing"
)

func TestHealthResponse(t *testing.T) {
	p := start(t, "-https=false")
	for _, path := range []string{"/healthz", "/readyz"} {
		if a := p.want(http.StatusOK, "GET", path, "", ""); a.body != "ok\n" || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: got %q, %v", path, a.body, a.header)
		}
		p.want(http.StatusOK, "HEAD", path, "", "")
		if a := p.want(http.StatusMethodNotAllowed, "POST", path, "", ""); a.header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: Allow is %q", path, a.header.Get("Allow"))
		}
	}
}

// TestLoopbackHealthChecksAreExempt checks that health checks from loopback are exempt from
// rate limits.
func TestLoopbackHealthChecksAreExempt(t *testing.T) {
	p := start(t, "-https=false", "-rate", "1", "-burst", "1")
	for p.request("GET", "/ice", "", "").status != http.StatusTooManyRequests {
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		p.want(http.StatusOK, "GET", path, "", "")
	}
}
