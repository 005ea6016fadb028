package server

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

	"inbox/cmd/inbox/internal/config"
	"inbox/cmd/inbox/internal/sdnotify"
)

// sockets has the bound sockets. main is for peers. redirect is for ACME challenges
// and redirects to main, metrics for the operator, turn for STUN and TURN over UDP; these
// can be nil.
type sockets struct {
	main, redirect, metrics net.Listener
	turn                    *net.UDPConn
}

// bindAll uses the sockets passed by systemd and binds the remaining addresses of the
// options. On an error it closes all of them.
func bindAll(c *config.Config, passed sdnotify.Sockets, log *slog.Logger) (s sockets, err error) {
	defer func() {
		if err != nil {
			s.close()
			passed.Close()
		}
	}()
	if s, err = inheritSockets(passed, c, log); err != nil {
		return s, err
	}
	if c.MetricsBind.Value != "" && s.metrics == nil {
		if s.metrics, err = listen(c.MetricsBind); err != nil {
			return s, err
		}
	}
	if s.main == nil {
		bound, err := bindMain(c, log)
		s.main, s.redirect = bound.main, bound.redirect
		if err != nil {
			return s, err
		}
	}
	s.turn, err = bindTURN(c.TURN, passed.Datagrams[sdnotify.TURN], log)
	return s, err
}

// bindMain binds -bind and -http-bind. If the default port 80 cannot be bound, the
// server runs without it, as the tls-alpn-01 challenge needs only port 443. An explicit
// -http-bind that cannot be bound is an error.
func bindMain(c *config.Config, log *slog.Logger) (s sockets, err error) {
	if s.main, err = listen(c.Bind); err != nil || c.HTTPBind.Value == "" {
		return s, err
	}
	if s.redirect, err = listen(c.HTTPBind); err == nil {
		return s, nil
	}
	if c.HTTPBind.From == "" {
		log.Warn(noRedirectListener, "err", err)
		return s, nil
	}
	s.close()
	return sockets{}, err
}

// inheritSockets assigns the sockets passed by systemd to listeners. The main
// listener is the socket of the protocol it serves: plain HTTP is never served on a
// socket named https.
func inheritSockets(passed sdnotify.Sockets, c *config.Config, log *slog.Logger) (s sockets, err error) {
	if s.metrics = passed.Listeners[sdnotify.Metrics]; s.metrics != nil {
		warnIgnored(c.MetricsBind, log)
	}
	https, http := passed.Listeners[sdnotify.HTTPS], passed.Listeners[sdnotify.HTTP]
	if https == nil && http == nil {
		return s, nil
	}
	if s.main, s.redirect = https, http; !c.HTTPS {
		s.main, s.redirect = http, nil
		if https != nil {
			return s, errors.New("systemd passed a socket named https, but -https=false is set: stop and " +
				"mask that socket unit, or rename it with FileDescriptorName=http")
		}
	}
	if s.main == nil {
		return s, errors.New("systemd passed only a socket named http, but the server requires one named " +
			"https: if inbox.socket failed, another program might be using port 443 (systemctl status " +
			"inbox.socket); otherwise add a socket with FileDescriptorName=https, or set -https=false")
	}
	if c.HTTPS && s.redirect == nil && len(c.Domains) > 0 {
		log.Warn(noRedirectListener, "err", "systemd passed no socket named http; if inbox-http.socket "+
			"failed, another program might be using port 80")
	}
	if s.redirect != nil && len(c.Domains) == 0 {
		log.Warn("requests on the http socket are rejected: redirecting to HTTPS requires -domain")
	}
	warnIgnored(c.Bind, log)
	warnIgnored(c.HTTPBind, log)
	return s, nil
}

// warnIgnored warns of an address that was given, but is replaced by a socket of systemd.
func warnIgnored(a config.Address, log *slog.Logger) {
	if a.From != "" {
		log.Warn("-"+a.Option+" is ignored: using sockets passed by systemd", "from", a.From)
	}
}

const noRedirectListener = "no plain HTTP listener: requests are not redirected to HTTPS, and ACME " +
	"validation uses port 443 only"

func (s sockets) close() {
	for _, l := range []net.Listener{s.main, s.redirect, s.metrics} {
		if l != nil {
			l.Close()
		}
	}
	if s.turn != nil {
		s.turn.Close()
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

// listen binds an address, or a Unix socket given as unix:/path.
func listen(a config.Address) (net.Listener, error) {
	path, isUnix := strings.CutPrefix(a.Value, "unix:")
	if !isUnix {
		l, err := net.Listen("tcp", a.Value)
		if err != nil {
			return nil, bindError(a.Option, a.Value, err)
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
