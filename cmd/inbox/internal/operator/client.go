package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"
)

const (
	// fetchTimeout bounds a request for the state.
	fetchTimeout = 5 * time.Second
	// maxStatusBytes bounds the response, which takes about 10 kB and 500 bytes per name.
	maxStatusBytes = 4 << 20
)

// ErrNoStatus is returned by [Fetch] if the response is not the state of a server.
var ErrNoStatus = errors.New("not the status of an inbox server")

// DialAddress returns the address at which a client on the same machine reaches a listener that
// is bound to an address.
func DialAddress(bind string) string {
	host, port, err := net.SplitHostPort(bind)
	if err != nil {
		return bind
	}
	switch addr, err := netip.ParseAddr(host); {
	case host == "", err == nil && addr.IsUnspecified() && addr.Is4():
		host = "127.0.0.1"
	case err == nil && addr.IsUnspecified():
		host = "::1"
	}
	return net.JoinHostPort(host, port)
}

// Fetch reads the state from a metrics listener at an address of [DialAddress].
func Fetch(ctx context.Context, address string) (s Status, err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	// The server accepts the host localhost whatever the name of the address is.
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+StatusPath, nil)
	if err != nil {
		return s, err
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		// The address can have a zone or the name of a port, which a URL cannot.
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(r)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return s, fmt.Errorf("%w: HTTP status %d", ErrNoStatus, resp.StatusCode)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxStatusBytes)).Decode(&s); err != nil {
		return s, fmt.Errorf("%w: %w", ErrNoStatus, err)
	}
	if s.Time.IsZero() || s.Process.StartedAt.IsZero() {
		return s, ErrNoStatus
	}
	return s, nil
}
