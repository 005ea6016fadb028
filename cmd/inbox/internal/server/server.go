// Package server builds the server from its configuration and runs it. newServer wires
// the components. listeners.go lists the layers of a listener, middleware.go those of a
// request, and lifecycle.go the steps of a run and of a shutdown.
package server

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"time"

	"inbox/cmd/inbox/internal/access"
	"inbox/cmd/inbox/internal/compat"
	"inbox/cmd/inbox/internal/config"
	"inbox/cmd/inbox/internal/conn"
	"inbox/cmd/inbox/internal/limits"
	"inbox/cmd/inbox/internal/logging"
	"inbox/cmd/inbox/internal/metrics"
	"inbox/cmd/inbox/internal/operator"
	"inbox/cmd/inbox/internal/proxywarn"
	"inbox/cmd/inbox/internal/relaynodes"
	"inbox/cmd/inbox/internal/sdnotify"
	"inbox/cmd/inbox/internal/state"
	"inbox/inbox"
	"inbox/inbox/redisstore"
	"inbox/public"
	"inbox/ratelimit"
	"inbox/tlsmgr"

	"github.com/prometheus/client_golang/prometheus"
)

// Process is the environment in which the server runs.
type Process struct {
	// Version is the version of the program, for the metrics.
	Version string
	// Getenv looks up environment variables, like [os.Getenv].
	Getenv func(name string) string
	// Stderr receives the log and the banner.
	Stderr io.Writer
	// Columns is the width of the terminal that Stderr is; 0 if it is none.
	Columns int
	// Terminal reports whether Stderr is a terminal, and Colour whether the log can be coloured.
	Terminal, Colour bool
	// ForceStop is closed when the shutdown must not wait for requests; nil means never.
	ForceStop <-chan struct{}
	// Timeouts are usually [DefaultTimeouts].
	Timeouts Timeouts

	warnings *logging.Recent // of the log
}

// server is a server that is ready to run.
type server struct {
	cfg      *config.Config
	process  Process
	timeouts Timeouts
	log      *slog.Logger

	errorLog  *logging.ErrorLog
	notify    *sdnotify.Notifier
	health    *health
	addresses *addresses
	mailboxes *mailboxes
	handler   *inbox.Handler
	compat    *compat.Protocols
	limits    *limits.Limits
	access    *access.Access  // nil: the server is open
	certs     *tlsmgr.Manager // nil over plain HTTP
	meters    *meters
	proxies   *proxywarn.Warnings
	relay     *relay             // nil: off
	operator  *operator.Operator // nil without a listener for metrics

	main     *endpoint
	redirect *endpoint // nil without a listener for HTTP
	admin    *endpoint // nil without a listener for metrics

	conns *conn.Server // serves the connections of main

	http2Refuser *conn.HTTP2Refuser // of the listeners without TLS
}

// newServer builds the components in the order of their dependencies. A closed stopping
// channel ends the wait for the state directory of another server. On an error
// everything that was opened is closed, except the sockets.
func newServer(cfg *config.Config, p Process, bound sockets, stopping <-chan struct{}, log *slog.Logger) (_ *server, err error) {
	s := &server{cfg: cfg, process: p, timeouts: p.Timeouts, log: log, mailboxes: &mailboxes{}, http2Refuser: &conn.HTTP2Refuser{}}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	s.errorLog = logging.NewErrorLog(log)
	s.notify = sdnotify.NewNotifier(p.Getenv, log)
	stateDir, key, err := state.Open(cfg, log)
	if err != nil {
		return nil, err
	}
	clientIP := &ratelimit.ClientIP{Trusted: cfg.TrustedProxies, Header: cfg.ClientHeader, OnUntrusted: warnUntrustedProxy(log)}
	s.proxies = &proxywarn.Warnings{Log: log, ClientIP: clientIP, ProxyProtocol: cfg.ProxyProtocol}
	clients := conn.NewClientResolver(clientIP, state.DeriveKey(key, "payers"))
	s.limits = newLimits(cfg, p.Timeouts, clientIP, clients)
	s.meters = newMeters(log, clients.Addr, bound.metrics != nil)
	if cfg.Store != nil {
		s.mailboxes.shared = openStore(cfg, s.meters.store, log)
	}
	if cfg.HTTPS {
		if s.certs, err = openCertificates(cfg, stateDir, bound, s.mailboxes.shared, log); err != nil {
			return nil, err
		}
	}
	if cfg.Store == nil {
		s.mailboxes.load(cfg.Mailboxes, stateDir, state.DeriveKey(key, "snapshots"), p.Timeouts.Shutdown+stopMargin, stopping, log)
	}
	payer, err := s.openAccess(stateDir, clients)
	if err != nil {
		return nil, err
	}
	if cfg.TURN != nil { // after the mailboxes: another server saves its ledger before them
		if s.relay, err = s.openRelay(bound, stateDir, key, clients, payer); err != nil {
			return nil, err
		}
	}
	s.health = newHealth(s.mailboxes.shared, s.certs)
	s.handler = newHandler(cfg, p.Timeouts, s.mailboxes.store(), key, clients, s.meters.requests, s.limits, s.relay, s.access, log)
	parts := compat.Parts{
		Store: s.mailboxes.store(), Secret: state.DeriveKey(key, "compat"), BodyTimeout: p.Timeouts.Body, WriteTimeout: p.Timeouts.Write,
		Clients: clients, Limits: s.limits, Log: log,
	}
	if s.access != nil {
		parts.Access = s.access.Access
		s.access.OnCheck(s.handler.CheckAccess)
	}
	s.compat = compat.New(cfg, parts)
	if bound.metrics != nil {
		s.operator = s.newOperator(stateDir)
	}
	return s, s.buildEndpoints(bound)
}

