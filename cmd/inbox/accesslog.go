package main

import (
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"inbox/cmd/inbox/internal/metrics"
)

// accessLog returns a function that logs finished requests at debug level. A line has
// nothing that a client chose: no path except the routes, no query, no name, no complete
// address.
func accessLog(log *slog.Logger, addr func(*http.Request) netip.Addr) metrics.LogFunc {
	return func(r *http.Request, route metrics.Route, status int, took time.Duration, bytes int64) {
		name := route.String()
		if _, path, found := strings.Cut(name, " /"); found {
			name = "/" + path
		}
		log.Debug("request", "method", methodOf(r), "route", name, "status", status,
			"dur", took, "bytes", bytes, "addr", maskClient(addr(r)))
	}
}

// methodOf returns the request's method if it is a common one.
func methodOf(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return r.Method
	}
	return "other"
}

// maskClient returns the network of a client's address.
func maskClient(addr netip.Addr) string {
	if !addr.IsValid() {
		return "unknown" // behind a Unix socket without a client-address header
	}
	return prefixOf(addr, 24, 48).String()
}
