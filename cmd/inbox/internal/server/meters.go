package server

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"inbox/cmd/inbox/internal/logging"
	"inbox/cmd/inbox/internal/metrics"
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

// metricsSources returns what the metrics are read from, once the server is built.
func (s *server) metricsSources(m *meters) metrics.Sources {
	sources := metrics.Sources{
		Version: s.process.Version, Failing: s.health.failing,
		MaxMemoryBytes: s.cfg.MaxMemoryBytes, MaxConns: int64(s.cfg.MaxConns),
		MaxInboxes: int64(s.cfg.Mailboxes.MaxInboxes), MaxQueuedBytes: s.cfg.Mailboxes.MaxQueuedBytes,
		Mailboxes: s.mailboxes.stats, Deliveries: s.handler.Deliveries, Refusals: s.handler.Refusals,
		Limits: s.limits, Errors: s.errorLog,
	}
	sources.Collectors = append(sources.Collectors, metrics.RestoreCollector{Restored: s.mailboxes.restored}, m.requests)
	if s.mailboxes.shared != nil {
		sources.Collectors = append(sources.Collectors, m.store.Collector(s.mailboxes.shared))
	}
	if s.certs != nil {
		sources.Certificates = s.certs.State
		sources.Collectors = append(sources.Collectors, &m.handshakes)
	}
	return sources
}