// openAccess opens the invitations of a private server, and returns whom requests count against.
func (s *server) openAccess(stateDir string, clients *conn.ClientResolver) (payer func(*http.Request) inbox.Payer, err error) {
	s.access, err = access.Open(s.cfg, access.Parts{
		StateDir: stateDir, Shared: s.mailboxes.shared, Store: s.mailboxes.store(), Payer: clients.Payer, CrossSiteDetail: crossSiteDetail, Log: s.log,
		OnEnd: func(owner string) {
			if s.relay != nil {
				s.relay.claimEnded(owner)
			}
		},
	})
	if err != nil || s.access == nil {
		return clients.Payer, err
	}
	return s.access.Payer, nil
}

// openRelay opens the relay with the secret of the state directory, or of the nodes of a store.
func (s *server) openRelay(bound sockets, stateDir string, key []byte, clients *conn.ClientResolver, payer func(*http.Request) inbox.Payer) (*relay, error) {
	parts := relayParts{
		secret: key, stateDir: stateDir, socket: bound.turn, selfSigned: selfSignedFingerprint(s.cfg, s.certs) != "",
		limits: s.limits, payer: payer, client: clients.Addr, onLocal: s.proxies.OnLocalHost,
	}
	if s.cfg.Store != nil {
		parts.secret, parts.nodes = s.cfg.Store.Key, relaynodes.New(s.mailboxes.shared, redisstore.Prefix, s.log)
	}
	return openRelay(s.cfg.TURN, parts, s.log)
}

// buildEndpoints puts servers on the bound sockets.
func (s *server) buildEndpoints(bound sockets) error {
	pages, err := openPages(s.cfg, s.handler.AllowOrigin, s.log)
	if err != nil {
		return err
	}
	if s.cfg.PagesDir != "" {
		pages = s.limits.Files.Handler(pages)
	}
	proxies := s.proxies
	s.errorLog.OnHandshakeError = proxies.OnHandshakeError
	s.addresses = &addresses{
		site: newSite(s.cfg, bound.main, s.process), network: networkAddrs,
		behindProxy: len(s.cfg.TrustedProxies) > 0 || s.cfg.ProxyProtocol, clientHeader: s.cfg.ClientHeader,
	}
	layers := stack{
		domains: s.cfg.Domains, timeouts: s.timeouts, certs: s.certs, limits: s.limits, meter: s.meters.requests,
		allowOrigin: s.handler.AllowOrigin, compat: s.compat, proxies: proxies, isForAnyHost: s.isForAnyHost, http2Refuser: s.http2Refuser,
	}
	errorLog := s.errorLog.Logger()
	var tlsConfig *tls.Config
	if s.certs != nil {
		tlsConfig = s.certs.TLSConfig()
		tlsConfig.VerifyConnection = s.meters.handshakes.Count
	}
	if pages = s.compat.Handler(pages); s.access != nil {
		pages = s.access.Handler(pages)
	}
	h := layers.mainHandler(newRoutes(s.handler, s.health, s.addresses, pages))
	s.main = &endpoint{socket: bound.main, server: newMainServer(s.cfg, s.timeouts, h, errorLog)}
	s.main.listener, s.main.probe = wrapListener(bound.main, s.limits, proxies, tlsConfig != nil)
	var serveTURN func(net.Conn)
	if s.relay != nil && s.relay.server != nil {
		serveTURN = s.relay.serveConn
	}
	if s.conns, err = conn.NewServer(s.main.server, tlsConfig, s.limits.Frames, s.limits.Unfinished, serveTURN); err != nil {
		return err
	}
	if bound.redirect != nil {
		httpsPort := portOf(bound.main)
		if s.cfg.ProxyProtocol {
			httpsPort = 443 // of the proxy
		}
		h := layers.redirectHandler(httpsPort)
		s.redirect = &endpoint{socket: bound.redirect, server: newRedirectServer(s.cfg, s.timeouts, h, errorLog)}
		s.redirect.listener, s.redirect.probe = wrapListener(bound.redirect, s.limits, proxies, false)
	}
	if bound.metrics != nil {
		s.admin = s.newAdminEndpoint(bound.metrics, errorLog)
	}
	return nil
}

