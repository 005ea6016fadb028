package server

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"inbox/cmd/inbox/internal/config"
	"inbox/cmd/inbox/internal/logging"
	"inbox/cmd/inbox/internal/metrics"
	"inbox/cmd/inbox/internal/sdnotify"
)

// meters measure what other components do not count. They are nil if nothing reads them.
type meters struct {
	requests   *metrics.Meter
	store      *metrics.StoreMeter
	handshakes metrics.Handshakes
}

// newMeters returns the meters for a server with or without a metrics listener.
func newMeters(log *slog.Logger, addr func(*http.Request) netip.Addr, exported bool) *meters {
	m := &meters{}
	var logRequest metrics.LogFunc
	if log.Enabled(context.Background(), slog.LevelDebug) {
		logRequest = accessLog(log, addr)
	}
	if logRequest != nil || exported {
		m.requests = metrics.NewMeter(logRequest)
	}
	if exported {
		m.store = metrics.NewStoreMeter()
	}
	return m
}

// accessLog returns a function that logs completed requests at debug level.
func accessLog(log *slog.Logger, addr func(*http.Request) netip.Addr) metrics.LogFunc {
	return func(r *http.Request, route metrics.Route, status int, took time.Duration, bytes int64) {
		name := route.String()
		if _, path, found := strings.Cut(name, " /"); found {
			name = "/" + path
		}
		logging.Request(log, r.Method, name, status, took, bytes, addr(r))
	}
}

// newLog returns the log, and keeps its last warnings for the operator's page.
func newLog(cfg *config.Config, p Process) *slog.Logger {
	return logging.New(sdnotify.JournalWriter(p.Stderr, p.Getenv), logging.Options{
		Level: cfg.LogLevel, JSON: cfg.LogJSON, Terminal: p.Terminal, Colour: p.Colour, Recent: p.warnings,
	})
}

// refusals returns the number of refused requests by type of problem, of the mailboxes, of
// the host check, of HTTP/2 without TLS and of the addresses. Refusals by limits are counted by
// limit.
func (s *server) refusals() map[string]int64 {
	counts := s.handler.Refusals()
	if s.meters.requests != nil {
		counts["misdirected-request"] = s.meters.requests.Responses(http.StatusMisdirectedRequest)
	}
	counts["http-version"] = s.http2Refuser.Refused()
	counts[errNotLocal.Kind()] = s.addresses.refused.Load()
	if s.access != nil {
		s.access.AddRefusals(counts)
		s.compat.AddRefusals(counts)
	}
	return counts
}
