package main

import (
	"net/http"
	"strings"
	"time"

	"inbox/cmd/inbox/internal/logging"
)

// logRequest logs a completed request.
func (m *meter) logRequest(r *http.Request, rt route, status int, dur time.Duration, bytes int64) {
	name := routes[rt]
	if _, path, found := strings.Cut(name, " /"); found {
		name = "/" + path
	}
	logging.Request(m.log, r.Method, name, status, dur, bytes, m.addr(r))
}
