package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"inbox/cmd/inbox/internal/conn"
	"inbox/cmd/inbox/internal/limits"
	"inbox/cmd/inbox/internal/logging"
	"inbox/cmd/inbox/internal/metrics"
	"inbox/cmd/inbox/internal/sdnotify"
	"inbox/cmd/inbox/internal/snapshot"
	"inbox/inbox"
	"inbox/inbox/memstore"
	"inbox/inbox/redisstore"
	"inbox/public"
	"inbox/ratelimit"
	"inbox/tlsmgr"
	"inbox/tlsmgr/acme"
	"inbox/tlsmgr/acme/autocert"
	"inbox/tlsmgr/acme/certmagic"
)

// server is a server with all of its components, built but not yet serving.
type server struct {
	cfg        *config
	timeouts   timeouts
	log        *slog.Logger
	errorLog   *logging.ErrorLog
	snapshot   *snapshot.File // nil: mailboxes are not saved
	store      *memstore.Store
	shared     *redisstore.Store // used instead of store; nil without -store
	handler    *inbox.Handler
	clientIP   *ratelimit.ClientIP
	clients    *conn.ClientResolver
	limits     *limits.Limits
	source     *tlsmgr.Manager // nil over plain HTTP
	process    process
	listeners  listeners
	mainServer *http.Server
	h2Shutdown *http.Server // its Shutdown sends GOAWAY on HTTP/2 connections

	health     health
	meter      *metrics.Meter // nil if nothing reads it
	handshakes metrics.Handshakes
	collectors []prometheus.Collector // metrics of other components; added while building

	redirectServer *http.Server // on port 80; nil without -domain
	notify         *sdnotify.Notifier
	sighup         <-chan os.Signal
	connTracker    conn.Tracker   // of the main listener
	acceptProbes   []*acceptProbe // of the listeners, for the watchdog
}

