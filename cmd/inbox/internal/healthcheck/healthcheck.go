// Package healthcheck asks a server on this machine whether it answers, for inbox health. It
// finds the options of a running server and its sockets that systemd holds.
package healthcheck

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"inbox/cmd/inbox/internal/conn"
	"inbox/cmd/inbox/internal/host"
)

// Timeout bounds a check.
const Timeout = 3 * time.Second

// Target is a server on this machine.
type Target struct {
	// Bind is its listen address: host:port, or unix:/path.
	Bind string
	// HTTPS selects HTTPS. The certificate is not verified.
	HTTPS bool
	// Host is the host of the request, and the server name of TLS; empty for the address.
	Host string
	// ProxyProtocol sends a PROXY header first.
	ProxyProtocol bool
	// Path is the path of the liveness check.
	Path string
}

// Check requests the liveness check within [Timeout]. It returns a line for the operator, or
// an error that names the address.
func (t Target) Check(ctx context.Context) (answer string, err error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	network, addrs := t.dialAddrs()
	var errs []error
	for _, addr := range addrs {
		answer, err := t.request(ctx, network, addr)
		if err == nil {
			return answer, nil
		}
		errs = append(errs, fmt.Errorf("no healthy server at %s: %w", addr, err))
	}
	return "", errors.Join(errs...)
}

// dialAddrs returns the addresses to try, at least one.
func (t Target) dialAddrs() (network string, addrs []string) {
	if path, isUnix := strings.CutPrefix(t.Bind, "unix:"); isUnix {
		return "unix", []string{path}
	}
	if addrs = host.DialAddrs(t.Bind); len(addrs) == 0 {
		addrs = []string{t.Bind}
	}
	return "tcp", addrs
}

func (t Target) request(ctx context.Context, network, addr string) (answer string, err error) {
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return t.dial(ctx, network, addr) },
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, ServerName: t.serverName()},
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url(), nil)
	if err != nil {
		return "", err
	}
	if t.Host != "" {
		r.Host = bracketed(t.Host)
	}
	resp, err := client.Do(r)
	switch {
	case isUnrecognizedName(err):
		return "ok: " + addr + " answers; it has no certificate for " + t.Host + " yet", nil
	case err != nil:
		return "", err
	}
	defer resp.Body.Close()
	if _, err := io.CopyN(io.Discard, resp.Body, 1<<10); err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: got %s, want 200", t.Path, resp.Status)
	}
	return "ok: " + addr, nil
}

// isUnrecognizedName reports whether the server has sent the TLS alert that it has no certificate
// for the name (RFC 6066, section 3). crypto/tls does not export the type of alerts.
func isUnrecognizedName(err error) bool {
	var remote *net.OpError
	return errors.As(err, &remote) && remote.Op == "remote error" && remote.Err.Error() == tls.AlertError(112).Error()
}

// dial connects and sends the PROXY header.
func (t Target) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil || !t.ProxyProtocol {
		return c, err
	}
	if err := conn.SendLocalHeader(ctx, c); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// url returns the URL of the request. Its host is not dialled.
func (t Target) url() string {
	scheme := "http"
	if t.HTTPS {
		scheme = "https"
	}
	return scheme + "://localhost" + t.Path
}

// serverName returns the name in the TLS handshake. crypto/tls sends no IP address.
func (t Target) serverName() string { return cmp.Or(t.Host, "127.0.0.1") }

// bracketed returns a host as in a Host field.
func bracketed(host string) string {
	if addr, err := netip.ParseAddr(host); err == nil && addr.Is6() {
		return "[" + host + "]"
	}
	return host
}
