package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"inbox/cmd/inbox/internal/config"
	"inbox/cmd/inbox/internal/limits"
	"inbox/cmd/inbox/internal/logging"
	"inbox/cmd/inbox/internal/memory"
	"inbox/cmd/inbox/internal/operator"
	"inbox/cmd/inbox/internal/sdnotify"
	"inbox/cmd/inbox/internal/snapshot"
	"inbox/internal/websocket"
)

// Run binds the listeners, builds the server and serves until ctx is done, and then
// shuts down gracefully. Binding comes first, because certificate orders depend on the
// ports that are open. An error of a certificate option is [tlsmgr.ErrUsage].
func Run(ctx context.Context, cfg *config.Config, p Process) error {
	p.warnings = &logging.Recent{}
	log := newLog(cfg, p)
	config.LogWarnings(cfg.Warnings, log)
	hangups := make(chan os.Signal, 1)
	// Before mailboxes are loaded: an unhandled SIGHUP would end the process and lose them.
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	passed, err := sdnotify.TakeSockets(p.Getenv)
	if err != nil {
		return err
	}
	bound, err := bindAll(cfg, passed, log)
	if err != nil {
		return err
	}
	s, err := newServer(cfg, p, bound, ctx.Done(), log)
	if err != nil {
		bound.close()
		return err
	}
	defer s.close()
	if ctx.Err() != nil {
		log.Info("stopped before serving; the saved mailboxes are kept")
		bound.close()
		return nil
	}
	if err := s.mailboxes.markInUse(); err != nil {
		bound.close()
		return err
	}
	// A separate filter: its errors are not client errors, which the metrics count.
	logging.NewErrorLog(log).CaptureStandardLog()
	s.announce()
	return s.run(ctx, hangups)
}

// run serves until ctx is done or a server fails, and then shuts down.
func (s *server) run(ctx context.Context, hangups <-chan os.Signal) error {
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var background sync.WaitGroup
	defer background.Wait()
	defer cancel()
	failed := make(chan error, 2)
	background.Go(func() { s.sweep(inner) })
	background.Go(func() { memory.NewScavenger(s.cfg.MaxMemoryBytes).Run(inner) })
	if s.mailboxes.snapshot != nil {
		background.Go(func() { s.mailboxes.snapshot.WatchDisk(inner, s.mailboxes.stats) })
	}
	if s.certs != nil {
		background.Go(func() { s.certs.Run(inner) })
		background.Go(func() { preflight(inner, s.cfg, s.certs, s.log) })
	}
	if s.admin != nil {
		background.Go(func() { s.serveAdmin(inner) })
		background.Go(func() { s.operator.Run(inner) })
	}
	background.Go(func() { operator.LogSummaries(inner, s.operatorSources(), s.log) })
	if s.relay != nil {
		background.Go(func() { s.relay.run(inner) })
	}
	if s.access != nil {
		background.Go(func() { s.access.Run(inner) })
	}
	background.Go(func() { failed <- s.conns.Serve(s.main.listener) })
	if s.redirect != nil {
		background.Go(func() { failed <- s.redirect.server.Serve(s.redirect.listener) })
	}
	s.health.serving.Store(true)
	s.notify.Ready(s.status())
	background.Go(func() { s.reload(inner, hangups) })
	background.Go(func() {
		interval := sdnotify.WatchdogInterval(s.process.Getenv, os.Getpid())
		runWatchdog(inner, interval, s.newSelfTest(), s.notify, s.status, s.log)
	})
	select {
	case err := <-failed:
		s.closeConns()
		s.closeRedirect()
		return errors.Join(fmt.Errorf("serve: %w", err), s.save())
	case <-ctx.Done():
	}
	return s.stop()
}

// stop shuts down: in-flight requests get their time, waiting polls are answered with 204,
// and the snapshot has every accepted message. It uses a new context, because with the
// server's own, which is done, Shutdown would not wait.
func (s *server) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), s.timeouts.Shutdown)
	defer cancel()
	go s.awaitForceStop(ctx, cancel)

	s.health.serving.Store(false) // responses close their connections from here on
	s.log.Info("stopping")
	s.notify.Stopping(s.timeouts.Shutdown + stopMargin)
	s.closeSockets()
	s.handler.EndPolls()
	s.compat.Stop(s.stopCode())
	if s.relay != nil && s.relay.server != nil {
		s.relay.server.CloseStreams() // so that calls look for another path now
	}
	s.limits.Lingering.Stop()
	s.drain(ctx)
	s.conns.CloseIdle(s.timeouts.Drain / 2)
	s.closeRedirect() // redirects need no graceful shutdown
	err := s.shutdown(ctx)
	s.closeWebSockets(ctx)
	if err != nil {
		s.log.Warn("shutdown timeout exceeded, aborting the remaining requests", "err", err)
		s.closeConns()
	}
	err = s.save()
	s.log.Info("stopped", "suppressedErrors", s.errorLog.Suppressed())
	return err
}

