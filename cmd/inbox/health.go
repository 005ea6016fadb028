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

	mu    sync.Mutex
	parts []part
}

// part is what the server cannot do without, and that may be away for a while.
type part struct {
	name string
	here func() bool
}

// need makes the server ready only while here returns true. It is asked at each
// look and must not wait for anybody: who watches a part remembers what it saw.
func (s *health) need(name string, here func() bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parts = append(s.parts, part{name, here})
}

// away lists what keeps the server from being ready; none: it is.
func (s *health) away() []string {
	s.mu.Lock()
	parts := slices.Clone(s.parts)
	s.mu.Unlock()
	names := []string{} // and not null for those who read JSON
	if !s.serving.Load() {
		names = append(names, "listeners")
	}
	for _, p := range parts {
		if !p.here() {
			names = append(names, p.name)
		}
	}
	return names
}

// healthz says that the process answers, and nothing more.
func healthz(w http.ResponseWriter, r *http.Request) { tellHealth(w, r, true) }

// readyz says whether the server wants requests, and nothing more: what is away
// is for the metrics listener.
func (s *health) readyz(w http.ResponseWriter, r *http.Request) {
	tellHealth(w, r, len(s.away()) == 0)
}

func tellHealth(w http.ResponseWriter, r *http.Request, ok bool) {
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

// isHealth is true for what a monitor asks, by whatever address it knows.
func isHealth(r *http.Request) bool { return r.URL.Path == "/healthz" || r.URL.Path == "/readyz" }
