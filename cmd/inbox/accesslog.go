package main

import (
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"inbox/cmd/inbox/internal/logging"
	"inbox/cmd/inbox/internal/metrics"
)

// accessLog returns a function that logs finished requests at debug level.
func accessLog(log *slog.Logger, addr func(*http.Request) netip.Addr) metrics.LogFunc {
	return func(r *http.Request, route metrics.Route, status int, took time.Duration, bytes int64) {
		name := route.String()
		if _, path, found := strings.Cut(name, " /"); found {
			name = "/" + path
		}
		logging.Request(log, r.Method, name, status, took, bytes, addr(r))
	}
}