// stopCode returns the code of close frames (RFC 6455, section 7.4.1): whether another server is
// there for clients that connect again.
func (s *server) stopCode() uint16 {
	if s.cfg.Store != nil || s.process.Getenv("LISTEN_FDS") != "" {
		return websocket.ServiceRestart
	}
	return websocket.GoingAway
}

// closeSockets closes all listeners but that of the metrics. Sockets passed by systemd
// are duplicates of its own, where new connections wait for the next process.
func (s *server) closeSockets() {
	s.main.socket.Close()
	if s.redirect != nil {
		s.redirect.socket.Close()
		s.redirect.server.SetKeepAlivesEnabled(false)
	}
}

// drain keeps answering requests for a short time before Shutdown, as of which net/http
// drops requests that it has just read. Half-way, idle HTTP/2 connections receive GOAWAY:
// its last stream ID tells a client that a later request was not processed and can be
// retried on the next server.
func (s *server) drain(ctx context.Context) {
	pause(ctx, s.timeouts.Drain/2)
	s.conns.GoAway()
	pause(ctx, s.timeouts.Drain/2)
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
	ticker := time.NewTicker(max(s.timeouts.Drain, 100*time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			s.conns.GoAway()
			s.conns.CloseIdle(s.timeouts.Drain)
		}
	}
}

// closeWebSockets closes the WebSockets that have not answered the close frame since the drain
// began. One sleeping client must not delay the restart for all others; it loses nothing.
func (s *server) closeWebSockets(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.timeouts.Drain)
	defer cancel()
	_ = s.handler.WaitWebSockets(ctx)
	_ = s.compat.Wait(ctx)
}

// closeConns closes all connections of the main server.
func (s *server) closeConns() {
	aborted, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.handler.WaitWebSockets(aborted) // closes them
	_ = s.compat.Wait(aborted)
	closed := make(chan struct{})
	go func() { defer close(closed); s.conns.Close() }()
	select {
	case <-closed:
	case <-time.After(closeTimeout):
	}
}

func (s *server) closeRedirect() {
	if s.redirect != nil {
		s.redirect.server.Close()
	}
}

// save saves the mailboxes and asks the service manager for the time that this takes.
func (s *server) save() error {
	return s.mailboxes.save(snapshot.Timeouts{Stall: s.timeouts.SaveStall, Total: s.timeouts.Save}, func() {
		s.notify.ExtendTimeout(s.timeouts.SaveStall + saveMargin)
	})
}

// awaitForceStop cancels the wait for in-flight requests on a second signal.
func (s *server) awaitForceStop(ctx context.Context, cancel context.CancelFunc) {
	select {
	case <-ctx.Done():
	case <-s.process.ForceStop:
		cancel()
	}
}

// sweep frees memory at regular intervals and logs what a dry run would have refused.
func (s *server) sweep(ctx context.Context) {
	ticker := time.NewTicker(s.cfg.CleanupInterval)
	defer ticker.Stop()
	var report limits.DryRunReport
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			s.mailboxes.sweep()
			s.limits.Sweep(time.Now())
			report.Log(s.limits, s.log, time.Now())
		}
	}
}

// reload reloads certificates on SIGHUP. While the server is stopping it ignores the
// signal, so that it does not notify systemd that it is ready.
func (s *server) reload(ctx context.Context, hangups <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			if !s.health.serving.Load() {
				continue
			}
			s.notify.Reloading()
			if s.certs != nil {
				s.log.Info("reloading certificates")
				s.certs.Reload()
			}
			s.notify.Ready(s.status())
		}
	}
}

// serveAdmin serves the metrics listener until ctx is done, so also during a shutdown.
func (s *server) serveAdmin(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { s.admin.server.Close() })
	defer stop()
	if err := s.admin.server.Serve(s.admin.listener); !errors.Is(err, http.ErrServerClosed) {
		s.log.Error("serve metrics", "err", err)
	}
}

// newSelfTest returns the check of the watchdog.
func (s *server) newSelfTest() *selfTest {
	t := &selfTest{handler: s.main.server.Handler, host: "localhost", serving: s.health.serving.Load, probes: []*acceptProbe{s.main.probe}}
	if len(s.cfg.Domains) > 0 {
		t.host = s.certs.State()[0].Name // in the form that CheckHost compares
	}
	if s.redirect != nil {
		t.probes = append(t.probes, s.redirect.probe)
	}
	return t
}

// status returns a line for systemctl status: the address and the current load.
func (s *server) status() string {
	if !s.health.serving.Load() {
		return sdnotify.StatusStopping
	}
	scheme := "HTTP"
	if s.certs != nil {
		scheme = "HTTPS"
	}
	return fmt.Sprintf("Serving %s on %s: %d connections, %d mailboxes, %d requests waiting.",
		scheme, s.main.socket.Addr(), s.limits.Conns.Stats().Open, s.mailboxes.stats().Inboxes, s.limits.Polls.Share.Used())
}
