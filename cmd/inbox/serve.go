package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"inbox/cmd/inbox/internal/host"
	"inbox/cmd/inbox/internal/limits"
	"inbox/cmd/inbox/internal/logging"
	"inbox/cmd/inbox/internal/metrics"
	"inbox/cmd/inbox/internal/sdnotify"
	"inbox/cmd/inbox/internal/snapshot"
)

// serve binds the listeners, builds the server and serves until ctx is done. Binding
// comes first, because certificate orders depend on the ports that are open.
func serve(ctx context.Context, c *config, p process) error {
	log := logging.New(p.journalWriter(), c.level, c.logFormat == "json")
	sighup := make(chan os.Signal, 1)
	// Before mailboxes are loaded: an unhandled SIGHUP would end the process and lose them.
	signal.Notify(sighup, syscall.SIGHUP)
	defer signal.Stop(sighup)
	sockets, err := sdnotify.TakeSockets(p.getenv)
	if err != nil {
		return err
	}
	ls, err := listenAll(c, sockets, log)
	if err != nil {
		return err
	}
	s, err := newServer(c, p, ls, log)
	if err != nil {
		ls.close()
		return err
	}
	s.sighup = sighup
	defer s.close()
	if ctx.Err() != nil {
		log.Info("stopped before serving; the saved mailboxes are kept")
		ls.close()
		return nil
	}
	if s.snapshot != nil {
		if err := s.snapshot.MarkInUse(); err != nil {
			ls.close()
			return err
		}
	}
	// A separate filter: its errors are not client errors, which the metrics count.
	logging.NewErrorLog(log).CaptureStandardLog()
	s.announce(ls.main.Addr(), p.stderr)
	return s.run(ctx)
}

// run serves until ctx is done or a server fails, and then shuts down.
func (s *server) run(ctx context.Context) error {
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var background sync.WaitGroup
	defer background.Wait()
	defer cancel()
	// Before sweep starts, which requires all listeners to be registered.
	listener, redirect := s.wrapListener(s.withAcceptProbe(s.listeners.main), s.source != nil), net.Listener(nil)
	var tlsConfig *tls.Config
	if s.redirectServer != nil {
		redirect = s.wrapListener(s.withAcceptProbe(s.listeners.redirect), false)
	}
	background.Go(func() { s.sweep(inner) })
	background.Go(func() { host.NewScavenger().Run(inner) })
	if s.source != nil {
		background.Go(func() { s.source.Run(inner) })
		background.Go(func() { s.preflight(inner) })
		tlsConfig = s.source.TLSConfig()
		tlsConfig.VerifyConnection = s.handshakes.Count
	}
	if s.listeners.metrics != nil {
		background.Go(func() { s.serveMetrics(inner, s.listeners.metrics) })
	}
	failed := make(chan error, 2)
	background.Go(func() { failed <- s.conns.Serve(listener, tlsConfig) })
	if s.redirectServer != nil {
		background.Go(func() { failed <- s.redirectServer.Serve(redirect) })
	}
	s.health.serving.Store(true)
	s.notify.Ready(s.status())
	background.Go(func() { s.reload(inner) })
	background.Go(func() { s.runWatchdog(inner) })
	select {
	case err := <-failed:
		s.closeConns()
		s.closeRedirectServer()
		return errors.Join(fmt.Errorf("serve: %w", err), s.saveMailboxes())
	case <-ctx.Done():
	}
	return s.stop()
}

// reload reloads certificates on SIGHUP. While the server is stopping it ignores the
// signal, so that it does not notify systemd that it is ready.
func (s *server) reload(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.sighup:
			if !s.health.serving.Load() {
				continue
			}
			s.notify.Reloading()
			if s.source != nil {
				s.log.Info("reloading certificates")
				s.source.Reload()
			}
			s.notify.Ready(s.status())
		}
	}
}

func (s *server) closeRedirectServer() {
	if s.redirectServer != nil {
		s.redirectServer.Close()
	}
}

