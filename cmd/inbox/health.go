package main

import (
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
)

// health is whether the server wants requests. All methods may be called
// concurrently.
type health struct {
	serving atomic.Bool

	mu     sync.Mutex
	checks []healthCheck
}

// healthCheck is what the server cannot do without, and that may be away for a while.
type healthCheck struct {
	name string
	ok   func() bool
}

// addCheck makes the server ready only while here returns true. It is asked at each
// look and must not wait for anybody: who watches a part remembers what it saw.
func (h *health) addCheck(name string, ok func() bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks = append(h.checks, healthCheck{name, ok})
}

// failing lists what keeps the server from being ready; none: it is.
func (h *health) failing() []string {
	h.mu.Lock()
	checks := slices.Clone(h.checks)
	h.mu.Unlock()
	names := []string{} // and not null for those who read JSON
	if !h.serving.Load() {
		names = append(names, "listeners")
	}
	for _, check := range checks {
		if !check.ok() {
			names = append(names, check.name)
		}
	}
	return names
}

// healthz says that the process answers, and nothing more.
func healthz(w http.ResponseWriter, r *http.Request) { writeHealth(w, r, true) }

// readyz says whether the server wants requests, and nothing more: what is away
// is for the metrics listener.
func (h *health) readyz(w http.ResponseWriter, r *http.Request) {
	writeHealth(w, r, len(h.failing()) == 0)
}

func writeHealth(w http.ResponseWriter, r *http.Request, ok bool) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET is for this path", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, "not ready\n")
		return
	}
	io.WriteString(w, "ok\n")
}

// isHealthCheck is true for what a monitor asks, by whatever address it knows.
func isHealthCheck(r *http.Request) bool { return r.URL.Path == "/healthz" || r.URL.Path == "/readyz" }
