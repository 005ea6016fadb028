package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"inbox/cmd/inbox/systemd"
	"inbox/inbox"
	"inbox/inbox/redisstore"
	"inbox/public"
	"inbox/ratelimit"
	"inbox/tlsmgr"
	"inbox/tlsmgr/acme"
	"inbox/tlsmgr/acme/autocert"
	"inbox/tlsmgr/acme/certmagic"
)

// server is the program, built but not yet serving.
type server struct {
	cfg        *config
	timeouts   timeouts
	log        *slog.Logger
	errorLog   *errorLogFilter
	snapshot   *snapshotFile
	store      *inbox.Memory
	shared     *redisstore.Store // instead of it; nil without -store
	handler    *inbox.Handler
	clients    *clientResolver
	limits     *limits
	source     certManager // nil over plain HTTP
	process    process
	listeners  listeners
	mainServer *http.Server
	h2Shutdown *http.Server // its Shutdown says goodbye to connections of HTTP/2

	health     health
	meter      *meter                 // nil when nobody reads it
	handshakes handshakeCounts        // of the main listener
	collectors []prometheus.Collector // what other parts show in the metrics; added while building

	// oversizedHeaders counts headers beyond -max-header-size.
	oversizedHeaders atomic.Int64
	redirectServer   *http.Server // on port 80; nil without -domain
	notify           *systemd.Notifier
	sighup           <-chan os.Signal
	connTracker      connTracker    // of the main listener
	acceptProbes     []*acceptProbe // of the listeners, for the watchdog
}

// newServer makes the rooms in order, from the innermost.
func newServer(c *config, p process, ls listeners, log *slog.Logger) (*server, error) {
	s := &server{cfg: c, timeouts: p.timeouts, log: log, process: p, listeners: ls}
	if err := s.wire(); err != nil {
		s.closeStore()
		return nil, err
	}
	return s, nil
}

func (s *server) wire() error {
	c := s.cfg
	s.errorLog = &errorLogFilter{log: s.log}
	s.notify = systemd.NewNotifier(s.process.getenv, s.log)
	if err := c.checkPagesDir(s.process.environ); err != nil {
		return err
	}
	dir := stateDir(c, s.process.environ, s.log)
	key, err := c.passwordHashKey(dir)
	if err != nil {
		return err
	}
	s.clients = newClientResolver(&ratelimit.ClientIP{Trusted: c.proxies, Header: c.clientHeader, Logger: s.log}, deriveKey(key, "payers"))
	s.limits = newLimits(c, s.clients)
	s.limits.handshakes.Timeout = s.timeouts.header
	s.buildMeter()
	if len(c.unknownVars) > 0 {
		s.log.Debug("variables that are no option", "names", c.unknownVars)
	}
	s.openStore()
	if err := s.buildSource(dir); err != nil {
		return err
	}
	pages, err := s.pages()
	if err != nil {
		return err
	}
	// From here on nothing fails that would have to close the archive.
	if c.store.shared() {
		dir = "" // what this server holds in memory is nothing
	}
	s.snapshot = openSnapshotFile(dir, deriveKey(key, "snapshots"), s.timeouts.shutdown+stopMargin, s.process.done, s.log)
	s.collectors = append(s.collectors, s.snapshot)
	s.buildMailboxes(key)
	s.buildMainServer(pages)
	if err := s.configureHTTP2(); err != nil {
		return err
	}
	s.buildRedirectServer()
	return nil
}

func (s *server) buildMailboxes(key []byte) {
	c := s.cfg
	s.store = s.snapshot.load(c.mailboxLimits())
	store := inbox.Store(s.store)
	if s.shared != nil {
		store = s.shared
	}
	s.handler = inbox.NewHandler(inbox.Config{
		Store:        store,
		Secret:       key,
		PollTimeout:  c.pollWait,
		MaxBodyBytes: c.maxBodySize,
		WriteTimeout: s.timeouts.write,
		// The queue, the bodies on their way and the connections may each take
		// a third of the memory.
		MaxInFlightBytes: c.maxQueuedBytes,
		AnyOrigin:        c.cors,
		Origins:          c.origins,
		ICEServers:       c.ice,
		Alive:            alive,
		Payer:            s.clients.payer,
		OnWait:           s.meter.onWait(),
		Guard:            s.limits.guard,
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
	manager, err := tlsmgr.New(config)
	if err != nil {
		return err
	}
	s.source = manager
	if s.selfSignedFingerprint() != "" && s.cfg.from["server-cert"]+s.cfg.from["server-key"] != "" {
		s.log.Warn("the files of -server-cert and -server-key do not exist, so a self-signed certificate serves")
	}
	return err
}

// certManager is a *tlsmgr.Manager, or its state alone in a test.
type certManager interface {
	TLSConfig() *tls.Config
	HTTPHandler(fallback http.Handler) http.Handler
	HSTS(next http.Handler) http.Handler
	Run(ctx context.Context) error
	Reload()
	State() []tlsmgr.NameState
}

// acmeEngines are the values of -acme.
var acmeEngines = map[string]acme.NewEngine{"certmagic": certmagic.New, "autocert": autocert.New}

// tlsmgrConfig says where certificates come from, and how an authority
// reaches the doors that are open.
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

// selfSignedFingerprint is the fingerprint of a self-signed certificate that serves, else empty.
func (s *server) selfSignedFingerprint() string {
	if s.source == nil {
		return ""
	}
	state := s.source.State()[0] // a certificate is for one name at least
	if state.Source != "self-signed" || len(s.cfg.domains) > 0 {
		return ""
	}
	return state.Fingerprint
}

// pages chooses between the built-in pages and a directory.
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
		return nil, fmt.Errorf("serve the pages of -public: %w", err)
	}
	s.log.Info("pages", "from", dir)
	return pages, nil
}

