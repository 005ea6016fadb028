package server

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

	"inbox/cmd/inbox/internal/config"
	"inbox/cmd/inbox/internal/host"
	"inbox/tlsmgr"
)

// testOrderTimeout bounds a test order: two challenges and a slow CA, with a margin.
const testOrderTimeout = 3 * time.Minute

// testOrder places an order for all names as the server would, and discards the
// certificate. If a server uses the same state directory, that server answers the
// challenges on its ports. Otherwise testOrder binds the ports itself.
func testOrder(ctx context.Context, c *config.Config) error {
	quiet := slog.New(slog.DiscardHandler)
	log.SetOutput(io.Discard) // certmagic logs there that ports are in use
	s, err := testOrderSockets(c, quiet)
	if err != nil {
		return err
	}
	defer s.close()
	order, err := tlsmgr.NewDryRun(testOrderConfig(c, s, quiet))
	if err != nil {
		return err
	}
	defer order.Close()
	ctx, cancel := context.WithTimeout(ctx, testOrderTimeout)
	defer cancel()
	defer serveTestOrder(s.main, order.TLSConfig(), order.HTTPHandler(http.NotFoundHandler()))()
	defer serveTestOrder(s.redirect, nil, order.HTTPHandler(http.NotFoundHandler()))()
	err = order.Order(ctx)
	if ctx.Err() != nil && err != nil {
		return fmt.Errorf("order not completed within three minutes: %w", err)
	}
	return err
}

// testOrderSockets binds the listeners of a test order. It binds none if a running server
// holds them.
func testOrderSockets(c *config.Config, log *slog.Logger) (sockets, error) {
	if tlsmgr.InUse(c.StateDir) {
		return sockets{}, nil
	}
	s, err := bindMain(c, log)
	if err != nil {
		return s, fmt.Errorf("the test order requires the ports, unless a server with the same state "+
			"directory (%s) holds them; set the state directory of that server with -state, or stop the "+
			"program that uses the ports: %w", c.StateDir, err)
	}
	return s, nil
}

// testOrderConfig is like tlsmgrConfig, but also covers ports held by another process, which
// it takes from the options.
func testOrderConfig(c *config.Config, s sockets, log *slog.Logger) tlsmgr.Config {
	tlsConfig := tlsmgrConfig(c, c.StateDir, s, log)
	if s.main != nil {
		return tlsConfig
	}
	a := &tlsConfig.ACME
	bindHost, _, _ := net.SplitHostPort(c.Bind.Value) // a Unix socket has none
	if ip := net.ParseIP(bindHost); ip != nil && !ip.IsUnspecified() {
		a.ListenHost = bindHost
	}
	a.TLSPort, _ = strconv.Atoi(host.Port(c.Bind.Value))
	a.HTTPPort, _ = strconv.Atoi(host.Port(c.HTTPBind.Value))
	a.NoHTTP = c.HTTPBind.Value == "" || c.ACME.NoHTTP01
	return tlsConfig
}

// serveTestOrder serves on l until stop is called. It does nothing if l is nil.
func serveTestOrder(l net.Listener, tlsConfig *tls.Config, h http.Handler) (stop func()) {
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
