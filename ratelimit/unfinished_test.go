package ratelimit

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"inbox/internal/netconn"
)

// serveUnfinished serves HTTP with a limit on unfinished headers of ceiling bytes.
func serveUnfinished(t *testing.T, ceiling int64, clientIP *ClientIP) (*UnfinishedLimiter, net.Listener) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &UnfinishedLimiter{Share: NewShare(ShareLimits{Ceiling: ceiling}), ClientIP: clientIP}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Write(body)
	})}
	go server.Serve(u.HeaderListener(l))
	t.Cleanup(func() { server.Close() })
	return u, l
}

// waitUsed waits until as much of the share is used.
func waitUsed(t *testing.T, s *Share, want func(int64) bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !want(s.Used()); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("got %d bytes used after 20 s", s.Used())
		}
	}
}

func isZero(n int64) bool { return n == 0 }

const start = "GET / HTTP/1.1\r\nHost: a\r\n"

func TestUnfinishedHeadersAreCharged(t *testing.T) {
	for _, row := range []struct {
		name, header string
		atLeast      int64
	}{
		{"a usual header", start + strings.Repeat("Field: with a value of some length\r\n", 40), 0},
		{"many short fields", start + strings.Repeat("a:\n", 564), 500 * bytesPerField},
		{"a long field", start + "A: " + strings.Repeat("x", 10<<10), 5 << 10 * unfinishedFactor},
		{"a long request line", "GET /" + strings.Repeat("x", 10<<10), 5 << 10 * unfinishedFactor},
		{"after a request in the same read", start + "\r\n" + start + strings.Repeat("a:\n", 564), 500 * bytesPerField},
		{"after a body", start + "Content-Length: 3\r\n\r\na\n\n" + start + strings.Repeat("a:\n", 564), 500 * bytesPerField},
	} {
		t.Run(row.name, func(t *testing.T) {
			u, l := serveUnfinished(t, 1<<30, &ClientIP{})
			c := dialFrom(t, l, "127.0.0.2")
			io.WriteString(c, row.header)
			if row.atLeast > 0 {
				waitUsed(t, u.Share, func(n int64) bool { return n >= row.atLeast })
			}
			io.WriteString(c, "\r\n\r\n")
			c.SetReadDeadline(time.Now().Add(20 * time.Second))
			if _, err := c.Read(make([]byte, 1)); err != nil {
				t.Errorf("got no answer to the complete request: %v", err)
			}
			waitUsed(t, u.Share, isZero)
		})
	}
}

func TestHeaderConnKeepsTheStateOfTLS(t *testing.T) {
	u := &UnfinishedLimiter{Share: NewShare(ShareLimits{}), ClientIP: &ClientIP{}}
	near, far := net.Pipe()
	defer far.Close()
	c, _ := u.HeaderListener(&oneConnListener{tls.Server(near, &tls.Config{})}).Accept()
	if _, ok := c.(interface{ ConnectionState() tls.ConnectionState }); !ok {
		t.Error("got no ConnectionState, from which net/http sets Request.TLS")
	}
	if _, ok := netconn.Find[*tls.Conn](c); !ok {
		t.Error("the TLS connection cannot be unwrapped")
	}
}

func TestUnfinishedHeadersAreReleasedWithTheirConnection(t *testing.T) {
	u, l := serveUnfinished(t, 1<<30, &ClientIP{})
	c := dialFrom(t, l, "127.0.0.2")
	io.WriteString(c, start+strings.Repeat("a:\n", 1000))
	waitUsed(t, u.Share, func(n int64) bool { return n > 0 })
	c.Close()
	waitUsed(t, u.Share, isZero)
}

