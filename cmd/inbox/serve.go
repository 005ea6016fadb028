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

	"inbox/cmd/inbox/machine"
	"inbox/cmd/inbox/systemd"
)

// serve binds, builds the rooms, and serves until ctx ends. Binding comes
// first: who asks for a certificate must know which doors are open.
func serve(ctx context.Context, c *config, p process) error {
	log := newLogger(c, p.forJournal())
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP) // from the start: a hangup must not end a program that has taken up mailboxes
	defer signal.Stop(hangups)
	sockets, err := systemd.TakeSockets(p.getenv)
	if err != nil {
		return err
	}
	d, err := openDoors(c, sockets, log)
	if err != nil {
		return err
	}
	h, err := build(c, p, d, log)
	if err != nil {
		d.close()
		return err
	}
	h.hangups = hangups
	defer h.archive.close()
	defer h.quitStore()
	if ctx.Err() != nil {
		log.Info("stopped before it began: what was saved stays saved")
		d.close()
		return nil
	}
	if err := h.archive.begin(); err != nil {
		d.close()
		return err
	}
	(&serverLog{log: log}).takeStandardLog() // of its own: it is no client of ours that the meter counts
	h.announce(d.main.Addr(), p.stderr)
	return h.live(ctx)
}

// live serves until ctx ends or a server fails, then stops in order.
func (h *house) live(ctx context.Context) error {
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var background sync.WaitGroup
	defer background.Wait()
	defer cancel()
	listener, plain := h.limit(h.watched(h.doors.main), h.source != nil), net.Listener(nil) // before the sweep, which reads them
	if h.plain != nil {
		plain = h.limit(h.watched(h.doors.plain), false)
	}
	background.Go(func() { h.sweep(inner) })
	background.Go(func() { machine.NewScavenger().Run(inner) })
	if h.source != nil {
		background.Go(func() { h.source.Run(inner) })
		background.Go(func() { h.lookFirst(inner) })
		config := h.source.TLSConfig()
		config.VerifyConnection = h.handshakes.count
		listener = tls.NewListener(listener, config)
	}
	if h.doors.metrics != nil {
		background.Go(func() { h.serveMetrics(inner, h.doors.metrics) })
	}
	failed := make(chan error, 2)
	background.Go(func() { failed <- h.server.Serve(listener) })
	if h.plain != nil {
		background.Go(func() { failed <- h.plain.Serve(plain) })
	}
	h.health.serving.Store(true)
	h.notify.Ready(h.status())
	background.Go(func() { h.reload(inner) })
	background.Go(func() { h.watch(inner) })
	select {
	case err := <-failed:
		h.cutOff()
		h.closePlain()
		return errors.Join(fmt.Errorf("serve: %w", err), h.save())
	case <-ctx.Done():
	}
	return h.stop()
}

// reload looks for newer certificates at each hangup, until the server stops:
// then nobody must hear that it is ready.
func (h *house) reload(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.hangups:
			if !h.health.serving.Load() {
				continue
			}
			h.notify.Reloading()
			if h.source != nil {
				h.log.Info("reloading certificates")
				h.source.Reload()
			}
			h.notify.Ready(h.status())
		}
	}
}

func (h *house) closePlain() {
	if h.plain != nil {
		h.plain.Close()
	}
}

// stopMargin is what the end takes beside the time for posts.
const stopMargin = 10 * time.Second

// stop closes the listeners, ends the polls, which answer 204, gives posts
// their time, closes the connections and saves the mailboxes: what was
// answered is in the snapshot. The context is a new one: the server's own is
// already over, and would wait for nobody.
func (h *house) stop() error {
	h.health.serving.Store(false)
	h.log.Info("stopping")
	h.notify.Stopping(h.times.stop + stopMargin)
	ctx, cancel := context.WithTimeout(context.Background(), h.times.stop)
	defer cancel()
	go h.hasten(ctx, cancel)
	h.lastCall(ctx)
	h.fresh.close(h.times.lastCall / 2)
	h.closePlain() // it has nothing that is worth waiting for
	if err := h.shutdown(ctx); err != nil {
		h.log.Warn("some requests took too long and were cut off", "err", err)
		h.cutOff()
	}
	err := h.save()
	h.log.Info("stopped", "refusedHandshakes", h.noise.noise.Load())
	return err
}

