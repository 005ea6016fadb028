package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// serve builds the rooms, binds, and serves until ctx ends.
func serve(ctx context.Context, c *config, p process) error {
	h, err := build(c, p)
	if err != nil {
		return err
	}
	listener, err := listen(c.bind)
	if err != nil {
		return err
	}
	h.announce(listener.Addr(), p.stderr)
	return h.live(ctx, listener)
}

// live serves until ctx ends or the server fails, then stops in order.
func (h *house) live(ctx context.Context, l net.Listener) error {
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var background sync.WaitGroup
	defer background.Wait()
	defer cancel()
	background.Go(func() { h.sweep(inner) })
	l = h.limit(l)
	if h.source != nil {
		background.Go(func() { h.source.Run(inner) })
		l = tls.NewListener(l, h.source.TLSConfig())
	}
	failed := make(chan error, 1)
	go func() { failed <- h.server.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	h.stop()
	<-failed
	return nil
}

// stop ends the polls, which answer 204, and gives posts their time. The
// context is a new one: the server's own is already over, and would wait for nobody.
func (h *house) stop() {
	h.log.Info("stopping")
	ctx, cancel := context.WithTimeout(context.Background(), h.times.stop)
	defer cancel()
	if err := h.server.Shutdown(ctx); err != nil {
		h.log.Warn("some requests took too long and were cut off", "err", err)
		h.server.Close()
	}
	h.log.Info("stopped", "refusedHandshakes", h.noise.noise.Load())
}

func (h *house) sweep(ctx context.Context) {
	ticker := time.NewTicker(seconds(h.cfg.cleanupInterval))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			h.store.Sweep()
			h.limits.sweep(time.Now())
		}
	}
}

// announce tells a person where to click, and the log where the server listens.
func (h *house) announce(addr net.Addr, stderr io.Writer) {
	b := banner{scheme: "http", network: networkAddrs(), fingerprint: h.selfSigned()}
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
	h.log.Info("listening", "addr", addr.String(), "scheme", b.scheme)
}

// warnPlain warns of passwords in clear, unless a trusted proxy is in front.
func (h *house) warnPlain(addr netip.Addr) {
	if h.source == nil && !addr.IsLoopback() && len(h.cfg.proxies) == 0 {
		h.log.Warn("plain HTTP: passwords and messages can be read on the way, unless a proxy in front speaks HTTPS; -trusted-proxies says which")
	}
}