func TestBodiesAreNotCharged(t *testing.T) {
	u, l := serveUnfinished(t, 1<<10, &ClientIP{})
	body := strings.Repeat("line\n", 100_000)
	for _, chunked := range []bool{false, true} {
		r, _ := http.NewRequest("POST", "http://"+l.Addr().String(), strings.NewReader(body))
		if chunked {
			r.ContentLength = -1
		}
		for range 3 {
			r.Body = io.NopCloser(strings.NewReader(body))
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatalf("chunked %v: %v", chunked, err)
			}
			got, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if string(got) != body {
				t.Errorf("chunked %v: got %d bytes, want %d", chunked, len(got), len(body))
			}
		}
	}
	if u.Headers() != 0 || u.Share.Used() != 0 {
		t.Errorf("got %d refusals and %d bytes charged, want none", u.Headers(), u.Share.Used())
	}
}

// TestUnfinishedHeadersAreRefused checks that an address that uses up its share is refused,
// and that others are not.
func TestUnfinishedHeadersAreRefused(t *testing.T) {
	u, l := serveUnfinished(t, 1<<20, &ClientIP{})
	var conns []net.Conn
	for range 60 {
		c := dialFrom(t, l, "127.0.0.2")
		conns = append(conns, c)
		io.WriteString(c, start+strings.Repeat("a:\n", 1000))
	}
	for deadline := time.Now().Add(20 * time.Second); u.Headers() < 59; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("got %d connections closed, want 59 of 60", u.Headers())
		}
	}
	closed := 0
	for _, c := range conns {
		c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			closed++
		}
	}
	if closed < 59 {
		t.Errorf("the client sees %d connections closed, want 59", closed)
	}
	c := dialFrom(t, l, "127.0.0.3")
	fmt.Fprintf(c, "%s%s\r\n", start, strings.Repeat("Field: value\r\n", 60))
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Errorf("another client: %v", err)
	}
}

func TestUnfinishedHeadersOfProxiesAreNotShared(t *testing.T) {
	u, l := serveUnfinished(t, 1<<20, &ClientIP{Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}})
	for range 4 {
		io.WriteString(dialFrom(t, l, "127.0.0.2"), start+strings.Repeat("a:\n", 1064))
	}
	waitUsed(t, u.Share, func(n int64) bool { return n >= 4*1000*bytesPerField })
	if u.Headers() != 0 {
		t.Errorf("got %d refusals of a proxy below the ceiling", u.Headers())
	}
	io.WriteString(dialFrom(t, l, "127.0.0.2"), start+strings.Repeat("a:\n", 4000))
	for deadline := time.Now().Add(20 * time.Second); u.Headers() < 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a proxy exceeds the ceiling")
		}
	}
}

// serveHandshakes completes TLS handshakes with a limit on unfinished ones of ceiling bytes.
func serveHandshakes(t *testing.T, ceiling int64) (*UnfinishedLimiter, net.Listener) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	u := &UnfinishedLimiter{Share: NewShare(ShareLimits{Ceiling: ceiling}), ClientIP: &ClientIP{}}
	certificate := httptest.NewTLSServer(nil)
	t.Cleanup(certificate.Close)
	go echo(tls.NewListener(u.HandshakeListener(l), certificate.TLS))
	return u, l
}

// hello returns the records of a ClientHello of n bytes without its last byte.
func hello(n int) (records []byte) {
	message := append([]byte{1, byte(n >> 16), byte(n >> 8), byte(n)}, make([]byte, n-1)...)
	for chunk := range slices.Chunk(message, 16<<10) {
		records = append(records, 22, 3, 1, byte(len(chunk)>>8), byte(len(chunk)))
		records = append(records, chunk...)
	}
	return records
}

func TestUnfinishedHandshakesAreCharged(t *testing.T) {
	u, l := serveHandshakes(t, 1<<30)
	c := dialFrom(t, l, "127.0.0.2")
	c.Write(hello(60_000))
	waitUsed(t, u.Share, func(n int64) bool { return n >= 50_000*unfinishedFactor })
	c.Close()
	waitUsed(t, u.Share, isZero)
}