// newServer builds the components of the server, innermost first.
func newServer(c *config, p process, ls listeners, log *slog.Logger) (*server, error) {
	s := &server{cfg: c, timeouts: p.timeouts, log: log, process: p, listeners: ls}
	if err := s.wire(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *server) wire() error {
	c := s.cfg
	s.errorLog = logging.NewErrorLog(s.log)
	s.notify = sdnotify.NewNotifier(s.process.getenv, s.log)
	if err := c.checkPagesDir(s.process.environ); err != nil {
		return err
	}
	dir := stateDir(c, s.process.environ, s.log)
	key, err := c.passwordHashKey(dir)
	if err != nil {
		return err
	}
	s.clientIP = &ratelimit.ClientIP{Trusted: c.proxies, Header: c.clientHeader, OnUntrusted: s.warnUntrustedProxy}
	s.clients = conn.NewClientResolver(s.clientIP, deriveKey(key, "payers"))
	s.limits = limits.New(limits.Config{
		Rate: int(c.rate), Burst: int(c.burst), ConnRate: int(c.connRate),
		MaxConns: int(c.maxConns), MaxConnsPerIP: int(c.maxConnsPerIP), MaxHeaderBytes: c.maxHeaderSize,
		OwnerTTL: seconds(c.inboxTimeout), HandshakeTimeout: s.timeouts.header,
		Exempt: exemptHealthChecks(s.clients), DryRun: c.rateDryRun,
	}, s.clientIP, s.clients)
	var logRequest metrics.LogFunc
	if s.log.Enabled(context.Background(), slog.LevelDebug) {
		logRequest = accessLog(s.log, s.clients.Addr)
	}
	if logRequest != nil || s.listeners.metrics != nil {
		s.meter = metrics.NewMeter(logRequest)
	}
	if len(c.unknownVars) > 0 {
		s.log.Debug("ignoring unknown environment variables", "names", c.unknownVars)
	}
	s.openStore()
	if err := s.buildSource(dir); err != nil {
		return err
	}
	pages, err := s.pages()
	if err != nil {
		return err
	}
	s.loadMailboxes(dir, key)
	s.buildHandler(key)
	s.buildMainServer(pages)
	if s.h2Shutdown, err = conn.ConfigureHTTP2(s.mainServer, s.limits.Frames, &s.connTracker); err != nil {
		return err
	}
	s.buildRedirectServer()
	return nil
}

func (s *server) warnUntrustedProxy(header string) {
	s.log.Warn("a private address sends " + header + " but is not trusted; if it is a proxy, add it to -trusted-proxies: otherwise all its clients count as one")
}

// loadMailboxes restores the mailboxes of the previous server. With a shared store
// there is nothing to restore or save.
func (s *server) loadMailboxes(dir string, key []byte) {
	if dir != "" && !s.cfg.store.shared() {
		var err error
		s.snapshot, err = snapshot.Open(dir, deriveKey(key, "snapshots"), s.timeouts.shutdown+stopMargin, s.process.done, s.log)
		if err != nil {
			s.log.Warn("a restart will lose all mailboxes: cannot lock the state directory; give each server its own with -state", "err", err)
		}
	}
	var restored snapshot.Restored
	if s.snapshot == nil {
		s.store = memstore.New(s.cfg.mailboxLimits())
	} else {
		s.store, restored = s.snapshot.Load(s.cfg.mailboxLimits())
	}
	s.collectors = append(s.collectors, metrics.RestoreCollector{Restored: restored})
}

func (s *server) buildHandler(key []byte) {
	c := s.cfg
	store := inbox.Store(s.store)
	if s.shared != nil {
		store = s.shared
	}
	var onWait func(http.ResponseWriter, time.Duration)
	if s.meter != nil {
		onWait = s.meter.OnWait
	}
	s.handler = inbox.NewHandler(inbox.Config{
		Store:        store,
		Secret:       key,
		Path:         "/inbox",
		ICEPath:      "/ice",
		PollTimeout:  c.pollWait,
		MaxBodyBytes: c.maxBodySize,
		WriteTimeout: s.timeouts.write,
		// Queued messages, in-flight bodies and connections each get a third of
		// the memory.
		MaxInFlightBytes: c.maxQueuedBytes,
		AnyOrigin:        c.cors,
		Origins:          c.origins,
		CrossSiteDetail:  "Its operator can allow them with -cors or -cors-origins.",
		ICEServers:       c.ice,
		Alive:            inbox.Alive,
		Payer:            s.clients.Payer,
		OnWait:           onWait,
		Guard:            s.limits.Guard,
		Logger:           s.log,
	})
}

func (c *config) mailboxLimits() inbox.Limits {
	return inbox.Limits{
		Timeout:                seconds(c.inboxTimeout),
		Capacity:               int(c.inboxCapacity),
		MaxInboxes:             int(c.maxInboxes),
		MaxQueuedBytes:         c.maxQueuedBytes,
		MaxInboxesPerPayer:     int(c.maxInboxesPerIP),
		MaxQueuedBytesPerPayer: c.maxQueuedBytesPerIP,
	}
}

func (s *server) buildSource(dir string) (err error) {
	if !s.cfg.https {
		return nil
	}
	config := s.cfg.tlsmgrConfig(dir, s.listeners, s.log)
	if config.Shared = s.cfg.sharedCertificates(s.shared, s.log); config.Shared != nil {
		awaitReady(s.shared)
	}
	s.source, err = tlsmgr.New(config)
	if err == nil {
		s.health.addCheck("certificate", func() bool { return s.source.CheckValid(time.Now()) == nil })
	}
	if err == nil && s.selfSignedFingerprint() != "" && s.cfg.from["server-cert"]+s.cfg.from["server-key"] != "" {
		s.log.Warn("the files of -server-cert and -server-key do not exist; using a self-signed certificate")
	}
	return err
}

// acmeEngines are the values of -acme.
var acmeEngines = map[string]acme.NewEngine{"certmagic": certmagic.New, "autocert": autocert.New}

// tlsmgrConfig returns the configuration of the certificate manager, with the ports at
// which the CA reaches the given listeners.
func (c *config) tlsmgrConfig(dir string, ls listeners, log *slog.Logger) tlsmgr.Config {
	a := c.acme
	return tlsmgr.Config{
		CertFile: c.serverCert, KeyFile: c.serverKey, StateDir: dir, Logger: log, Domains: c.domains,
		ACME: acme.Config{
			Engine: acmeEngines[a.engine], Email: c.email, Agreed: a.agree,
			CA: a.ca.tlsmgrCA(), FallbackCA: a.second.tlsmgrCA(),
			Staging: a.staging, StagingFirst: a.stagingFirst, Profile: a.profile, WaitForAddress: a.preflight,
			ListenHost: hostOf(ls.main), TLSPort: portOf(ls.main), HTTPPort: portOf(ls.redirect),
			NoHTTP: ls.redirect == nil || a.challenge == "tls-alpn-01", NoTLS: a.challenge == "http-01",
		},
	}
}

func (o caOptions) tlsmgrCA() acme.CA {
	return acme.CA{URL: o.url, RootsFile: o.root, EABKeyID: o.keyID, EABKeyFile: o.keyFile}
}

// selfSignedFingerprint returns the fingerprint of the self-signed certificate, or "" if
// the server uses another certificate or none.
func (s *server) selfSignedFingerprint() string {
	if s.source == nil {
		return ""
	}
	state := s.source.State()[0] // there is always at least one
	if state.Source != "self-signed" || len(s.cfg.domains) > 0 {
		return ""
	}
	return state.Fingerprint
}

// pages returns the handler of the built-in pages or of a directory.
func (s *server) pages() (http.Handler, error) {
	options := public.Options{Logger: s.log}
	if s.cfg.cors || len(s.cfg.origins) > 0 {
		options.AllowOrigin = func(w http.ResponseWriter, r *http.Request) { s.handler.AllowOrigin(w, r) }
	}
	if s.cfg.usesEmbeddedPages() {
		s.log.Info("pages", "from", "built in")
		return public.Embedded(options), nil
	}
	dir := s.cfg.public
	pages, err := public.Dir(dir, options)
	if err != nil {
		return nil, fmt.Errorf("serve pages of -public: %w", err)
	}
	s.log.Info("pages", "from", dir)
	return pages, nil
}

// isPagesDir reports whether dir is a directory other than the source of the built-in
// pages. In a clone of this repository, the embedded pages are served instead, with
// their content security policy.
func isPagesDir(dir string) bool {
	info, err := os.Stat(dir)
	if err != nil || !info.IsDir() {
		return false
	}
	_, err = os.Stat(filepath.Join(dir, "public.go"))
	return err != nil
}

// route dispatches requests by path. For so few paths, a switch is faster than a mux.
func (s *server) route(pages http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.health.serving.Load() {
			w.Header().Set("Connection", "close") // over HTTP/2, net/http sends GOAWAY instead
		}
		switch r.URL.Path {
		case "/inbox", "/ice":
			s.handler.ServeHTTP(w, r)
		case "/healthz":
			healthz(w, r)
		case "/readyz":
			s.health.readyz(w, r)
		default:
			pages.ServeHTTP(w, r)
		}
	})
}

