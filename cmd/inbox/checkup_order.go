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

	"inbox/cmd/inbox/binding"
	"inbox/tlsmgr"
)

// renewTestTime bounds a dry order: two challenges, a slow authority, and room.
const renewTestTime = 3 * time.Minute

// renewTest makes an order for all names as the server would, and keeps nothing
// of it. A server that runs on the same state directory has the ports, and
// answers the authority for us; without one they are opened here.
func renewTest(ctx context.Context, c *config, dir string) error {
	quiet := slog.New(slog.DiscardHandler)
	log.SetOutput(io.Discard) // certmagic tells there of ports that a server has
	d, err := testDoors(c, dir, quiet)
	if err != nil {
		return err
	}
	defer d.close()
	dry, err := tlsmgr.NewDryRun(c.drySource(dir, d, quiet))
	if err != nil {
		return err
	}
	defer dry.Close()
	ctx, cancel := context.WithTimeout(ctx, renewTestTime)
	defer cancel()
	defer serveTest(d.main, dry.TLSConfig(), http.NotFoundHandler())()
	defer serveTest(d.plain, nil, dry.HTTPHandler(http.NotFoundHandler()))()
	err = dry.Order(ctx)
	if ctx.Err() != nil && err != nil {
		return fmt.Errorf("the order was not finished within three minutes: %w", err)
	}
	return err
}

// testDoors are none when a server runs that has them.
func testDoors(c *config, dir string, log *slog.Logger) (doors, error) {
	if tlsmgr.InUse(dir) {
		return doors{}, nil
	}
	bare := *c
	bare.metricsBind = ""
	d, err := openDoors(&bare, nil, log)
	if err != nil {
		return d, fmt.Errorf("the test needs the ports, unless a server has them that runs on the same state directory (%s); "+
			"name that server's with -state, or stop what listens: %w", dir, err)
	}
	return d, nil
}

// drySource is certificateSource for doors that may be another process's.
func (c *config) drySource(dir string, d doors, log *slog.Logger) tlsmgr.Config {
	config := c.certificateSource(dir, d, log)
	if d.main != nil {
		return config
	}
	a := &config.ACME
	host, _, _ := net.SplitHostPort(c.bind) // a Unix socket has none
	if ip := net.ParseIP(host); ip != nil && !ip.IsUnspecified() {
		a.ListenHost = host
	}
	a.TLSPort, _ = strconv.Atoi(binding.Port(c.bind))
	a.HTTPPort, _ = strconv.Atoi(binding.Port(c.httpBind))
	a.NoHTTP = c.httpBind == "" || c.acme.challenge == "tls-alpn-01"
	return config
}

// serveTest serves a listener, if there is one, until it is told to end.
func serveTest(l net.Listener, secure *tls.Config, h http.Handler) (end func()) {
	if l == nil {
		return func() {}
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	if secure != nil {
		l = tls.NewListener(l, secure)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		server.Serve(l) // how it failed, the authority says too
	}()
	return func() { server.Close(); <-ended }
}
