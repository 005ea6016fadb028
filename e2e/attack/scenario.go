package attack

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"inbox/e2e"

	"golang.org/x/sys/unix"
)

// scenario is the environment of an attack: the target, and its figures and failures.
// Its methods can be called concurrently.
type scenario struct {
	*target
	// flooderCPUs are those of processes that flood; nil: all.
	flooderCPUs cpus

	mu       sync.Mutex
	figures  []string
	failures []string
}

// addFigure adds a figure to the row of the attack in the table.
func (s *scenario) addFigure(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.figures = append(s.figures, fmt.Sprintf(format, args...))
}

// fail reports a failure of the attack. It keeps the first ten.
func (s *scenario) fail(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.failures) < 10 {
		s.failures = append(s.failures, fmt.Sprintf(format, args...))
	}
}

// attackerAddr returns the n-th attacker address in 127.0.0.0/8, distinct from those of the
// good clients. The first 250 are in networks of their own.
func attackerAddr(n int) string { return fmt.Sprintf("127.%d.%d.%d", 10+n/62500, n%250, 1+n/250%250) }

// Addresses of good clients.
const (
	probeAddr  = "127.200.0.1"
	callerAddr = "127.200.0.2"
	calleeAddr = "127.200.0.3"
	clientAddr = "127.200.1.1"
)

// dialTCP connects from a source address, without TLS. Through a proxy, the address is that of
// the proxy's client.
func (s *scenario) dialTCP(ctx context.Context, from string) (net.Conn, error) {
	source := from
	if s.proxied {
		source = "127.0.0.1"
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}, Timeout: 10 * time.Second}
	c, err := d.DialContext(ctx, "tcp", s.addr)
	if err == nil && s.resets {
		_ = c.(*net.TCPConn).SetLinger(0) // a failure lets the server read what has arrived
	}
	if err == nil && s.proxied {
		_, err = fmt.Fprintf(c, "PROXY TCP4 %s 127.0.0.1 1 2\r\n", from)
	}
	return c, err
}

// dial connects from a source address, with TLS unless the server is plaintext. It closes
// the connection when ctx ends.
func (s *scenario) dial(ctx context.Context, from string, protocols ...string) (net.Conn, error) {
	c, err := s.dialTCP(ctx, from)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { c.Close() })
	if s.plaintext {
		return c, nil
	}
	t := tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: protocols}) // self-signed certificate
	if err := t.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return t, nil
}

// http returns an HTTP/1.1 client that connects from a source address.
func (s *scenario) http(from string) *http.Client {
	return &http.Client{
		Timeout: 30 * time.Second,
		Transport: &http.Transport{
			DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return s.dialTCP(ctx, from) },
			TLSClientConfig:     &tls.Config{InsecureSkipVerify: true},
			MaxIdleConnsPerHost: 64,
		},
	}
}

func (s *scenario) url() string {
	if s.plaintext {
		return "http://" + s.addr
	}
	return "https://" + s.addr
}

// peer returns a mailbox client with a name and a source address.
func (s *scenario) peer(name, from string) *e2e.Client {
	return &e2e.Client{Server: s.url(), Name: name, Password: "password of " + name, HTTP: s.http(from)}
}

// parallel runs f for 0 to n-1, at most limit calls at once, and waits for all.
func parallel(n, limit int, f func(i int)) {
	var wg sync.WaitGroup
	sem := make(chan struct{}, limit)
	for i := range n {
		sem <- struct{}{}
		wg.Go(func() {
			defer func() { <-sem }()
			f(i)
		})
	}
	wg.Wait()
}

// sleep waits for d and returns true, or returns false when ctx ends.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// dialSmallBuffer is dial with a small receive buffer, so that unread responses stay in the
// server.
func (s *scenario) dialSmallBuffer(ctx context.Context, from, protocol string) (net.Conn, error) {
	d := net.Dialer{
		LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)},
		Control: func(_, _ string, raw syscall.RawConn) error {
			return raw.Control(func(fd uintptr) {
				_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096) // a failure only weakens the attack
			})
		},
	}
	c, err := d.DialContext(ctx, "tcp", s.addr)
	if err != nil || s.plaintext {
		return c, err
	}
	t := tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}})
	context.AfterFunc(ctx, func() { c.Close() })
	return t, t.HandshakeContext(ctx)
}
