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
func (s *server) metricsHandler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{s}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	mux.HandleFunc("GET /health", s.serveHealth)
	mux.HandleFunc("GET /certificates", s.serveCertificates)
	mux.HandleFunc("GET /debug/pprof/", loopbackOnly(pprof.Index))
	mux.HandleFunc("GET /debug/pprof/profile", loopbackOnly(pprof.Profile))
	mux.HandleFunc("GET /debug/pprof/trace", loopbackOnly(pprof.Trace))
	return s.checkMetricsHost(mux)
}

// healthState is what the public /readyz does not tell.
type healthState struct {
	Ready   bool
	Failing []string // what keeps it from being ready
	Version string
}

func (s *server) serveHealth(w http.ResponseWriter, r *http.Request) {
	failing := s.health.failing()
	w.Header().Set("Content-Type", "application/json")
	if len(failing) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	json.NewEncoder(w).Encode(healthState{len(failing) == 0, failing, buildVersion()})
}

// certificateState is a name's certificate, as the metrics listener tells it.
type certificateState struct {
	Name, Source, Issuer, Status, LastError     string
	NotAfter, RenewAt, LastAttempt, NextAttempt time.Time
}

func (s *server) serveCertificates(w http.ResponseWriter, r *http.Request) {
	states := []certificateState{}
	if s.source != nil {
		for _, state := range s.source.State() {
			entry := certificateState{
				Name: state.Name, Source: state.Source, Issuer: state.Issuer, Status: state.Status,
				NotAfter: state.NotAfter, RenewAt: state.RenewAt, LastAttempt: state.LastAttempt, NextAttempt: state.NextAttempt,
			}
			if state.LastError != nil {
				entry.LastError = state.LastError.Error()
			}
			states = append(states, entry)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(states)
}

// loopbackOnly lets only this machine have profiles: they show what the process
// holds in memory.
func loopbackOnly(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if ap, err := netip.ParseAddrPort(r.RemoteAddr); err != nil || !ap.Addr().Unmap().IsLoopback() {
			http.Error(w, "profiles are for this machine alone", http.StatusForbidden)
			return
		}
		next(w, r)
	}
}

// checkMetricsHost refuses the names that a stranger's page could make a
// browser resolve to this listener (DNS rebinding).
func (s *server) checkMetricsHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = strings.Trim(r.Host, "[]")
		}
		_, err = netip.ParseAddr(host)
		if err != nil && !strings.EqualFold(host, "localhost") && !slices.Contains(s.cfg.metricsNames, strings.ToLower(host)) {
			http.Error(w, "ask by address, or name this host with -metrics-hosts", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// serveMetrics serves until ctx ends.
func (s *server) serveMetrics(ctx context.Context, l net.Listener) {
	server := &http.Server{
		Handler: s.metricsHandler(), ErrorLog: s.errorLog.Logger(), MaxHeaderBytes: 16 << 10,
		ReadHeaderTimeout: s.timeouts.header, IdleTimeout: s.timeouts.idle,
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		s.log.Error("serve metrics", "err", err)
	}
}
