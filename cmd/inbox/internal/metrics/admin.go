package metrics

import (
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"inbox/tlsmgr"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// AdminConfig configures the server of the metrics listener.
type AdminConfig struct {
	Sources Sources
	// Hosts are the names, in lower case, by which the listener can be addressed besides
	// localhost and IP addresses.
	Hosts    []string
	ErrorLog *log.Logger
	// HeaderTimeout also bounds the body of a request. WriteTimeout runs from the end of the
	// header; a profile has its duration in addition.
	HeaderTimeout, WriteTimeout, IdleTimeout time.Duration
}

const (
	// maxProfileSeconds is twice the default of a CPU profile.
	maxProfileSeconds = 60
	// maxProfiles bounds concurrent profiles: some stop the process while they are collected.
	maxProfiles = 2
	// MaxAdminConns bounds the connections of the listener.
	MaxAdminConns = 64
)

// NewAdminServer returns a server of /metrics, /health, /certificates and, for clients on the
// same machine, /debug/pprof/.
func NewAdminServer(cfg AdminConfig) *http.Server {
	registry := prometheus.NewRegistry()
	registry.MustRegister(NewCollector(cfg.Sources), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	mux.HandleFunc("GET /health", cfg.serveHealth)
	mux.HandleFunc("GET /certificates", cfg.serveCertificates)
	bound := boundProfiles()
	mux.HandleFunc("GET /debug/pprof/", loopbackOnly(bound(pprof.Index)))
	mux.HandleFunc("GET /debug/pprof/profile", loopbackOnly(bound(pprof.Profile)))
	mux.HandleFunc("GET /debug/pprof/trace", loopbackOnly(bound(pprof.Trace)))
	return &http.Server{
		Handler: checkHost(cfg.Hosts, mux), ErrorLog: cfg.ErrorLog, MaxHeaderBytes: 16 << 10,
		ReadHeaderTimeout: cfg.HeaderTimeout, ReadTimeout: 2 * cfg.HeaderTimeout,
		WriteTimeout: cfg.WriteTimeout, IdleTimeout: cfg.IdleTimeout,
		DisableGeneralOptionsHandler: true,
	}
}

// healthState has the details that the public /readyz omits.
type healthState struct {
	Ready   bool
	Failing []string
	Version string
}

func (c *AdminConfig) serveHealth(w http.ResponseWriter, r *http.Request) {
	failing := c.Sources.Failing()
	w.Header().Set("Content-Type", "application/json")
	if len(failing) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	json.NewEncoder(w).Encode(healthState{len(failing) == 0, failing, c.Sources.Version})
}

// certificateState is an element of /certificates.
type certificateState struct {
	Name, Source, Issuer, Status, LastError     string
	NotAfter, RenewAt, LastAttempt, NextAttempt time.Time
}

func (c *AdminConfig) serveCertificates(w http.ResponseWriter, r *http.Request) {
	states := []certificateState{}
	if c.Sources.Certificates != nil {
		for _, state := range c.Sources.Certificates() {
			states = append(states, certificateStateOf(state))
		}
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(states)
}

func certificateStateOf(s tlsmgr.NameState) certificateState {
	state := certificateState{
		Name: s.Name, Source: s.Source, Issuer: s.Issuer, Status: s.Status,
		NotAfter: s.NotAfter, RenewAt: s.RenewAt, LastAttempt: s.LastAttempt, NextAttempt: s.NextAttempt,
	}
	if s.LastError != nil {
		state.LastError = s.LastError.Error()
	}
	return state
}

// loopbackOnly refuses clients on other machines, because profiles contain memory of the
// process.
func loopbackOnly(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if ap, err := netip.ParseAddrPort(r.RemoteAddr); err != nil || !ap.Addr().Unmap().IsLoopback() {
			http.Error(w, "profiles are available on the same machine only", http.StatusForbidden)
			return
		}
		next(w, r)
	}
}

// boundProfiles returns a layer that bounds the duration and the number of profiles.
func boundProfiles() func(next http.HandlerFunc) http.HandlerFunc {
	slots := make(chan struct{}, maxProfiles)
	return func(next http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if !validSeconds(r.URL.Query()["seconds"]) {
				http.Error(w, fmt.Sprintf("seconds must be a number from 0 to %d", maxProfileSeconds), http.StatusBadRequest)
				return
			}
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
				next(w, r)
			default:
				w.Header().Set("Retry-After", strconv.Itoa(maxProfileSeconds))
				http.Error(w, "other profiles are being collected; try again later", http.StatusServiceUnavailable)
			}
		}
	}
}

// validSeconds reports whether a duration is absent or within the limit. NaN is not.
func validSeconds(given []string) bool {
	for _, text := range given {
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || !(n >= 0 && n <= maxProfileSeconds) {
			return false
		}
	}
	return true
}

// checkHost refuses names that the page of an attacker could make a browser resolve to this
// listener (DNS rebinding).
func checkHost(hosts []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = strings.Trim(r.Host, "[]")
		}
		_, err = netip.ParseAddr(host)
		if err != nil && !strings.EqualFold(host, "localhost") && !slices.Contains(hosts, strings.ToLower(host)) {
			http.Error(w, "unknown host: use an IP address, or add the host to -metrics-hosts", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}
