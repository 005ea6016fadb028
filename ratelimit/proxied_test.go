package ratelimit

import (
	"bufio"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"inbox/internal/netconn"
)

// namedConn takes its client's address from its first line, as a PROXY header gives it.
type namedConn struct {
	net.Conn
	reader *bufio.Reader
	once   sync.Once
	addr   net.Addr
}

func (c *namedConn) NetConn() net.Conn { return c.Conn }

func (c *namedConn) Read(p []byte) (int, error) {
	c.RemoteAddr()
	return c.reader.Read(p)
}

func (c *namedConn) RemoteAddr() net.Addr {
	c.once.Do(func() {
		c.addr = c.Conn.RemoteAddr()
		line, _ := c.reader.ReadString('\n')
		if addr, err := netip.ParseAddr(strings.TrimSpace(line)); err == nil {
			c.addr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, 1))
		}
	})
	return c.addr
}

type namedListener struct{ net.Listener }

func (l namedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &namedConn{Conn: c, reader: bufio.NewReader(c)}, nil
}

// proxied is a limiter behind a proxy at 127.0.0.1.
type proxied struct {
	*ConnLimiter
	l net.Listener
}

func listenProxied(t *testing.T, limits ConnLimits) proxied {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	limiter := NewConnLimiter(limits, &ClientIP{Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}})
	l := limiter.ClientListener(namedListener{limiter.Listener(inner)})
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	return proxied{limiter, l}
}

// open opens a connection for a client, and reports whether the server serves it.
func (p proxied) open(t *testing.T, client string) (c net.Conn, served bool) {
	t.Helper()
	c = dialFrom(t, p.l, "127.0.0.1")
	io.WriteString(c, client+"\nx")
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	_, err := c.Read(make([]byte, 1))
	return c, err == nil
}

func TestClientsOfProxiesAreLimited(t *testing.T) {
	p := listenProxied(t, ConnLimits{MaxPerAddr: 2})
	first, served := p.open(t, "192.0.2.1")
	if _, second := p.open(t, "192.0.2.1"); !served || !second {
		t.Error("a connection within the limit is refused")
	}
	if _, served := p.open(t, "192.0.2.1"); served {
		t.Error("a third connection of the client is served")
	}
	for _, client := range []string{"192.0.2.2", "2001:db8::1", "2001:db8::2", "127.0.0.1", "not named", "127.0.0.1", "127.0.0.1"} {
		if _, served := p.open(t, client); !served {
			t.Errorf("%s: refused, want served", client)
		}
	}
	if _, served := p.open(t, "2001:db8::ffff"); served {
		t.Error("a third connection of the /64 is served")
	}
	first.Close()
	for deadline := time.Now().Add(20 * time.Second); ; {
		if _, served := p.open(t, "192.0.2.1"); served {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no slot is released by a closed connection")
		}
	}
	if refused := p.Stats().RefusedAddr; refused < 2 {
		t.Errorf("got %d refusals counted, want at least 2", refused)
	}
}

func TestClientsOfProxiesAreLimitedByRate(t *testing.T) {
	p := listenProxied(t, ConnLimits{Rate: Budget{PerSecond: 0.001, Burst: 2}})
	for i := range 4 {
		if _, served := p.open(t, "192.0.2.1"); served != (i < 2) {
			t.Errorf("connection %d: got served %v, want %v", i, served, i < 2)
		}
	}
	if _, served := p.open(t, "192.0.2.2"); !served {
		t.Error("another client is refused")
	}
}

// TestClientsOfProxiesHaveShares checks that one client cannot take the slots that a proxy
// has.
func TestClientsOfProxiesHaveShares(t *testing.T) {
	p := listenProxied(t, ConnLimits{Max: 100, MaxPerAddr: 90})
	for range 60 {
		p.open(t, "192.0.2.1")
	}
	if open := p.Stats().Open; open > 20 {
		t.Errorf("got %d open connections of one client, want at most a fifth of 100", open)
	}
	if _, served := p.open(t, "192.0.2.2"); !served {
		t.Error("another client is refused")
	}
}

// TestAcceptDoesNotWaitForTheProxyHeader checks that a silent connection does not delay
// others.
func TestAcceptDoesNotWaitForTheProxyHeader(t *testing.T) {
	p := listenProxied(t, ConnLimits{MaxPerAddr: 1})
	for range 10 {
		dialFrom(t, p.l, "127.0.0.1") // sends nothing
	}
	if _, served := p.open(t, "192.0.2.1"); !served {
		t.Error("a connection behind silent ones is refused")
	}
}

func TestClosedConnectionIsNotCountedForItsClient(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	l := NewConnLimiter(ConnLimits{MaxPerAddr: 1}, &ClientIP{})
	c := l.admit(near)
	counted, _ := netconn.Find[*conn](c)
	c.Close()
	if counted.countFor(netip.MustParseAddr("192.0.2.1")) {
		t.Error("a closed connection is counted")
	}
	if open := l.Stats().Open; open != 0 {
		t.Errorf("got %d open connections, want 0", open)
	}
}

// TestConnectionSlotsHaveShares checks that addresses that open all the connections they can
// leave some to others.
func TestConnectionSlotsHaveShares(t *testing.T) {
	const most = 1365 // of 256 MiB
	l := NewConnLimiter(ConnLimits{Max: most, MaxPerAddr: 256}, &ClientIP{})
	openAll := func(addr netip.Addr) (n int) {
		for l.reserve(addr) {
			n++
		}
		return n
	}
	if n := openAll(ipv4(0, 1)); n != 256 {
		t.Errorf("got %d connections of the first address, want 256", n)
	}
	for i := range 40 {
		openAll(ipv4(1+i, 1))
	}
	for i := range 2 {
		if !l.reserve(ipv4(1000, 1)) {
			t.Errorf("connection %d of a newcomer is refused with %d open", i, l.Stats().Open)
		}
	}
	unshared := NewConnLimiter(ConnLimits{Max: 100}, &ClientIP{})
	for i := range 100 {
		if !unshared.reserve(ipv4(0, 1)) {
			t.Fatalf("without a limit per address: connection %d is refused", i)
		}
	}
}
