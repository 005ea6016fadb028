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

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metricsHandler is what the metrics listener serves: metrics, the state of
// the certificates, and profiles for this machine alone.
func (h *house) metricsHandler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{h}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	mux.HandleFunc("GET /health", h.serveHealth)
	mux.HandleFunc("GET /certificates", h.serveCertificates)
	mux.HandleFunc("GET /debug/pprof/", fromHere(pprof.Index))
	mux.HandleFunc("GET /debug/pprof/profile", fromHere(pprof.Profile))
	mux.HandleFunc("GET /debug/pprof/trace", fromHere(pprof.Trace))
	return h.onlyMetricsHosts(mux)
}

// healthState is what the public /readyz does not tell.
type healthState struct {
	Ready   bool
	Away    []string // what keeps it from being ready
	Version string
}

func (h *house) serveHealth(w http.ResponseWriter, r *http.Request) {
	away := h.health.away()
	w.Header().Set("Content-Type", "application/json")
	if len(away) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	json.NewEncoder(w).Encode(healthState{len(away) == 0, away, buildVersion()})
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
