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

	"inbox/internal/problem"
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
	Hosts []string
	// Pages are handlers by path, in addition to those of this package. They get GET and HEAD.
	Pages    map[string]http.HandlerFunc
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
	// maxScrapes bounds concurrent requests of the metrics.
	maxScrapes = 4
	// MaxAdminConns bounds the connections of the listener.
	MaxAdminConns = 64
)

// Refusals of the listener.
var (
	onlyLocal = problem.New(http.StatusForbidden, "local-only", "This path is for the same machine",
		"Profiles contain memory of the process. They are available on the same machine only.")
	badSeconds = problem.New(http.StatusBadRequest, "bad-request", "The request is not valid",
		fmt.Sprintf("seconds must be a number from 0 to %d.", maxProfileSeconds))
	busy = problem.New(http.StatusServiceUnavailable, "busy", "Too many requests of this kind are in progress",
		"Try again later.")
	unknownHost = problem.New(http.StatusMisdirectedRequest, "misdirected-request", "This listener does not serve that host",
		"Use an IP address, or add the host to -metrics-hosts.")
	unknownPath = problem.NotFound("The paths are /, /status.json, /metrics, /health, /certificates and /debug/pprof/.")
)

// admin serves the metrics listener and counts what it refuses.
type admin struct {
	AdminConfig
	refused problem.Counter
}

// NewAdminServer returns a server of /metrics, /health, /certificates, the pages and, for clients
// on the same machine, /debug/pprof/.
func NewAdminServer(cfg AdminConfig) *http.Server {
	a := newAdmin(cfg)
	registry := prometheus.NewRegistry()
	registry.MustRegister(NewCollector(a.Sources), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("/metrics", a.bound(maxScrapes, promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP))
	mux.HandleFunc("/health", a.serveHealth)
	mux.HandleFunc("/certificates", a.serveCertificates)
	mux.HandleFunc("/debug/pprof/", a.localOnly(a.bound(maxProfiles, a.serveProfile)))
	for path, page := range cfg.Pages {
		if path == "/" {
			path = "/{$}"
		}
		mux.HandleFunc(path, page)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { a.refuse(w, unknownPath) })
	return &http.Server{
		Handler: a.check(mux), ErrorLog: cfg.ErrorLog, MaxHeaderBytes: 16 << 10,
		ReadHeaderTimeout: cfg.HeaderTimeout, ReadTimeout: 2 * cfg.HeaderTimeout,
		WriteTimeout: cfg.WriteTimeout, IdleTimeout: cfg.IdleTimeout,
		DisableGeneralOptionsHandler: true,
	}
}

func newAdmin(cfg AdminConfig) *admin {
	a := &admin{AdminConfig: cfg, refused: problem.NewCounter("local-only", "bad-request", "busy", "misdirected-request", "not-found",
		"method-not-allowed")}
	a.Sources.Collectors = append(slices.Clip(a.Sources.Collectors), a.collect)
	return a
}

func (a *admin) refuse(w http.ResponseWriter, p *problem.Problem) {
	a.refused.Add(p)
	p.Write(w)
}

func (a *admin) collect(m chan<- prometheus.Metric) {
	for kind, n := range a.refused.Counts() {
		m <- counter(descAdminRefused, n, kind)
	}
}

// serveHealth has the details that the public /readyz omits.
func (a *admin) serveHealth(w http.ResponseWriter, r *http.Request) {
	failing := a.Sources.Failing()
	w.Header().Set("Content-Type", "application/json")
	if len(failing) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	json.NewEncoder(w).Encode(struct {
		Ready   bool
		Failing []string
		Version string
	}{len(failing) == 0, failing, a.Sources.Version})
}

// certificateState is an element of /certificates.
type certificateState struct {
	Name, Source, Issuer, Status, LastError     string
	NotAfter, RenewAt, LastAttempt, NextAttempt time.Time
}

func (a *admin) serveCertificates(w http.ResponseWriter, r *http.Request) {
	states := []certificateState{}
	if a.Sources.Certificates != nil {
		for _, state := range a.Sources.Certificates() {
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

// localOnly refuses clients on other machines.
func (a *admin) localOnly(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if ap, err := netip.ParseAddrPort(r.RemoteAddr); err != nil || !ap.Addr().Unmap().IsLoopback() {
			a.refuse(w, onlyLocal)
			return
		}
		next(w, r)
	}
}

// bound returns next for at most n requests at once.
func (a *admin) bound(n int, next http.HandlerFunc) http.HandlerFunc {
	slots := make(chan struct{}, n)
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
			next(w, r)
		default:
			w.Header().Set("Retry-After", strconv.Itoa(maxProfileSeconds))
			a.refuse(w, busy)
		}
	}
}

// serveProfile bounds the duration of profiles.
func (a *admin) serveProfile(w http.ResponseWriter, r *http.Request) {
	if !validSeconds(r.URL.Query()["seconds"]) {
		a.refuse(w, badSeconds)
		return
	}
	switch r.URL.Path {
	case "/debug/pprof/profile":
		pprof.Profile(w, r)
	case "/debug/pprof/trace":
		pprof.Trace(w, r)
	default:
		pprof.Index(w, r)
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

// check refuses methods other than GET and HEAD, and names that the page of an attacker could
// make a browser resolve to this listener (DNS rebinding).
func (a *admin) check(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = strings.Trim(r.Host, "[]")
		}
		_, err = netip.ParseAddr(host)
		switch {
		case err != nil && !strings.EqualFold(host, "localhost") && !slices.Contains(a.Hosts, strings.ToLower(host)):
			a.refuse(w, unknownHost)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			a.refuse(w, problem.MethodNotAllowed)
		default:
			next.ServeHTTP(w, r)
		}
	})
}
