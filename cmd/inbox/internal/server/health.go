package server

import (
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"inbox/cmd/inbox/internal/conn"
	"inbox/inbox/redisstore"
	"inbox/internal/problem"
	"inbox/tlsmgr"
)

// health tracks whether the server is ready for requests.
type health struct {
	serving atomic.Bool
	checks  []healthCheck
}

// healthCheck checks a dependency of the server that can be temporarily unavailable.
type healthCheck struct {
	name string
	ok   func() bool
}

// newHealth returns the checks of a server. store and certs are nil if it has none.
func newHealth(store *redisstore.Store, certs *tlsmgr.Manager) *health {
	h := &health{}
	if store != nil {
		h.addCheck("store", func() bool { return store.Ready() == nil })
	}
	if certs != nil {
		h.addCheck("certificate", func() bool { return certs.CheckValid(time.Now()) == nil })
	}
	return h
}

// addCheck adds a check that must return true for the server to be ready. Each readiness
// request calls ok, which must not block: it returns a remembered state. All checks must be
// added before the first request.
func (h *health) addCheck(name string, ok func() bool) {
	h.checks = append(h.checks, healthCheck{name, ok})
}

// failing returns the names of the failed checks. It is empty, never nil, if the server
// is ready.
func (h *health) failing() []string {
	names := []string{} // encodes as [] in JSON, not null
	if !h.serving.Load() {
		names = append(names, "listeners")
	}
	for _, check := range h.checks {
		if !check.ok() {
			names = append(names, check.name)
		}
	}
	return names
}

// healthz is the liveness check: it succeeds whenever the process can answer.
func healthz(w http.ResponseWriter, r *http.Request) { writeHealth(w, r, true) }

// readyz is the readiness check. It does not name the failed checks; the metrics listener
// does.
func (h *health) readyz(w http.ResponseWriter, r *http.Request) {
	writeHealth(w, r, len(h.failing()) == 0)
}

func writeHealth(w http.ResponseWriter, r *http.Request, ok bool) {
	if !problem.RequireGetOrHead(w, r) {
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

// isHealthCheck reports whether a request is for /healthz or /readyz, which monitors can
// request under any host name.
func isHealthCheck(r *http.Request) bool { return r.URL.Path == healthPath || r.URL.Path == readyPath }

// exemptHealthChecks returns a predicate for health checks from this machine, which are not
// rate limited: a monitor must reach the server while its address is flooding.
func exemptHealthChecks(clients *conn.ClientResolver) func(*http.Request) bool {
	return func(r *http.Request) bool {
		return isHealthCheck(r) && clients.Addr(r).IsLoopback()
	}
}
