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

// scenario is what an attack works in: a server to attack, and a place for what
// it finds.
type scenario struct {
	*target

	mu       sync.Mutex
	figures  []string
	failures []string
}

// addFigure adds a figure to the table.
func (s *scenario) addFigure(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.figures = append(s.figures, fmt.Sprintf(format, args...))
}

// fail says what the server did not stand.
func (s *scenario) fail(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.failures) < 10 {
		s.failures = append(s.failures, fmt.Sprintf(format, args...))
	}
}

// attackerAddr is an address in 127.0.0.0/8, another for each number, and none of
// the good ones.
func attackerAddr(n int) string { return fmt.Sprintf("127.%d.%d.%d", 10+n/62500, n/250%250, 1+n%250) }

// Those who do no harm.
const (
	probeAddr  = "127.200.0.1"
	callerAddr = "127.200.0.2"
	calleeAddr = "127.200.0.3"
	clientAddr = "127.200.1.1"
)

// dialTCP connects from an address, without TLS.
func (s *scenario) dialTCP(ctx context.Context, from string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
	return d.DialContext(ctx, "tcp", s.addr)
}

// dial connects from an address, with TLS unless the server has none. It
// closes the connection when ctx ends.
func (s *scenario) dial(ctx context.Context, from string, protocols ...string) (net.Conn, error) {
	c, err := s.dialTCP(ctx, from)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { c.Close() })
	if s.plaintext {
		return c, nil
	}
	t := tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: protocols}) // made by itself a moment ago
	if err := t.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return t, nil
}

// http returns a client that connects from an address, with HTTP/1.1.
func (s *scenario) http(from string) *http.Client {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	return &http.Client{
		Timeout: 30 * time.Second,
		Transport: &http.Transport{
			DialContext:         d.DialContext,
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

// peer is a mailbox client of that name at an address.
func (s *scenario) peer(name, from string) *e2e.Client {
	return &e2e.Client{Server: s.url(), Name: name, Password: "password of " + name, HTTP: s.http(from)}
}

// parallel runs f for 0 to n-1, at most width at once, and waits.
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

// sleep waits, and reports whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// dialSmallBuffer is dial with little room for what arrives, so that an answer which
// nobody reads stays with the server.
func (s *scenario) dialSmallBuffer(ctx context.Context, from, protocol string) (net.Conn, error) {
	d := net.Dialer{
		LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)},
		Control: func(_, _ string, raw syscall.RawConn) error {
			return raw.Control(func(fd uintptr) {
				_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096) // the most that fails is the attack
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
