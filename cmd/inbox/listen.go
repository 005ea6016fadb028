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

	"inbox/cmd/inbox/systemd"
	"inbox/ratelimit"

	"github.com/pires/go-proxyproto"
)

// proxyHeaderTime is how long a trusted proxy may take for the PROXY header.
const proxyHeaderTime = 5 * time.Second

// doors are the listeners. Main serves; the others may be nil: plain answers
// challenges and leads to main, metrics is for the operator.
type doors struct{ main, plain, metrics net.Listener }

// openDoors takes the sockets that were passed on, and binds what the options
// say beside them; on an error, nothing stays open.
func openDoors(c *config, sockets systemd.Sockets, log *slog.Logger) (d doors, err error) {
	defer func() {
		if err != nil {
			d.close()
			sockets.Close()
		}
	}()
	if d, err = passedDoors(sockets, c, log); err != nil {
		return d, err
	}
	if c.metricsBind != "" && d.metrics == nil {
		if d.metrics, err = listen("metrics-bind", c.metricsBind); err != nil {
			return d, err
		}
	}
	if d.main != nil {
		return d, nil
	}
	if d.main, err = listen("bind", c.bind); err != nil {
		return d, err
	}
	d.plain, err = openPlain(c, log)
	return d, err
}

// passedDoors sorts the sockets of the service manager into doors. What listens instead of -bind is found
// by what it speaks: plain HTTP never goes out through a socket named https.
func passedDoors(p systemd.Sockets, c *config, log *slog.Logger) (d doors, err error) {
	d.metrics = p[systemd.Metrics]
	if p[systemd.HTTPS] == nil && p[systemd.HTTP] == nil {
		return d, nil
	}
	if d.main, d.plain = p[systemd.HTTPS], p[systemd.HTTP]; !c.https {
		d.main, d.plain = p[systemd.HTTP], nil
		if p[systemd.HTTPS] != nil {
			return d, errors.New("the service manager passed a socket named https, but -https=false: stop and mask that socket unit, or name it http (FileDescriptorName=http)")
		}
	}
	if d.main == nil {
		return d, errors.New("the service manager passed a socket named http alone, and the server speaks HTTPS: " +
			"if inbox.socket failed, another program may have port 443 (systemctl status inbox.socket); else pass one with FileDescriptorName=https, too, or give -https=false")
	}
	if c.https && d.plain == nil && len(c.domains) > 0 {
		log.Warn(withoutPlain, "err", "no socket named http was passed; if inbox-http.socket failed, another program may have port 80")
	}
	if d.plain != nil && len(c.domains) == 0 {
		log.Warn("without -domain the http socket leads nobody to HTTPS: all requests there are refused")
	}
	for _, option := range []string{"bind", "http-bind"} {
		if c.from[option] != "" {
			log.Warn("sockets of the service manager serve, so -"+option+" counts for nothing", "from", c.from[option])
		}
	}
	return d, nil
}

const withoutPlain = "no listener for plain HTTP: nobody is led to HTTPS, and certificates come through port 443 alone"

// openPlain opens port 80. It is done without when another program has it and
// nobody asked for it by name: the other challenge needs only port 443.
func openPlain(c *config, log *slog.Logger) (net.Listener, error) {
	if c.httpBind == "" {
		return nil, nil
	}
	l, err := listen("http-bind", c.httpBind)
	if err != nil && c.from["http-bind"] == "" {
		log.Warn(withoutPlain, "err", err)
		return nil, nil
	}
	return l, err
}

func (d doors) close() {
	for _, l := range []net.Listener{d.main, d.plain, d.metrics} {
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

// limit puts the layers around a listener that come before TLS: who may
// connect, then whom a proxy speaks for, then what the client sends without asking.
func (h *house) limit(l net.Listener, overTLS bool) net.Listener {
	limited := ratelimit.NewListener(l, h.limits.conns, h.limits.clients)
	h.limits.listeners = append(h.limits.listeners, limited)
	l = limited
	if h.cfg.proxyProtocol {
		// The header is read by the goroutine of the connection: Accept waits
		// for nobody.
		l = &proxyproto.Listener{Listener: limited, ReadHeaderTimeout: proxyHeaderTime, ConnPolicy: h.proxyPolicy}
	}
	if overTLS {
		l = h.limits.turns.Listener(h.limits.pieces.RecordListener(l))
	}
	return lazyListener{l}
}

// proxyPolicy demands the header of trusted proxies and serves nobody else:
// whoever reaches the port directly could say to be anyone.
func (h *house) proxyPolicy(o proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
	if h.limits.clients.TrustsPeer(o.Upstream.String()) {
		return proxyproto.REQUIRE, nil
	}
	return proxyproto.REJECT, proxyproto.ErrInvalidUpstream
}