func (s *server) newAdminEndpoint(socket net.Listener, errorLog *log.Logger) *endpoint {
	limiter := ratelimit.NewConnLimiter(ratelimit.ConnLimits{Max: metrics.MaxAdminConns}, &ratelimit.ClientIP{})
	return &endpoint{
		socket: socket, listener: conn.LazyListener(limiter.Listener(socket), s.limits.Writes, nil),
		server: metrics.NewAdminServer(metrics.AdminConfig{
			Sources: s.metricsSources(), Hosts: s.cfg.MetricsHosts, Pages: s.operator.Handlers(), ErrorLog: errorLog,
			HeaderTimeout: s.timeouts.Header, WriteTimeout: s.timeouts.Write, IdleTimeout: s.timeouts.Idle,
		}),
	}
}

// isForAnyHost reports whether a request is answered whatever its host is.
func (s *server) isForAnyHost(r *http.Request) bool {
	return isHealthCheck(r) || r.URL.Path == addressesPath && s.addresses.allowed(r)
}

// metricsSources returns what the metrics listener exports.
func (s *server) metricsSources() metrics.Sources {
	sources := metrics.Sources{
		Version: s.process.Version, Failing: s.health.failing,
		MaxMemoryBytes: s.cfg.MaxMemoryBytes, MaxConns: int64(s.cfg.MaxConns), MaxConnBytes: s.cfg.MaxConnBytes, MaxStreams: int64(s.cfg.MaxStreams),
		MaxInboxes: int64(s.cfg.Mailboxes.MaxInboxes), MaxQueuedBytes: s.cfg.Mailboxes.MaxQueuedBytes,
		Mailboxes: s.mailboxes.stats, Claims: s.handler.Claims, Receivers: s.handler.Receivers,
		Refusals: s.refusals, Sockets: s.compat.Sockets,
		Limits: s.limits, Errors: s.errorLog,
		Collectors: []prometheus.CollectorFunc{metrics.CollectRestored(s.mailboxes.restored), s.meters.requests.Collect, s.compat.Collect},
	}
	if s.mailboxes.shared != nil {
		sources.Collectors = append(sources.Collectors, s.meters.store.Collector(s.mailboxes.shared))
	}
	if s.access != nil {
		sources.Collectors = append(sources.Collectors, s.access.Collect)
	}
	if s.relay != nil && s.relay.server != nil {
		sources.Collectors = append(sources.Collectors, metrics.CollectTURN(s.relay.server.State, s.relay.socketState))
	}
	if s.certs != nil {
		sources.Certificates = s.certs.State
		sources.Collectors = append(sources.Collectors, s.meters.handshakes.Collect)
	}
	return sources
}

// operatorSources returns what the operator's page and the hourly summary are made of.
func (s *server) operatorSources() operator.Sources {
	sources := operator.Sources{Sources: s.metricsSources(), Restored: s.mailboxes.restored, Started: time.Now(), Warnings: s.process.warnings}
	if s.relay != nil && s.relay.server != nil {
		sources.TURN = s.relay.server.State
	}
	if s.access != nil {
		sources.Invitations = s.access.Stats
	}
	return sources
}