// corsForErrors adds CORS headers to error responses of layers in front of the mailbox
// handler and the modules, so that pages of allowed origins can read them.
func (s *server) corsForErrors(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/inbox" || r.URL.Path == "/ice" || public.IsModule(r.URL.Path) {
			s.handler.AllowOrigin(w, r)
		}
		next.ServeHTTP(w, r)
	})
}

func (s *server) buildMainServer(pages http.Handler) {
	handler := s.limits.Header.Handler(s.limits.Polls.Handler(s.route(pages)))
	if len(s.cfg.domains) > 0 {
		handler = tlsmgr.CheckHost(s.cfg.domains, isHealthCheck, handler)
	}
	handler = s.corsForErrors(s.limits.Requests.Handler(handler))
	if len(s.cfg.domains) > 0 {
		// A proxy in front can redirect the challenges of port 80 to https.
		handler = s.source.HSTS(s.source.HTTPHandler(handler))
	}
	handler = limitBody(s.timeouts.body, s.limits.Streams.Handler(handler))
	idle := s.timeouts.idle
	if s.source != nil { // long idle timeouts are needed for proxies, which rarely use TLS to the server
		idle = min(idle, idleTimeoutTLS)
		handler = conn.DelayReleaseHTTP2(idle, handler)
	}
	if s.meter != nil {
		handler = s.meter.Handler(metrics.RouteOf, handler)
	}
	s.mainServer = &http.Server{
		Handler:           handler,
		ConnContext:       conn.WithInfo,
		ConnState:         s.connTracker.OnState,
		ErrorLog:          s.errorLog.Logger(),
		ReadHeaderTimeout: s.timeouts.header, // also bounds the TLS handshake
		IdleTimeout:       idle,
		// WriteTimeout runs from the end of the request header, so it covers reading the
		// body, waiting, and writing the response.
		WriteTimeout:   s.timeouts.body + s.cfg.pollWait + s.timeouts.write,
		MaxHeaderBytes: int(s.cfg.maxHeaderSize),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 100,
			// Data that a client can send before a handler reads it, such as during a
			// held poll. The default of 1 MiB per connection would exhaust memory.
			MaxReceiveBufferPerConnection: 64 << 10,
			MaxReceiveBufferPerStream:     64 << 10,
			SendPingTimeout:               s.timeouts.header, // detects clients that vanished, or that never complete a header
			PingTimeout:                   s.timeouts.header / 2,
			WriteByteTimeout:              s.timeouts.write,
		},
	}
	// Otherwise net/http would answer OPTIONS * without rate limiting.
	s.mainServer.DisableGeneralOptionsHandler = true
}

// buildRedirectServer builds the server on port 80. ACME challenges are exempt from rate
// limiting; all other requests are not.
func (s *server) buildRedirectServer() {
	if s.listeners.redirect == nil {
		return
	}
	redirect := tlsmgr.Redirect(tlsmgr.RedirectConfig{Domains: s.cfg.domains, HTTPSPort: portOf(s.listeners.main), APIPaths: []string{"/inbox", "/ice"}})
	handler := limitBody(s.timeouts.body, s.source.HTTPHandler(s.limits.Requests.Handler(redirect)))
	if s.meter != nil {
		handler = s.meter.Handler(func(*http.Request) metrics.Route { return metrics.RouteRedirect }, handler)
	}
	s.redirectServer = &http.Server{
		Handler:           handler,
		ConnContext:       conn.WithInfo,
		ErrorLog:          s.errorLog.Logger(),
		ReadHeaderTimeout: s.timeouts.header,
		IdleTimeout:       s.timeouts.idle,
		WriteTimeout:      s.timeouts.body + s.timeouts.write,
		MaxHeaderBytes:    int(s.cfg.maxHeaderSize),
	}
	s.redirectServer.DisableGeneralOptionsHandler = true
}
