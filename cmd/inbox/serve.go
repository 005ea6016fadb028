package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"inbox/cmd/inbox/internal/host"
	"inbox/cmd/inbox/internal/sdnotify"
)

// serve binds, builds the rooms, and serves until ctx ends. Binding comes
// first: who asks for a certificate must know which doors are open.
func serve(ctx context.Context, c *config, p process) error {
	log := newLogger(c, p.journalWriter())
	sighup := make(chan os.Signal, 1)
	signal.Notify(sighup, syscall.SIGHUP) // from the start: a hangup must not end a program that has taken up mailboxes
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
	defer s.snapshot.close()
	defer s.closeStore()
	if ctx.Err() != nil {
		log.Info("stopped before it began: what was saved stays saved")
		ls.close()
		return nil
	}
	if err := s.snapshot.markInUse(); err != nil {
		ls.close()
		return err
	}
	(&errorLogFilter{log: log}).captureStandardLog() // of its own: it is no client of ours that the meter counts
	s.announce(ls.main.Addr(), p.stderr)
	return s.run(ctx)
}

// run serves until ctx ends or a server fails, then stops in order.
func (s *server) run(ctx context.Context) error {
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var background sync.WaitGroup
	defer background.Wait()
	defer cancel()
	listener, redirect := s.wrapListener(s.withAcceptProbe(s.listeners.main), s.source != nil), net.Listener(nil) // before the sweep, which reads them
	if s.redirectServer != nil {
		redirect = s.wrapListener(s.withAcceptProbe(s.listeners.redirect), false)
	}
	background.Go(func() { s.sweep(inner) })
	background.Go(func() { host.NewScavenger().Run(inner) })
	if s.source != nil {
		background.Go(func() { s.source.Run(inner) })
		background.Go(func() { s.preflight(inner) })
		config := s.source.TLSConfig()
		config.VerifyConnection = s.handshakes.count
		listener = tls.NewListener(listener, config)
	}
	if s.listeners.metrics != nil {
		background.Go(func() { s.serveMetrics(inner, s.listeners.metrics) })
	}
	failed := make(chan error, 2)
	background.Go(func() { failed <- s.mainServer.Serve(listener) })
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

// reload looks for newer certificates at each hangup, until the server stops:
// then nobody must hear that it is ready.
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

// stopMargin is what the end takes beside the time for posts.
const stopMargin = 10 * time.Second

// stop closes the listeners, ends the polls, which answer 204, gives posts
// their time, closes the connections and saves the mailboxes: what was
// answered is in the snapshot. The context is a new one: the server's own is
// already over, and would wait for nobody.
func (s *server) stop() error {
	s.health.serving.Store(false)
	s.log.Info("stopping")
	s.notify.Stopping(s.timeouts.shutdown + stopMargin)
	ctx, cancel := context.WithTimeout(context.Background(), s.timeouts.shutdown)
	defer cancel()
	go s.awaitForceStop(ctx, cancel)
	s.drain(ctx)
	s.connTracker.closeIdle(s.timeouts.drain / 2)
	s.closeRedirectServer() // it has nothing that is worth waiting for
	if err := s.shutdown(ctx); err != nil {
		s.log.Warn("some requests took too long and were cut off", "err", err)
		s.closeConns()
	}
	err := s.saveMailboxes()
	s.log.Info("stopped", "refusedHandshakes", s.errorLog.suppressed.Load())
	return err
}

// drain leaves the sockets, which may outlive us, and answers the last that
// came in before the server shuts down: from Shutdown on net/http drops requests
// that it has just read. Answers say that their connection ends. Idle connections
// of HTTP/2 hear it half-way: who asks something nevertheless knows by the number
// in the goodbye that nobody read it, and asks the next server.
func (s *server) drain(ctx context.Context) {
	// Metrics go on. Of sockets that were passed on these are copies: who
	// connects now waits for the next process.
	listeners{main: s.listeners.main, redirect: s.listeners.redirect}.close()
	if s.redirectServer != nil {
		s.redirectServer.SetKeepAlivesEnabled(false)
	}
	s.handler.EndPolls()
	pause(ctx, s.timeouts.drain/2)
	_ = s.h2Shutdown.Shutdown(ctx) // it has no listener, and waits for nobody
	pause(ctx, s.timeouts.drain/2)
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// shutdown waits for the requests that are under way, no longer than ctx, whatever
// net/http does: it closes one idle connection after the other, and one whose
// client does not read can hold it up. Connections whose handshake took until now
// come too late for the goodbye and for the end of those that are idle, so both
// are repeated.
func (s *server) shutdown(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- s.mainServer.Shutdown(ctx) }()
	ticker := time.NewTicker(max(s.timeouts.drain, 100*time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			_ = s.h2Shutdown.Shutdown(ctx)
			s.connTracker.closeIdle(s.timeouts.drain)
		}
	}
}

// closeTimeout is how long the end of connections may hold up the end of the server.
const closeTimeout = time.Second

// closeConns closes all connections.
func (s *server) closeConns() {
	closed := make(chan struct{})
	go func() { defer close(closed); s.mainServer.Close() }()
	select {
	case <-closed:
	case <-time.After(closeTimeout):
	}
}

// awaitForceStop ends the time for posts when somebody has no patience.
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
	var report dryRunReport
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			s.store.Sweep()
			s.limits.sweep(time.Now())
			report.logNew(s, time.Now())
		}
	}
}

// announce tells a person where to click, and the log where the server listens.
func (s *server) announce(addr net.Addr, stderr io.Writer) {
	b := banner{scheme: "http", names: s.cfg.domains, network: networkAddrs(), fingerprint: s.selfSignedFingerprint(),
		inContainer: host.InContainer(s.process.getenv)}
	if s.source != nil {
		b.scheme = "https"
	}
	ap, err := netip.ParseAddrPort(addr.String())
	if err == nil { // else a Unix socket: nobody clicks there
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

// warnPlainHTTP warns of passwords in clear, unless a trusted proxy is in front.
func (s *server) warnPlainHTTP(addr netip.Addr) {
	if s.source == nil && !addr.IsLoopback() && len(s.cfg.proxies) == 0 {
		s.log.Warn("plain HTTP: passwords and messages can be read on the way, unless a proxy in front speaks HTTPS; -trusted-proxies says which")
	}
}

// pageBurst is what a browser asks for to show a page, its modules and its
// first poll, and some to spare.
const pageBurst = 24

// warnBurst warns of a burst with which no page loads at once.
func (s *server) warnBurst() {
	if s.cfg.rate > 0 && s.cfg.burst < pageBurst && !s.cfg.rateDryRun {
		s.log.Warn("-burst is too small for a page: a browser's first visit is refused and tried again; give more, or -rate 0 for no limit",
			"burst", s.cfg.burst, "atLeast", pageBurst)
	}
}