// newOperator returns the state for the operator's page, and records the start.
func (s *server) newOperator(stateDir string) *operator.Operator {
	sources := s.operatorSources()
	var err error
	if sources.Earlier, err = operator.RecordStart(stateDir, sources.Started); err != nil {
		s.log.Debug("record the start", "err", err)
	}
	return operator.New(sources)
}

// close releases what newServer opened, apart from the sockets.
func (s *server) close() {
	if s.relay != nil {
		s.relay.close()
	}
	s.mailboxes.close()
}

func warnUntrustedProxy(log *slog.Logger) func(header string) {
	return func(header string) {
		log.Warn("a private address sends " + header + " but is not trusted; if it is a proxy, add it to -trusted-proxies: otherwise all its clients count as one")
	}
}

func newLimits(cfg *config.Config, t Timeouts, clientIP *ratelimit.ClientIP, clients *conn.ClientResolver) *limits.Limits {
	return limits.New(limits.Config{
		Rate: cfg.Rate, Burst: cfg.Burst, ConnRate: cfg.ConnRate,
		MaxConns: cfg.MaxConns, MaxStreams: cfg.MaxStreams, MaxConnsPerIP: cfg.MaxConnsPerIP,
		MaxConnBytes: cfg.MaxConnBytes, HTTPConnBytes: config.HTTPConnBytes, WebSocketBytes: config.WebSocketBytes,
		MaxTarpitted: cfg.Files.Tarpitted, PageFiles: cfg.Files.Pages,
		MaxMemoryBytes: cfg.MaxMemoryBytes, MaxHeaderBytes: cfg.MaxHeaderBytes,
		OwnerTTL: cfg.Mailboxes.Timeout, HandshakeTimeout: t.Header, WriteTimeout: t.Write,
		Exempt: exemptHealthChecks(clients), DryRun: cfg.DryRun,
	}, clientIP, clients)
}

// crossSiteDetail tells a page of another site how it could use the server.
const crossSiteDetail = "Its operator can allow them with -cors or -cors-origins."

func newHandler(cfg *config.Config, t Timeouts, store inbox.Store, key []byte, clients *conn.ClientResolver,
	meter *metrics.Meter, lim *limits.Limits, relay *relay, private *access.Access, log *slog.Logger) *inbox.Handler {
	c := inbox.Config{
		Store:        store,
		Shared:       cfg.Store != nil,
		Secret:       key,
		Path:         mailboxPath,
		ICEPath:      icePath,
		PollTimeout:  cfg.PollTimeout,
		Heartbeat:    cfg.Heartbeat,
		Capacity:     cfg.Mailboxes.Capacity,
		MaxBodyBytes: cfg.MaxBodyBytes,
		WriteTimeout: t.Write,
		// A twelfth of the memory at most.
		MaxInFlightBytes: cfg.MaxInFlightBytes,
		AnyOrigin:        cfg.AnyOrigin,
		Origins:          cfg.Origins,
		CrossSiteDetail:  crossSiteDetail,
		ICEServers:       cfg.ICEServers,
		Alive:            inbox.Alive,
		Payer:            clients.Payer,
		ClientFields:     clients.Fields(),
		HelloTimeout:     t.Header,
		BodyTimeout:      t.Body,
		Enter:            lim.Polls.Enter,
		Throttle:         lim.Requests.Delay,
		OnFrameDelay:     lim.FrameDelays.Add,
		Guard:            lim.Guard,
		CodePrefix:       access.CodePrefix,
		Logger:           log,
	}
	if meter != nil {
		c.OnWait = meter.OnWait
	}
	if private != nil {
		c.Access, c.Payer = private, private.Payer
	}
	if relay != nil {
		c.TURN, c.OnDelete = relay.servers, relay.ownerDeleted
	}
	return inbox.NewHandler(c)
}

// openPages returns the handler of the built-in pages or of a directory.
func openPages(cfg *config.Config, allowOrigin func(http.ResponseWriter, *http.Request), log *slog.Logger) (http.Handler, error) {
	options := public.Options{Logger: log}
	if cfg.AnyOrigin || len(cfg.Origins) > 0 {
		options.AllowOrigin = allowOrigin
	}
	if cfg.PagesDir == "" {
		log.Info("pages", "from", "built in")
		return public.Embedded(options), nil
	}
	pages, err := public.Dir(cfg.PagesDir, options)
	if err != nil {
		return nil, fmt.Errorf("serve pages of -public: %w", err)
	}
	log.Info("pages", "from", cfg.PagesDir)
	return pages, nil
}
