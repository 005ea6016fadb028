package main

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"slices"
	"strings"
	"time"

	"inbox/inbox"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// The metrics, by the conventions of Prometheus.
var (
	descInboxes    = desc("inboxes", "Inboxes that are claimed.")
	descQueued     = desc("queued_bytes", "Bytes of unread messages.")
	descHeld       = desc("held_requests", "Requests that wait for a message or for a recipient.")
	descOpen       = desc("connections_open", "Connections that are open.")
	descAccepted   = desc("connections_accepted_total", "Connections that were accepted.")
	descHandshakes = desc("tls_handshake_errors_total", "TLS handshakes that failed, and other noise of scanners.")
	descLimited    = desc("limited_total", "What was refused, or would have been with -rate-dry-run, by the limit that was met.", "limit")
	descRefused    = desc("refused_total", "Requests that were refused, by the type of the problem.", "problem")
	descNotAfter   = desc("certificate_not_after_seconds", "When the certificate in use ends, in Unix time; 0 where there is none.", "name", "source")
	descFailures   = desc("certificate_order_failures", "Orders that failed since the last success.", "name")
	descObtained   = desc("certificate_obtained_total", "Certificates that were obtained.", "name")
	descRenewAt    = desc("certificate_renew_at_seconds", "When the certificate is due to be renewed, in Unix time; 0 where there is none.", "name")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("inbox_"+name, help, labels, nil)
}

// collector reads the house's own counters when it is asked.
type collector struct{ *house }

// Describe implements [prometheus.Collector].
func (c collector) Describe(descs chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, descs) }

// Collect implements [prometheus.Collector].
func (c collector) Collect(m chan<- prometheus.Metric) {
	stats := c.store.Stats()
	m <- gauge(descInboxes, stats.Inboxes)
	m <- gauge(descQueued, stats.QueuedBytes)
	m <- gauge(descHeld, c.limits.held.Now())
	m <- count(descHandshakes, c.noise.noise.Load())
	for kind, n := range c.handler.Refusals() {
		m <- count(descRefused, n, kind)
	}
	c.collectLimits(m)
	c.collectCertificates(m)
}

func (c collector) collectLimits(m chan<- prometheus.Metric) {
	var open, accepted, total, addr, rate int64
	for _, l := range c.limits.listeners {
		s := l.Stats()
		open, accepted = open+s.Open, accepted+s.Accepted
		total, addr, rate = total+s.RefusedTotal, addr+s.RefusedAddr, rate+s.RefusedRate
	}
	m <- gauge(descOpen, open)
	m <- count(descAccepted, accepted)
	g := c.limits.guard
	for limit, n := range map[string]int64{
		"connections": total, "connections-per-address": addr, "connection-rate": rate,
		"requests": c.limits.requests.Refused(), "held": c.limits.held.Refused(), "active": c.limits.active.Refused(),
		"header":    c.tooLarge.Load(),
		"passwords": g.refused[inbox.WrongPassword].Load(),
		"names":     g.refused[inbox.NewName].Load(),
		"misses":    g.refused[inbox.MissedName].Load(),
	} {
		m <- count(descLimited, n, limit)
	}
}

func (c collector) collectCertificates(m chan<- prometheus.Metric) {
	if c.source == nil {
		return
	}
	for _, s := range c.source.State() {
		m <- gauge(descNotAfter, unix(s.NotAfter), s.Name, s.Source)
		if s.Engine == "" {
			continue // not an authority's
		}
		m <- gauge(descFailures, int64(s.Failures), s.Name)
		m <- count(descObtained, int64(s.Obtained), s.Name)
		m <- gauge(descRenewAt, unix(s.RenewAt), s.Name)
	}
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func gauge(d *prometheus.Desc, n int64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
}

func count(d *prometheus.Desc, n int64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
}

// metricsHandler is what the metrics listener serves: metrics, the state of
// the certificates, and profiles for this machine alone.
func (h *house) metricsHandler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{h}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	mux.HandleFunc("GET /certificates", h.serveCertificates)
	mux.HandleFunc("GET /debug/pprof/", fromHere(pprof.Index))
	mux.HandleFunc("GET /debug/pprof/profile", fromHere(pprof.Profile))
	mux.HandleFunc("GET /debug/pprof/trace", fromHere(pprof.Trace))
	return h.onlyMetricsHosts(mux)
}

// certificateState is a name's certificate, as the metrics listener tells it.
type certificateState struct {
	Name, Source, Issuer, Status, LastError     string
	NotAfter, RenewAt, LastAttempt, NextAttempt time.Time
}

func (h *house) serveCertificates(w http.ResponseWriter, r *http.Request) {
	states := []certificateState{}
	if h.source != nil {
		for _, s := range h.source.State() {
			c := certificateState{
				Name: s.Name, Source: s.Source, Issuer: s.Issuer, Status: s.Status,
				NotAfter: s.NotAfter, RenewAt: s.RenewAt, LastAttempt: s.LastAttempt, NextAttempt: s.NextAttempt,
			}
			if s.LastError != nil {
				c.LastError = s.LastError.Error()
			}
			states = append(states, c)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(states)
}

// fromHere lets only this machine have profiles: they show what the process
// holds in memory.
func fromHere(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if ap, err := netip.ParseAddrPort(r.RemoteAddr); err != nil || !ap.Addr().Unmap().IsLoopback() {
			http.Error(w, "profiles are for this machine alone", http.StatusForbidden)
			return
		}
		next(w, r)
	}
}

// onlyMetricsHosts refuses the names that a stranger's page could make a
// browser resolve to this listener (DNS rebinding).
func (h *house) onlyMetricsHosts(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = strings.Trim(r.Host, "[]")
		}
		_, err = netip.ParseAddr(host)
		if err != nil && !strings.EqualFold(host, "localhost") && !slices.Contains(h.cfg.metricsNames, strings.ToLower(host)) {
			http.Error(w, "ask by address, or name this host with -metrics-hosts", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// serveMetrics serves until ctx ends.
func (h *house) serveMetrics(ctx context.Context, l net.Listener) {
	server := &http.Server{
		Handler: h.metricsHandler(), ErrorLog: h.noise.logger(), MaxHeaderBytes: 16 << 10,
		ReadHeaderTimeout: h.times.header, IdleTimeout: h.times.idle,
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		h.log.Error("serve metrics", "err", err)
	}
}
