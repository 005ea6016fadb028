package main

import (
	"crypto/tls"
	"net/http"
	"strings"
	"testing"
	"time"

	"inbox/cmd/inbox/internal/server"
)

// TestClosedHTTP2StillCounts checks that a closed HTTP/2 connection counts toward the limit
// as long as net/http retains its memory.
func TestClosedHTTP2StillCounts(t *testing.T) {
	timeouts := server.DefaultTimeouts()
	timeouts.Idle = 300 * time.Millisecond
	p := startWithTimeouts(t, timeouts, "-max-conns-per-ip", "1")
	ask := func(http2 bool) (int, error) {
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: http2}
		defer transport.CloseIdleConnections()
		a, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Get(strings.TrimSuffix(p.url, "/") + "/healthz")
		if err != nil {
			return 0, err
		}
		a.Body.Close()
		return a.ProtoMajor, nil
	}
	if major, err := ask(true); err != nil || major != 2 {
		t.Fatalf("got HTTP/%d, %v", major, err)
	}
	began := time.Now()
	for {
		_, err := ask(false)
		took := time.Since(began)
		if err == nil {
			if took < timeouts.Idle {
				t.Errorf("accepted the next connection after %v, want after %v", took, timeouts.Idle)
			}
			return
		}
		if took > 10*time.Second {
			t.Fatalf("no connection accepted after %v: %v", took, err)
		}
	}
}
