package logging

import (
	"log/slog"
	"net/http"
	"net/netip"
	"time"
)

// Request logs a completed request at debug level. The line contains no text chosen
// by the client, and the address is masked. route names the handler, not the path.
func Request(log *slog.Logger, method, route string, status int, dur time.Duration, bytes int64, addr netip.Addr) {
	log.Debug("request", "method", knownMethod(method), "route", route, "status", status,
		"dur", dur, "bytes", bytes, "addr", MaskAddr(addr))
}

// knownMethod returns the method if it is a common one, else "other".
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "other"
}
