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

	"inbox/cmd/inbox/internal/sdnotify"
	"inbox/ratelimit"

	"github.com/pires/go-proxyproto"
)

// proxyHeaderTimeout is how long a trusted proxy may take for the PROXY header.
const proxyHeaderTimeout = 5 * time.Second

// listeners are the listeners. Main serves; the others may be nil: plain answers
// challenges and leads to main, metrics is for the operator.
type listeners struct{ main, redirect, metrics net.Listener }

// listenAll takes the sockets that were passed on, and binds what the options
// say beside them; on an error, nothing stays open.
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

// inheritedListeners sorts the sockets of the service manager into doors. What listens instead of -bind is found
// by what it speaks: plain HTTP never goes out through a socket named https.
func inheritedListeners(sockets sdnotify.Sockets, c *config, log *slog.Logger) (ls listeners, err error) {
	ls.metrics = sockets[sdnotify.Metrics]
	if sockets[sdnotify.HTTPS] == nil && sockets[sdnotify.HTTP] == nil {
		return ls, nil
	}
	if ls.main, ls.redirect = sockets[sdnotify.HTTPS], sockets[sdnotify.HTTP]; !c.https {
		ls.main, ls.redirect = sockets[sdnotify.HTTP], nil
		if sockets[sdnotify.HTTPS] != nil {
			return ls, errors.New("the service manager passed a socket named https, but -https=false: stop and mask that socket unit, or name it http (FileDescriptorName=http)")
		}
	}
	if ls.main == nil {
		return ls, errors.New("the service manager passed a socket named http alone, and the server speaks HTTPS: " +
			"if inbox.socket failed, another program may have port 443 (systemctl status inbox.socket); else pass one with FileDescriptorName=https, too, or give -https=false")
	}
	if c.https && ls.redirect == nil && len(c.domains) > 0 {
		log.Warn(noRedirectListener, "err", "no socket named http was passed; if inbox-http.socket failed, another program may have port 80")
	}
	if ls.redirect != nil && len(c.domains) == 0 {
		log.Warn("without -domain the http socket leads nobody to HTTPS: all requests there are refused")
	}
	for _, option := range []string{"bind", "http-bind"} {
		if c.from[option] != "" {
			log.Warn("sockets of the service manager serve, so -"+option+" counts for nothing", "from", c.from[option])
		}
	}
	return ls, nil
}

const noRedirectListener = "no listener for plain HTTP: nobody is led to HTTPS, and certificates come through port 443 alone"

// listenRedirect opens port 80. It is done without when another program has it and
// nobody asked for it by name: the other challenge needs only port 443.
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

// portOf is zero for a socket without a port, and for none at all.
func portOf(l net.Listener) int {
	if l == nil {
		return 0
	}
	if a, ok := l.Addr().(*net.TCPAddr); ok {
		return a.Port
	}
	return 0
}

// hostOf is empty for a listener on all addresses.
func hostOf(l net.Listener) string {
	if l == nil {
		return ""
	}
	if a, ok := l.Addr().(*net.TCPAddr); ok && !a.IP.IsUnspecified() {
		return a.IP.String()
	}
	return ""
}

// listen binds an address, or a Unix socket given as unix:/path; option is who named it.
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
		return nil, fmt.Errorf("listen on the socket %s (-bind): %w", path, err)
	}
	return l, nil
}

// removeSocket removes what a killed server left behind, and nothing else.
func removeSocket(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look at the socket of -bind: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is no socket; give -bind unix: another path", path)
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return fmt.Errorf("another program listens on the socket %s; stop it, or give -bind unix: another path", path)
	}
	return os.Remove(path)
}

// bindError says what to do about an address that cannot be had.
func bindError(option, bind string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("another program listens on %s already; stop it, or choose another port with -%s", bind, option)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("no right to listen on %s; ports below 1024 need a privilege, or inbox.socket of systemd; or choose a higher one with -%s", bind, option)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("this machine has no address %s; give one of its own with -%s, or 0.0.0.0 for all", bind, option)
	}
	return fmt.Errorf("listen on %s (-%s): %w", bind, option, err)
}

// wrapListener puts the layers around a listener that come before TLS: who may
// connect, then whom a proxy speaks for, then what the client sends without asking.
func (s *server) wrapListener(l net.Listener, overTLS bool) net.Listener {
	limited := ratelimit.NewListener(l, s.limits.conns, s.limits.clientIP)
	s.limits.listeners = append(s.limits.listeners, limited)
	l = limited
	if s.cfg.proxyProtocol {
		// The header is read by the goroutine of the connection: Accept waits
		// for nobody.
		l = &proxyproto.Listener{Listener: limited, ReadHeaderTimeout: proxyHeaderTimeout, ConnPolicy: s.proxyPolicy}
	}
	if overTLS {
		l = s.limits.handshakes.Listener(s.limits.frames.RecordListener(l))
	}
	return lazyListener{l}
}

// proxyPolicy demands the header of trusted proxies and serves nobody else:
// whoever reaches the port directly could say to be anyone.
func (s *server) proxyPolicy(o proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
	if s.limits.clientIP.TrustsPeer(o.Upstream.String()) {
		return proxyproto.REQUIRE, nil
	}
	return proxyproto.REJECT, proxyproto.ErrInvalidUpstream
}
