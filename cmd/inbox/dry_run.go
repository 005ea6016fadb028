package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"inbox/cmd/inbox/internal/host"
	"inbox/tlsmgr"
)

// dryRunTimeout bounds a dry order: two challenges, a slow authority, and room.
const dryRunTimeout = 3 * time.Minute

// dryRunOrder makes an order for all names as the server would, and keeps nothing
// of it. A server that runs on the same state directory has the ports, and
// answers the authority for us; without one they are opened here.
func dryRunOrder(ctx context.Context, c *config, dir string) error {
	quiet := slog.New(slog.DiscardHandler)
	log.SetOutput(io.Discard) // certmagic tells there of ports that a server has
	ls, err := dryRunListeners(c, dir, quiet)
	if err != nil {
		return err
	}
	defer ls.close()
	dryRun, err := tlsmgr.NewDryRun(c.dryRunConfig(dir, ls, quiet))
	if err != nil {
		return err
	}
	defer dryRun.Close()
	ctx, cancel := context.WithTimeout(ctx, dryRunTimeout)
	defer cancel()
	defer serveDryRun(ls.main, dryRun.TLSConfig(), http.NotFoundHandler())()
	defer serveDryRun(ls.redirect, nil, dryRun.HTTPHandler(http.NotFoundHandler()))()
	err = dryRun.Order(ctx)
	if ctx.Err() != nil && err != nil {
		return fmt.Errorf("the order was not finished within three minutes: %w", err)
	}
	return err
}

// dryRunListeners are none when a server runs that has them.
func dryRunListeners(c *config, dir string, log *slog.Logger) (listeners, error) {
	if tlsmgr.InUse(dir) {
		return listeners{}, nil
	}
	withoutMetrics := *c
	withoutMetrics.metricsBind = ""
	ls, err := listenAll(&withoutMetrics, nil, log)
	if err != nil {
		return ls, fmt.Errorf("the test needs the ports, unless a server has them that runs on the same state directory (%s); "+
			"name that server's with -state, or stop what listens: %w", dir, err)
	}
	return ls, nil
}

// dryRunConfig is certificateSource for doors that may be another process's.
func (c *config) dryRunConfig(dir string, ls listeners, log *slog.Logger) tlsmgr.Config {
	config := c.tlsmgrConfig(dir, ls, log)
	if ls.main != nil {
		return config
	}
	a := &config.ACME
	bindHost, _, _ := net.SplitHostPort(c.bind) // a Unix socket has none
	if ip := net.ParseIP(bindHost); ip != nil && !ip.IsUnspecified() {
		a.ListenHost = bindHost
	}
	a.TLSPort, _ = strconv.Atoi(host.Port(c.bind))
	a.HTTPPort, _ = strconv.Atoi(host.Port(c.httpBind))
	a.NoHTTP = c.httpBind == "" || c.acme.challenge == "tls-alpn-01"
	return config
}

// serveDryRun serves a listener, if there is one, until it is told to end.
func serveDryRun(l net.Listener, tlsConfig *tls.Config, h http.Handler) (stop func()) {
	if l == nil {
		return func() {}
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	if tlsConfig != nil {
		l = tls.NewListener(l, tlsConfig)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(l) // how it failed, the authority says too
	}()
	return func() { server.Close(); <-done }
}
