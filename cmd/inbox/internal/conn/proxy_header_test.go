package conn

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"inbox/inbox"
	"inbox/ratelimit"

	"github.com/pires/go-proxyproto"
)

// A receiver behind a proxy must be checked for liveness as any other.
func TestInfoUnderProxyHeader(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	limited := ratelimit.NewConnLimiter(ratelimit.ConnLimits{}, &ratelimit.ClientIP{}).Listener(inner)
	trusted := &ratelimit.ClientIP{Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}
	l := LazyListener(ProxyListener(limited, trusted, func(net.Addr, []byte) {}, nil), &WriteLimit{}, nil)
	client, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	requests := map[string]*http.Request{}
	for _, c := range []net.Conn{c, tls.Server(c, &tls.Config{})} {
		r := (&http.Request{}).WithContext(WithInfo(t.Context(), c))
		requests[fmt.Sprintf("%T", c)] = r
		if infoOf(r).counted == nil {
			t.Errorf("%T: got no counted connection", c)
		}
		if !inbox.Alive(r) {
			t.Errorf("%T: an open connection is not alive", c)
		}
	}
	client.Close()
	for conn, r := range requests {
		for deadline := time.Now().Add(5 * time.Second); inbox.Alive(r); {
			if time.Now().After(deadline) {
				t.Fatalf("%s: still alive after the client closed the connection", conn)
			}
		}
	}
}

// failingCloser is a connection of a peer whose closing fails.
type failingCloser struct {
	net.Conn
	peer string
}

func (c failingCloser) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.peer))
}

func (c failingCloser) Close() error {
	c.Conn.Close()
	return io.ErrUnexpectedEOF
}

// fixedListener accepts the connections of a list, and is then closed.
type fixedListener struct {
	net.Listener
	conns []net.Conn
}

func (l *fixedListener) Accept() (net.Conn, error) {
	if len(l.conns) == 0 {
		return nil, net.ErrClosed
	}
	c := l.conns[0]
	l.conns = l.conns[1:]
	return c, nil
}

// TestProxyListenerContinues checks that a refused connection whose closing fails does not end
// the listener.
func TestProxyListenerContinues(t *testing.T) {
	inner := &fixedListener{}
	for _, peer := range []string{"192.0.2.1:1", "192.0.2.2:2", "127.0.0.1:3"} {
		client, server := net.Pipe()
		defer client.Close()
		inner.conns = append(inner.conns, failingCloser{server, peer})
	}
	trusted := &ratelimit.ClientIP{Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}
	refused := 0
	l := ProxyListener(inner, trusted, func(net.Addr, []byte) {}, func(net.Addr) { refused++ })
	c, err := l.Accept()
	if err != nil || refused != 2 {
		t.Fatalf("got %v after %d refusals, want the third connection", err, refused)
	}
	c.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want the error of the listener", err)
	}
}

// FuzzProxyHeader sends anything in place of a PROXY header: nothing that is
// none gets through, and what gets through says a plain address.
func FuzzProxyHeader(f *testing.F) {
	v2 := "\r\n\r\n\x00\r\nQUIT\n"
	for _, seed := range []string{"", "GET / HTTP/1.1\r\n\r\n", "PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\nhello", "PROXY UNKNOWN\r\nhello", "PROXY TCP6 ::1 ::1 1 2\r\n",
		"PROXY TCP4 192.0.2.1", v2 + "\x21\x11\x00\x0c\xc6\x33\x64\x09\x7f\x00\x00\x01\x04\xd2\x0b\xb8hello", v2 + "\x20\x00\x00\x00hello", v2 + "\x21\x21\xff\xff"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		client, server := net.Pipe()
		defer server.Close()
		go func() {
			client.Write(sent)
			client.Close()
		}()
		inner := proxyproto.NewConn(server, proxyproto.WithPolicy(proxyproto.REQUIRE), proxyproto.SetReadHeaderTimeout(time.Second))
		c := newLazyConn(inner, &WriteLimit{})
		got, err := io.ReadAll(c)
		isHeader := bytes.HasPrefix(sent, []byte("PROXY ")) || bytes.HasPrefix(sent, []byte(v2))
		if len(got) > 0 && (!isHeader || !bytes.HasSuffix(sent, got) || len(got) == len(sent)) {
			t.Errorf("%q: got %q through (%v)", sent, got, err)
		}
		if a, ok := c.RemoteAddr().(*net.TCPAddr); ok && !a.AddrPort().IsValid() {
			t.Errorf("%q: got the address %v", sent, a)
		}
	})
}

// TestLocalHeader checks what a loopback peer that is not trusted can send: only a header that
// names no client.
func TestLocalHeader(t *testing.T) {
	for sent, want := range map[string]string{
		LocalHeader + "hello":                         "hello",
		LocalHeader[:15]:                              "",
		"PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\nhello": "",
		LocalHeader[:12] + "\x21\x11\x00\x0c\xc6\x33\x64\x09\x7f\x00\x00\x01\x04\xd2\x0b\xb8hello": "",
		"GET / HTTP/1.1\r\n\r\n": "",
	} {
		client, server := net.Pipe()
		inner := &fixedListener{conns: []net.Conn{failingCloser{server, "127.0.0.1:3"}}}
		refused := 0
		l := ProxyListener(inner, &ratelimit.ClientIP{}, func(net.Addr, []byte) {}, func(net.Addr) { refused++ })
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for i := range sent {
				client.Write([]byte{sent[i]})
			}
			client.Close()
		}()
		got, err := io.ReadAll(c)
		if string(got) != want || want == "" && err == nil {
			t.Errorf("%q: got %q and %v, want %q", sent, got, err, want)
		}
		if wantRefused := want == "" && sent != LocalHeader[:15]; (refused > 0) != wantRefused {
			t.Errorf("%q: got %d refusals", sent, refused)
		}
		if want != "" && c.RemoteAddr().String() != "127.0.0.1:3" {
			t.Errorf("got the address %v, want that of the peer", c.RemoteAddr())
		}
		c.Close()
	}
}
