package main

import (
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// logRequest logs a request that is over. Nothing in the line is a stranger's own
// words: no path beyond the routes, no query, no name, no whole address.
func (m *meter) logRequest(r *http.Request, rt route, status int, took time.Duration, bytes int64) {
	name := routes[rt]
	if _, path, found := strings.Cut(name, " /"); found {
		name = "/" + path
	}
	m.log.Debug("request", "method", methodOf(r), "route", name, "status", status,
		"dur", took, "bytes", bytes, "addr", maskClient(m.addr(r)))
}

// methodOf is the request's method, if it is one that people use.
func methodOf(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return r.Method
	}
	return "other"
}

// maskClient is [maskAddress] for who asks, behind proxies too.
func maskClient(addr netip.Addr) string {
	if !addr.IsValid() {
		return "unknown" // behind a Unix socket that says nothing
	}
	return prefixOf(addr, 24, 48).String()
}