// lastCall leaves the sockets, which may outlive us, and answers the last that
// came in before the server shuts down: from Shutdown on net/http drops requests
// that it has just read. Answers say that their connection ends. Idle connections
// of HTTP/2 hear it half-way: who asks something nevertheless knows by the number
// in the goodbye that nobody read it, and asks the next server.
func (h *house) lastCall(ctx context.Context) {
	// Metrics go on. Of sockets that were passed on these are copies: who
	// connects now waits for the next process.
	doors{main: h.doors.main, plain: h.doors.plain}.close()
	if h.plain != nil {
		h.plain.SetKeepAlivesEnabled(false)
	}
	h.handler.EndPolls()
	pause(ctx, h.times.lastCall/2)
	_ = h.goodbye.Shutdown(ctx) // it has no listener, and waits for nobody
	pause(ctx, h.times.lastCall/2)
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
func (h *house) shutdown(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- h.server.Shutdown(ctx) }()
	again := time.NewTicker(max(h.times.lastCall, 100*time.Millisecond))
	defer again.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-again.C:
			_ = h.goodbye.Shutdown(ctx)
			h.fresh.close(h.times.lastCall)
		}
	}
}

// cutTime is how long the end of connections may hold up the end of the server.
const cutTime = time.Second

// cutOff closes all connections.
func (h *house) cutOff() {
	closed := make(chan struct{})
	go func() { defer close(closed); h.server.Close() }()
	select {
	case <-closed:
	case <-time.After(cutTime):
	}
}

// hasten ends the time for posts when somebody has no patience.
func (h *house) hasten(ctx context.Context, cancel context.CancelFunc) {
	select {
	case <-ctx.Done():
	case <-h.process.hurry:
		cancel()
	}
}

func (h *house) sweep(ctx context.Context) {
	ticker := time.NewTicker(seconds(h.cfg.cleanupInterval))
	defer ticker.Stop()
	var report dryRunReport
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			h.store.Sweep()
			h.limits.sweep(time.Now())
			report.tell(h, time.Now())
		}
	}
}

// announce tells a person where to click, and the log where the server listens.
func (h *house) announce(addr net.Addr, stderr io.Writer) {
	b := banner{scheme: "http", names: h.cfg.domains, network: networkAddrs(), fingerprint: h.selfSigned(),
		contained: machine.InContainer(h.process.getenv)}
	if h.source != nil {
		b.scheme = "https"
	}
	ap, err := netip.ParseAddrPort(addr.String())
	if err == nil { // else a Unix socket: nobody clicks there
		b.addr = ap
		h.warnPlain(ap.Addr())
		if h.cfg.logFormat == "text" {
			io.WriteString(stderr, b.String())
		}
	}
	h.warnBurst()
	if h.doors.metrics != nil {
		h.log.Info("metrics", "addr", h.doors.metrics.Addr().String())
	}
	h.log.Info("listening", "addr", addr.String(), "scheme", b.scheme)
}

// warnPlain warns of passwords in clear, unless a trusted proxy is in front.
func (h *house) warnPlain(addr netip.Addr) {
	if h.source == nil && !addr.IsLoopback() && len(h.cfg.proxies) == 0 {
		h.log.Warn("plain HTTP: passwords and messages can be read on the way, unless a proxy in front speaks HTTPS; -trusted-proxies says which")
	}
}

// pageBurst is what a browser asks for to show a page, its modules and its
// first poll, and some to spare.
const pageBurst = 24

// warnBurst warns of a burst with which no page loads at once.
func (h *house) warnBurst() {
	if h.cfg.rate > 0 && h.cfg.burst < pageBurst && !h.cfg.rateDryRun {
		h.log.Warn("-burst is too small for a page: a browser's first visit is refused and tried again; give more, or -rate 0 for no limit",
			"burst", h.cfg.burst, "atLeast", pageBurst)
	}
}
