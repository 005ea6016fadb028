// Package server builds the server from its configuration and runs it. newServer wires
// the components. listeners.go lists the layers of a listener, middleware.go those of a
// request, and lifecycle.go the steps of a run and of a shutdown.
package server

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"inbox/cmd/inbox/internal/config"
	"inbox/cmd/inbox/internal/conn"
	"inbox/cmd/inbox/internal/limits"
	"inbox/cmd/inbox/internal/logging"
	"inbox/cmd/inbox/internal/metrics"
	"inbox/cmd/inbox/internal/sdnotify"
	"inbox/inbox"
	"inbox/public"
	"inbox/ratelimit"
	"inbox/tlsmgr"
)

// Process is the environment in which the server runs.
type Process struct {
	// Version is the version of the program, for the metrics.
	Version string
	// Getenv looks up environment variables, like [os.Getenv].
	Getenv func(name string) string
	// Stderr receives the log and the banner.
	Stderr io.Writer
	// ForceStop is closed when the shutdown must not wait for posts; nil means never.
	ForceStop <-chan struct{}
	// Timeouts are usually [DefaultTimeouts].
	Timeouts Timeouts
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
	mailboxes *mailboxes
	handler   *inbox.Handler
	limits    *limits.Limits
	certs     *tlsmgr.Manager // nil over plain HTTP
	meters    *meters

	main     *endpoint
	redirect *endpoint // nil without a listener for HTTP
	admin    *endpoint // nil without a listener for metrics

	sendGoAway  *http.Server // its Shutdown sends GOAWAY on HTTP/2 connections
	connTracker *conn.Tracker
}

// newServer builds the components in the order of their dependencies. A closed stopping
// channel ends the wait for the state directory of another server. On an error
// everything that was opened is closed, except the sockets.
func newServer(cfg *config.Config, p Process, bound sockets, stopping <-chan struct{}, log *slog.Logger) (_ *server, err error) {
	s := &server{cfg: cfg, process: p, timeouts: p.Timeouts, log: log, mailboxes: &mailboxes{}, health: &health{}, connTracker: &conn.Tracker{}}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if len(cfg.UnknownVars) > 0 {
		log.Debug("ignoring unknown environment variables", "names", cfg.UnknownVars)
	}
	s.errorLog = logging.NewErrorLog(log)
	s.notify = sdnotify.NewNotifier(p.Getenv, log)
	stateDir := openStateDir(cfg.StateDir, log)
	key, err := passwordHashKey(cfg, stateDir)
	if err != nil {
		return nil, err
	}
	clientIP := &ratelimit.ClientIP{Trusted: cfg.TrustedProxies, Header: cfg.ClientHeader, OnUntrusted: warnUntrustedProxy(log)}
	clients := conn.NewClientResolver(clientIP, deriveKey(key, "payers"))
	s.limits = newLimits(cfg, p.Timeouts, clientIP, clients)
	s.meters = newMeters(log, clients.Addr, bound.metrics != nil)
	if cfg.Store != nil {
		s.mailboxes.shared = openStore(cfg, s.meters.store, log)
		s.health.addCheck("store", func() bool { return s.mailboxes.shared.Ready() == nil })
	}
	if cfg.HTTPS {
		if s.certs, err = openCertificates(cfg, stateDir, bound, s.mailboxes.shared, log); err != nil {
			return nil, err
		}
	}
	if cfg.Store == nil {
		s.mailboxes.load(cfg.Mailboxes, stateDir, deriveKey(key, "snapshots"), p.Timeouts.Shutdown+stopMargin, stopping, log)
	}
	s.handler = newHandler(cfg, p.Timeouts, s.mailboxes.store(), key, clients, s.meters.requests, s.limits.Guard, log)
	pages, err := openPages(cfg, s.handler.AllowOrigin, log)
	if err != nil {
		return nil, err
	}
	s.main = s.newMainEndpoint(bound.main, pages, clientIP)
	if s.sendGoAway, err = conn.ConfigureHTTP2(s.main.server, s.limits.Frames, s.connTracker); err != nil {
		return nil, err
	}
	if bound.redirect != nil {
		s.redirect = s.newRedirectEndpoint(bound.redirect, portOf(bound.main), clientIP)
	}
	if bound.metrics != nil {
		s.admin = s.newAdminEndpoint(bound.metrics)
	}
	return s, nil
}

// close releases what newServer opened, apart from the sockets.
func (s *server) close() { s.mailboxes.close() }

func warnUntrustedProxy(log *slog.Logger) func(header string) {
	return func(header string) {
		log.Warn("a private address sends " + header + " but is not trusted; if it is a proxy, add it to -trusted-proxies: otherwise all its clients count as one")
	}
}

func newLimits(cfg *config.Config, t Timeouts, clientIP *ratelimit.ClientIP, clients *conn.ClientResolver) *limits.Limits {
	return limits.New(limits.Config{
		Rate: cfg.Rate, Burst: cfg.Burst, ConnRate: cfg.ConnRate,
		MaxConns: cfg.MaxConns, MaxConnsPerIP: cfg.MaxConnsPerIP, MaxHeaderBytes: cfg.MaxHeaderBytes,
		OwnerTTL: cfg.Mailboxes.Timeout, HandshakeTimeout: t.Header,
		Exempt: exemptHealthChecks(clients), DryRun: cfg.DryRun,
	}, clientIP, clients)
}

func newHandler(cfg *config.Config, t Timeouts, store inbox.Store, key []byte, clients *conn.ClientResolver,
	meter *metrics.Meter, guard inbox.Guard, log *slog.Logger) *inbox.Handler {
	c := inbox.Config{
		Store:        store,
		Secret:       key,
		Path:         mailboxPath,
		ICEPath:      icePath,
		PollTimeout:  cfg.PollTimeout,
		MaxBodyBytes: cfg.MaxBodyBytes,
		WriteTimeout: t.Write,
		// Queued messages, in-flight bodies and connections each get a third of
		// the memory.
		MaxInFlightBytes: cfg.Mailboxes.MaxQueuedBytes,
		AnyOrigin:        cfg.AnyOrigin,
		Origins:          cfg.Origins,
		CrossSiteDetail:  "Its operator can allow them with -cors or -cors-origins.",
		ICEServers:       cfg.ICEServers,
		Alive:            inbox.Alive,
		Payer:            clients.Payer,
		Guard:            guard,
		Logger:           log,
	}
	if meter != nil {
		c.OnWait = meter.OnWait
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