func TestUnfinishedHandshakesAreRefused(t *testing.T) {
	u, l := serveHandshakes(t, 1<<20)
	for range 20 {
		dialFrom(t, l, "127.0.0.2").Write(hello(60_000))
	}
	for deadline := time.Now().Add(20 * time.Second); u.Handshakes() < 19; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("got %d handshakes refused, want 19 of 20", u.Handshakes())
		}
	}
}

func TestHandshakesOfUsualSizeCostNothing(t *testing.T) {
	u, l := serveHandshakes(t, 1)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		if err := exchange("127.0.0.2", l.Addr().String(), &tls.Config{InsecureSkipVerify: true, MaxVersion: version}); err != nil {
			t.Error(tls.VersionName(version), err)
		}
	}
	if u.Handshakes() != 0 {
		t.Errorf("got %d refusals, want none", u.Handshakes())
	}
}

func TestBytesAfterTheHandshakeCostNothing(t *testing.T) {
	u := &UnfinishedLimiter{Share: NewShare(ShareLimits{Ceiling: 1}), ClientIP: &ClientIP{}}
	stream := append(recordsOfType(handshakeRecord, 1), recordsOfType(dataRecord, 100)...)
	c, _ := u.HandshakeListener(&oneConnListener{&scriptedConn{from: "192.0.2.1", in: bytes.NewReader(stream), chunk: 4096}}).Accept()
	if n, err := io.Copy(io.Discard, c); err != nil || n != int64(len(stream)) {
		t.Errorf("got %d bytes and %v, want %d", n, err, len(stream))
	}
}

// TestChargeAndClose charges a connection while it is closed.
func TestChargeAndClose(t *testing.T) {
	u := &UnfinishedLimiter{Share: NewShare(ShareLimits{}), ClientIP: &ClientIP{}}
	for range 200 {
		c, conn := &charge{limiter: u}, &scriptedConn{from: "192.0.2.1"}
		var closing sync.WaitGroup
		closing.Go(func() { c.close(conn) })
		for _, cost := range []int64{0, 100, 0, 50, 0, 70} {
			c.set(cost, conn)
		}
		closing.Wait()
	}
	if n := u.Share.Used(); n != 0 {
		t.Errorf("got %d bytes charged after all connections were closed", n)
	}
}

// TestHijackedConnectionHasNoHeaders checks that what follows a hijacked request is not charged,
// and that a charge ends.
func TestHijackedConnectionHasNoHeaders(t *testing.T) {
	u := &UnfinishedLimiter{Share: NewShare(ShareLimits{Ceiling: 1 << 30}), ClientIP: &ClientIP{}}
	header := start + strings.Repeat("a:\n", 564)
	in := bytes.NewReader([]byte(header))
	c, err := u.HeaderListener(&oneConnListener{&scriptedConn{from: "192.0.2.1", in: in, chunk: 4096}}).Accept()
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 8192)
	if c.Read(buf); u.Share.Used() == 0 {
		t.Fatal("a large header is not charged")
	}
	if netconn.Hijacked(c); u.Share.Used() != 0 {
		t.Errorf("%d bytes are charged after the connection was hijacked", u.Share.Used())
	}
	in.Reset([]byte(header))
	if n, err := c.Read(buf); n == 0 || err != nil || u.Share.Used() != 0 {
		t.Errorf("read %d bytes, %v, of which %d are charged", n, err, u.Share.Used())
	}
}

func BenchmarkHeaderConnRead(b *testing.B) {
	u := &UnfinishedLimiter{Share: NewShare(ShareLimits{}), ClientIP: &ClientIP{}}
	request := []byte(start + strings.Repeat("Field: value\r\n", 10) + "\r\n")
	in := bytes.NewReader(nil)
	c, _ := u.HeaderListener(&oneConnListener{&scriptedConn{from: "192.0.2.1", in: in, chunk: 4096}}).Accept()
	for buf := make([]byte, 4096); b.Loop(); {
		in.Reset(request)
		c.Read(buf)
	}
}