// isPagesDir is true for a directory, unless it is the source of the built-in
// pages: in a clone of this repository those are meant, with their policy.
func isPagesDir(dir string) bool {
	info, err := os.Stat(dir)
	if err != nil || !info.IsDir() {
		return false
	}
	_, err = os.Stat(filepath.Join(dir, "public.go"))
	return err != nil
}

// route finds the room for a path. There are few: a table would cost more.
func (s *server) route(pages http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.health.serving.Load() {
			w.Header().Set("Connection", "close") // over HTTP/2, too, it means to go
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

// corsForErrors lets the pages of allowed origins read refusals that come
// before the mailbox handler and the modules.
func (s *server) corsForErrors(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/inbox" || r.URL.Path == "/ice" || public.IsModule(r.URL.Path) {
			s.handler.AllowOrigin(w, r)
		}
		next.ServeHTTP(w, r)
	})
}

func (s *server) buildMainServer(pages http.Handler) {
	handler := limitHeader(s.cfg.maxHeaderSize, &s.oversizedHeaders, s.limits.polls.Handler(s.route(pages)))
	if len(s.cfg.domains) > 0 {
		handler = tlsmgr.CheckHost(s.cfg.domains, isHealthCheck, handler)
	}
	handler = s.corsForErrors(s.limits.requests.Handler(handler))
	if len(s.cfg.domains) > 0 {
		handler = s.source.HSTS(handler)
	}
	handler = limitBody(s.timeouts.body, s.limits.streams.Handler(handler))
	idle := s.timeouts.idle
	if s.source != nil { // a proxy, which keeps connections for longer, seldom speaks TLS to us
		idle = min(idle, idleTimeoutTLS)
		handler = delayReleaseHTTP2(idle, handler)
	}
	handler = s.meter.handler(routeOf, handler)
	s.mainServer = &http.Server{
		Handler:           handler,
		ConnContext:       withConnInfo,
		ConnState:         s.connTracker.onState,
		ErrorLog:          s.errorLog.logger(),
		ReadHeaderTimeout: s.timeouts.header, // and for the TLS handshake
		IdleTimeout:       idle,
		// It counts from the end of the header: a body, then a wait, then the answer.
		WriteTimeout:   s.timeouts.body + s.cfg.pollWait + s.timeouts.write,
		MaxHeaderBytes: int(s.cfg.maxHeaderSize),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 100,
			// What a client may send before anybody reads it, as with a held
			// poll: the default of 1 MiB for each connection is a hole.
			MaxReceiveBufferPerConnection: 64 << 10,
			MaxReceiveBufferPerStream:     64 << 10,
			SendPingTimeout:               s.timeouts.header, // finds those who left without a word, or send a header for ever
			PingTimeout:                   s.timeouts.header / 2,
			WriteByteTimeout:              s.timeouts.write,
		},
	}
	// Else net/http answers OPTIONS * itself, which costs no token.
	s.mainServer.DisableGeneralOptionsHandler = true
}

// buildRedirectServer makes the server on port 80. The authority's challenges cost no
// token; everything else does.
func (s *server) buildRedirectServer() {
	if s.listeners.redirect == nil {
		return
	}
	redirect := tlsmgr.Redirect(tlsmgr.RedirectConfig{Domains: s.cfg.domains, HTTPSPort: portOf(s.listeners.main), APIPaths: []string{"/inbox", "/ice"}})
	handler := limitBody(s.timeouts.body, s.source.HTTPHandler(s.limits.requests.Handler(redirect)))
	handler = s.meter.handler(func(*http.Request) route { return routeRedirect }, handler)
	s.redirectServer = &http.Server{
		Handler:           handler,
		ConnContext:       withConnInfo,
		ErrorLog:          s.errorLog.logger(),
		ReadHeaderTimeout: s.timeouts.header,
		IdleTimeout:       s.timeouts.idle,
		WriteTimeout:      s.timeouts.body + s.timeouts.write,
		MaxHeaderBytes:    int(s.cfg.maxHeaderSize),
	}
	s.redirectServer.DisableGeneralOptionsHandler = true
}
