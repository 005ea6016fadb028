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

// dryRunTimeout bounds a test order: two challenges and a slow CA, with a margin.
const dryRunTimeout = 3 * time.Minute

// dryRunOrder places an order for all names as the server would, and discards the
// certificate. If a server uses the same state directory, that server answers the
// challenges on its ports. Otherwise dryRunOrder binds the ports itself.
func dryRunOrder(ctx context.Context, c *config, dir string) error {
	quiet := slog.New(slog.DiscardHandler)
	log.SetOutput(io.Discard) // certmagic logs there that ports are in use
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
	defer serveDryRun(ls.main, dryRun.TLSConfig(), dryRun.HTTPHandler(http.NotFoundHandler()))()
	defer serveDryRun(ls.redirect, nil, dryRun.HTTPHandler(http.NotFoundHandler()))()
	err = dryRun.Order(ctx)
	if ctx.Err() != nil && err != nil {
		return fmt.Errorf("order not completed within three minutes: %w", err)
	}
	return err
}

// dryRunListeners binds the listeners of a test order. It binds none if a running server
// holds them.
func dryRunListeners(c *config, dir string, log *slog.Logger) (listeners, error) {
	if tlsmgr.InUse(dir) {
		return listeners{}, nil
	}
	withoutMetrics := *c
	withoutMetrics.metricsBind = ""
	ls, err := listenAll(&withoutMetrics, nil, log)
	if err != nil {
		return ls, fmt.Errorf("the test order requires the ports, unless a server with the same state "+
			"directory (%s) holds them; set the state directory of that server with -state, or stop the "+
			"program that uses the ports: %w", dir, err)
	}
	return ls, nil
}

// dryRunConfig is like tlsmgrConfig, but also covers ports held by another process, which
// it takes from the options.
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

// serveDryRun serves on l until stop is called. It does nothing if l is nil.
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
		server.Serve(l) // on failure, the CA reports the failed challenge
	}()
	return func() { server.Close(); <-done }
}