// close releases what newServer opened, apart from the listeners.
func (s *server) close() {
	if s.shared != nil {
		s.shared.Shutdown()
	}
	if s.snapshot != nil {
		s.snapshot.Close()
	}
}

// saveMargin is added to the stall timeout when asking the service manager for time,
// so that the error of a failed save is still reported.
const saveMargin = 15 * time.Second

// saveMailboxes saves the mailboxes for the next start. The service manager is asked
// for more time as long as the snapshot makes progress.
func (s *server) saveMailboxes() error {
	if s.snapshot == nil {
		return nil
	}
	extend := func() { s.notify.ExtendTimeout(s.timeouts.saveStall + saveMargin) }
	extend()
	return s.snapshot.Save(s.store, snapshot.Timeouts{Stall: s.timeouts.saveStall, Total: s.timeouts.save}, extend)
}

// stopMargin is the part of the shutdown time that is not for posts.
const stopMargin = 10 * time.Second

// stop closes the listeners, answers held polls with 204, waits for posts, closes the
// connections and saves the mailboxes, so the snapshot holds every accepted message. It
// uses a new context, because with the server's own, which is done, Shutdown would not
// wait.
func (s *server) stop() error {
	s.health.serving.Store(false)
	s.log.Info("stopping")
	s.notify.Stopping(s.timeouts.shutdown + stopMargin)
	ctx, cancel := context.WithTimeout(context.Background(), s.timeouts.shutdown)
	defer cancel()
	go s.awaitForceStop(ctx, cancel)
	s.drain(ctx)
	s.conns.CloseIdle(s.timeouts.drain / 2)
	s.closeRedirectServer() // redirects need no graceful shutdown
	if err := s.shutdown(ctx); err != nil {
		s.log.Warn("shutdown timeout exceeded, aborting the remaining requests", "err", err)
		s.closeConns()
	}
	err := s.saveMailboxes()
	s.log.Info("stopped", "refusedHandshakes", s.errorLog.Suppressed())
	return err
}

// drain closes the listeners and keeps answering requests for a short time before
// Shutdown, as of which net/http drops requests that it has just read. The responses
// close their connections. Half-way, idle HTTP/2 connections receive GOAWAY: its last
// stream ID tells a client that a later request was not processed and can be retried on
// the next server.
func (s *server) drain(ctx context.Context) {
	// The metrics listener stays open. Listeners passed by systemd are duplicates of
	// its sockets, where new connections wait for the next process.
	listeners{main: s.listeners.main, redirect: s.listeners.redirect}.close()
	if s.redirectServer != nil {
		s.redirectServer.SetKeepAlivesEnabled(false)
	}
	s.handler.EndPolls()
	pause(ctx, s.timeouts.drain/2)
	s.conns.GoAway()
	pause(ctx, s.timeouts.drain/2)
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// shutdown waits for in-flight requests until ctx is done. Server.Shutdown alone can take
// longer: it closes idle connections one by one, and a client that does not read can
// block it. GOAWAY and the closing of idle connections are repeated for connections whose
// TLS handshake completes during the shutdown.
func (s *server) shutdown(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- s.conns.Shutdown(ctx) }()
	ticker := time.NewTicker(max(s.timeouts.drain, 100*time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			s.conns.GoAway()
			s.conns.CloseIdle(s.timeouts.drain)
		}
	}
}

// closeTimeout bounds how long closing the connections can delay the exit.
const closeTimeout = time.Second

// closeConns closes all connections of the main listener.
func (s *server) closeConns() {
	closed := make(chan struct{})
	go func() { defer close(closed); s.conns.Close() }()
	select {
	case <-closed:
	case <-time.After(closeTimeout):
	}
}

// awaitForceStop cancels the wait for posts on a second signal.
func (s *server) awaitForceStop(ctx context.Context, cancel context.CancelFunc) {
	select {
	case <-ctx.Done():
	case <-s.process.forceStop:
		cancel()
	}
}

