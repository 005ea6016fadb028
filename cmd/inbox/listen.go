package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"inbox/cmd/inbox/internal/conn"
	"inbox/cmd/inbox/internal/sdnotify"
	"inbox/ratelimit"
)

// listeners holds the open listeners. main serves peers. redirect answers ACME
// challenges and redirects to main; metrics serves the operator. Both can be nil.
type listeners struct{ main, redirect, metrics net.Listener }

// listenAll uses the sockets passed by systemd and binds the remaining addresses of the
// options. On an error it closes all of them.
func listenAll(c *config, sockets sdnotify.Sockets, log *slog.Logger) (ls listeners, err error) {
	defer func() {
		if err != nil {
			ls.close()
			sockets.Close()
		}
	}()
	if ls, err = inheritedListeners(sockets, c, log); err != nil {
		return ls, err
	}
	if c.metricsBind != "" && ls.metrics == nil {
		if ls.metrics, err = listen("metrics-bind", c.metricsBind); err != nil {
			return ls, err
		}
	}
	if ls.main != nil {
		return ls, nil
	}
	if ls.main, err = listen("bind", c.bind); err != nil {
		return ls, err
	}
	ls.redirect, err = listenRedirect(c, log)
	return ls, err
}

// inheritedListeners assigns the sockets passed by systemd to listeners. The main
// listener is the socket of the protocol it serves: plain HTTP is never served on a
// socket named https.
func inheritedListeners(sockets sdnotify.Sockets, c *config, log *slog.Logger) (ls listeners, err error) {
	ls.metrics = sockets[sdnotify.Metrics]
	if sockets[sdnotify.HTTPS] == nil && sockets[sdnotify.HTTP] == nil {
		return ls, nil
	}
	if ls.main, ls.redirect = sockets[sdnotify.HTTPS], sockets[sdnotify.HTTP]; !c.https {
		ls.main, ls.redirect = sockets[sdnotify.HTTP], nil
		if sockets[sdnotify.HTTPS] != nil {
			return ls, errors.New("systemd passed a socket named https, but -https=false is set: stop and " +
				"mask that socket unit, or rename it with FileDescriptorName=http")
		}
	}
	if ls.main == nil {
		return ls, errors.New("systemd passed only a socket named http, but the server requires one named " +
			"https: if inbox.socket failed, another program might be using port 443 (systemctl status " +
			"inbox.socket); otherwise add a socket with FileDescriptorName=https, or set -https=false")
	}
	if c.https && ls.redirect == nil && len(c.domains) > 0 {
		log.Warn(noRedirectListener, "err", "systemd passed no socket named http; if inbox-http.socket "+
			"failed, another program might be using port 80")
	}
	if ls.redirect != nil && len(c.domains) == 0 {
		log.Warn("requests on the http socket are rejected: redirecting to HTTPS requires -domain")
	}
	for _, option := range []string{"bind", "http-bind"} {
		if c.from[option] != "" {
			log.Warn("-"+option+" is ignored: using sockets passed by systemd", "from", c.from[option])
		}
	}
	return ls, nil
}

const noRedirectListener = "no plain HTTP listener: requests are not redirected to HTTPS, and ACME " +
	"validation uses port 443 only"

// listenRedirect binds -http-bind. If the default port 80 cannot be bound, the server
// runs without it, as the tls-alpn-01 challenge needs only port 443. An explicit
// -http-bind that cannot be bound is an error.
func listenRedirect(c *config, log *slog.Logger) (net.Listener, error) {
	if c.httpBind == "" {
		return nil, nil
	}
	l, err := listen("http-bind", c.httpBind)
	if err != nil && c.from["http-bind"] == "" {
		log.Warn(noRedirectListener, "err", err)
		return nil, nil
	}
	return l, err
}

func (ls listeners) close() {
	for _, l := range []net.Listener{ls.main, ls.redirect, ls.metrics} {
		if l != nil {
			l.Close()
		}
	}
}

// portOf returns the port of a listener, or 0 for a Unix socket or nil.
func portOf(l net.Listener) int {
	if l == nil {
		return 0
	}
	if a, ok := l.Addr().(*net.TCPAddr); ok {
		return a.Port
	}
	return 0
}

// hostOf returns the IP address of a listener. It is empty for a listener on all
// addresses, a Unix socket or nil.
func hostOf(l net.Listener) string {
	if l == nil {
		return ""
	}
	if a, ok := l.Addr().(*net.TCPAddr); ok && !a.IP.IsUnspecified() {
		return a.IP.String()
	}
	return ""
}

// listen binds an address, or a Unix socket given as unix:/path. option is the name of
// the option for error messages.
func listen(option, bind string) (net.Listener, error) {
	path, isUnix := strings.CutPrefix(bind, "unix:")
	if !isUnix {
		l, err := net.Listen("tcp", bind)
		if err != nil {
			return nil, bindError(option, bind, err)
		}
		return l, nil
	}
	if err := removeSocket(path); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on Unix socket %s (-bind): %w", path, err)
	}
	return l, nil
}

// removeSocket removes the stale socket of a killed server. A socket in use or another
// kind of file is an error.
func removeSocket(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("stat socket of -bind: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s exists and is not a socket; choose another path with -bind", path)
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return fmt.Errorf("socket %s is in use by another program; stop it, or choose another path with -bind", path)
	}
	return os.Remove(path)
}

// bindError describes why an address cannot be bound, and how to fix it.
func bindError(option, bind string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("address %s is already in use by another program; stop it, or choose another port "+
			"with -%s", bind, option)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("permission denied binding %s: ports below 1024 require CAP_NET_BIND_SERVICE or "+
			"inbox.socket of systemd; choose a higher port with -%s", bind, option)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("cannot bind %s: this machine does not have that address; set one of its own with "+
			"-%s, or 0.0.0.0 for all", bind, option)
	}
	return fmt.Errorf("listen on %s (-%s): %w", bind, option, err)
}

// wrapListener adds the layers below TLS to a listener: connection limits first, then
// the PROXY protocol, then the limits on TLS records and handshakes.
func (s *server) wrapListener(l net.Listener, overTLS bool) net.Listener {
	limited := ratelimit.NewListener(l, s.limits.Conns, s.clientIP)
	s.limits.Register(limited)
	l = limited
	if s.cfg.proxyProtocol {
		l = conn.ProxyListener(l, s.clientIP)
	}
	if overTLS {
		l = s.limits.Handshakes.Listener(s.limits.Frames.RecordListener(l))
	}
	return conn.LazyListener(l)
}