func (s *server) sweep(ctx context.Context) {
	ticker := time.NewTicker(seconds(s.cfg.cleanupInterval))
	defer ticker.Stop()
	var report limits.DryRunReport
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			s.store.Sweep()
			s.limits.Sweep(time.Now())
			report.Log(s.limits, s.log, time.Now())
		}
	}
}

// announce prints the banner and logs the addresses of the listeners.
func (s *server) announce(addr net.Addr, stderr io.Writer) {
	b := banner{scheme: "http", names: s.cfg.domains, network: networkAddrs(), fingerprint: s.selfSignedFingerprint(),
		inContainer: host.InContainer(s.process.getenv)}
	if s.source != nil {
		b.scheme = "https"
	}
	ap, err := netip.ParseAddrPort(addr.String())
	if err == nil { // otherwise a Unix socket, which browsers cannot open
		b.addr = ap
		s.warnPlainHTTP(ap.Addr())
		if s.cfg.logFormat == "text" {
			io.WriteString(stderr, b.String())
		}
	}
	s.warnBurst()
	if s.listeners.metrics != nil {
		s.log.Info("metrics", "addr", s.listeners.metrics.Addr().String())
	}
	s.log.Info("listening", "addr", addr.String(), "scheme", b.scheme)
}

// warnPlainHTTP warns that passwords are sent in clear text, unless a trusted proxy is
// configured or only this machine can connect.
func (s *server) warnPlainHTTP(addr netip.Addr) {
	if s.source == nil && !addr.IsLoopback() && len(s.cfg.proxies) == 0 {
		s.log.Warn("plain HTTP: passwords and messages are sent unencrypted; if a proxy terminates TLS, set " +
			"-trusted-proxies")
	}
}

// pageBurst is the number of requests of one page load, with its modules and first poll,
// plus a reserve.
const pageBurst = 24

// warnBurst warns of a burst that is too low for a page load.
func (s *server) warnBurst() {
	if s.cfg.rate > 0 && s.cfg.burst < pageBurst && !s.cfg.rateDryRun {
		s.log.Warn("-burst is too low for a page load: a browser's first requests are rejected and retried; "+
			"increase -burst, or disable the limit with -rate 0",
			"burst", s.cfg.burst, "atLeast", pageBurst)
	}
}

// metricsSources returns what the metrics are read from. It must not be called before the
// server is built.
func (s *server) metricsSources() metrics.Sources {
	sources := metrics.Sources{
		Version: buildVersion(), Failing: s.health.failing,
		MaxMemoryBytes: s.cfg.maxMemory, MaxInboxes: s.cfg.maxInboxes, MaxQueuedBytes: s.cfg.maxQueuedBytes, MaxConns: s.cfg.maxConns,
		Mailboxes: s.stats, Deliveries: s.handler.Deliveries, Refusals: s.refusals,
		Limits: s.limits, Errors: s.errorLog, Collectors: s.collectors,
	}
	if s.meter != nil {
		sources.Collectors = append(sources.Collectors, s.meter)
	}
	if s.source != nil {
		sources.Certificates = s.source.State
		sources.Collectors = append(sources.Collectors, &s.handshakes)
	}
	return sources
}

// refusals returns the number of refused requests by type of problem, of the mailboxes and of
// the host check. Refusals by limits are counted by limit.
func (s *server) refusals() map[string]int64 {
	counts := s.handler.Refusals()
	if s.meter != nil {
		counts["misdirected-request"] = s.meter.Responses(http.StatusMisdirectedRequest)
	}
	return counts
}

// serveMetrics serves the metrics listener until ctx is done.
func (s *server) serveMetrics(ctx context.Context, l net.Listener) {
	server := metrics.NewAdminServer(metrics.AdminConfig{
		Sources: s.metricsSources(), Hosts: s.cfg.metricsNames, ErrorLog: s.errorLog.Logger(),
		HeaderTimeout: s.timeouts.header, IdleTimeout: s.timeouts.idle,
	})
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		s.log.Error("serve metrics", "err", err)
	}
}
