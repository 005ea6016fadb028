package conn

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"inbox/ratelimit"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// testServer is a Server over TLS on a free port.
type testServer struct {
	*Server
	t        *testing.T
	addr     string
	log      *lockedBuffer
	config   *tls.Config
	listener net.Listener
	ended    chan error // the error of Serve
}

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

// waitDeadline bounds each wait of a test.
const waitDeadline = 30 * time.Second

// startServer serves handler until the test ends. Configure can change the TLS configuration.
func startServer(t *testing.T, timeout time.Duration, handler http.HandlerFunc, configure func(*tls.Config)) *testServer {
	t.Helper()
	return startUnder(t, timeout, handler, configure, newUnfinished(), nil, func(l net.Listener) net.Listener { return l })
}

// startServerWithTURN is startServer with a server of TURN.
func startServerWithTURN(t *testing.T, timeout time.Duration, handler http.HandlerFunc, configure func(*tls.Config), turn func(net.Conn)) *testServer {
	t.Helper()
	return startUnder(t, timeout, handler, configure, newUnfinished(), turn, func(l net.Listener) net.Listener { return l })
}

// startUnder is startServer with a limiter, a server of TURN, and layers between the sockets and TLS.
func startUnder(t *testing.T, timeout time.Duration, handler http.HandlerFunc, configure func(*tls.Config),
	unfinished *ratelimit.UnfinishedLimiter, turn func(net.Conn), layers func(net.Listener) net.Listener) *testServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &testServer{t: t, addr: l.Addr().String(), listener: l, log: new(lockedBuffer), ended: make(chan error, 1)}
	s.config = &tls.Config{Certificates: []tls.Certificate{testCertificate()}, NextProtos: []string{"h2", "http/1.1"}}
	if configure != nil {
		configure(s.config)
	}
	frames := &ratelimit.FrameLimiter{Limiter: ratelimit.NewLimiter(ratelimit.Budget{}, 0), ClientIP: &ratelimit.ClientIP{}}
	s.Server, err = NewServer(&http.Server{
		Handler: handler, ErrorLog: log.New(s.log, "", 0), ReadHeaderTimeout: timeout, IdleTimeout: time.Minute,
	}, s.config, frames, unfinished, turn)
	if err != nil {
		t.Fatal(err)
	}
	go func() { s.ended <- s.Serve(layers(l)) }()
	t.Cleanup(func() { l.Close(); s.Close() })
	return s
}

func testCertificate() tls.Certificate {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	return s.TLS.Certificates[0]
}

func (s *testServer) dialTCP() net.Conn {
	s.t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(waitDeadline))
	return c
}

// dial opens a TLS connection that offers the protocols.
func (s *testServer) dial(protocols ...string) *tls.Conn {
	s.t.Helper()
	c := tls.Client(s.dialTCP(), &tls.Config{InsecureSkipVerify: true, NextProtos: protocols})
	if err := c.Handshake(); err != nil {
		s.t.Fatal(err)
	}
	return c
}

// wait waits until done returns true.
func (s *testServer) wait(what string, done func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(waitDeadline); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("still waiting for %s; the log: %s", what, s.log)
		}
	}
}

// waitLog waits until the server has logged text.
func (s *testServer) waitLog(text string) {
	s.t.Helper()
	s.wait(text, func() bool { return strings.Contains(s.log.String(), text) })
}

// waitHandshakes waits until n handshakes are in progress.
func (s *testServer) waitHandshakes(n int) {
	s.t.Helper()
	s.wait("handshakes", func() bool {
		s.handshakes.mu.Lock()
		defer s.handshakes.mu.Unlock()
		return len(s.handshakes.inProgress) == n
	})
}

// framer is an HTTP/2 client at frame level.
type framer struct {
	*http2.Framer
	t *testing.T
}

func (s *testServer) dialHTTP2() framer {
	s.t.Helper()
	c := s.dial("h2")
	f := framer{http2.NewFramer(c, c), s.t}
	io.WriteString(c, http2.ClientPreface)
	f.WriteSettings()
	return f
}

// get sends a GET request on a stream.
func (f framer) get(stream uint32, path string) {
	f.t.Helper()
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range [][2]string{{":method", "GET"}, {":path", path}, {":scheme", "https"}, {":authority", "localhost"}} {
		encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true}); err != nil {
		f.t.Fatal(err)
	}
}

// until reads frames until one matches. It returns false at the end of the connection.
func (f framer) until(wanted func(http2.Frame) bool) bool {
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return false
		}
		if wanted(frame) {
			return true
		}
	}
}

func (f framer) answered(stream uint32) bool {
	return f.until(func(frame http2.Frame) bool {
		return frame.Header().StreamID == stream && frame.Header().Flags.Has(http2.FlagDataEndStream)
	})
}

// goAway waits for GOAWAY without an error and with the last stream ID.
func (f framer) goAway(last uint32) bool {
	return f.until(func(frame http2.Frame) bool {
		g, ok := frame.(*http2.GoAwayFrame)
		return ok && g.ErrCode == http2.ErrCodeNo && g.LastStreamID == last
	})
}

// ended waits for the end of the connection.
func (f framer) ended() { f.until(func(http2.Frame) bool { return false }) }

func TestHandOverByProtocol(t *testing.T) {
	s := startServer(t, time.Minute, func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || infoOf(r) == nil || r.RemoteAddr == "" {
			t.Errorf("%s: got a request without TLS state, connection information or address", r.Proto)
		}
		io.WriteString(w, r.Proto)
	}, func(c *tls.Config) { c.NextProtos = append(c.NextProtos, "acme-tls/1") })
	for _, row := range []struct {
		name      string
		protocols []string
		want      string
	}{
		{"HTTP/2", []string{"h2", "http/1.1"}, "HTTP/2"},
		{"HTTP/1.1", []string{"http/1.1"}, "HTTP/1.1"},
		{"no ALPN", nil, "HTTP/1.1"},
		{"answered in the handshake", []string{"acme-tls/1"}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := s.dial(row.protocols...)
			if row.want == "HTTP/2" {
				f := framer{http2.NewFramer(c, c), t}
				io.WriteString(c, http2.ClientPreface)
				f.WriteSettings()
				if f.get(1, "/"); !f.answered(1) {
					t.Error("no response over HTTP/2")
				}
				return
			}
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
			got, _ := io.ReadAll(c)
			if row.want == "" && len(got) > 0 || !strings.HasPrefix(string(got), row.want) || !strings.HasSuffix(string(got), row.want) {
				t.Errorf("got %q, want a response of %q", got, row.want)
			}
		})
	}
}

// TestHandshakeFailures checks what a client gets and what is logged, which package logging
// counts by its text.
func TestHandshakeFailures(t *testing.T) {
	t.Run("HTTP", func(t *testing.T) {
		s := startServer(t, time.Minute, nil, nil)
		for _, request := range []string{"GET / HTTP/1.1\r\n", "OPTIONS * HTTP/1.1\r\n", http2.ClientPreface} {
			c := s.dialTCP()
			io.WriteString(c, request)
			if got, _ := bufio.NewReader(c).ReadString('\n'); got != "HTTP/1.0 400 Bad Request\r\n" {
				t.Errorf("%q: got %q, want status 400", request, got)
			}
		}
		s.waitLog("http: TLS handshake error from 127.0.0.1:")
		s.waitLog("client sent an HTTP request to an HTTPS server")
	})
	t.Run("timeout", func(t *testing.T) {
		s := startServer(t, 50*time.Millisecond, nil, nil)
		c := s.dialTCP()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("a silent client got %v, want the end of the connection", err)
		}
		s.waitLog("i/o timeout")
	})
	t.Run("panic", func(t *testing.T) {
		s := startServer(t, time.Minute, nil, func(c *tls.Config) {
			c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				if hello.ServerName == "panic.example" {
					panic("a bug")
				}
				return nil, nil
			}
		})
		c := tls.Client(s.dialTCP(), &tls.Config{InsecureSkipVerify: true, ServerName: "panic.example"})
		if err := c.Handshake(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v, want the end of the connection", err)
		}
		s.waitLog("http: panic serving 127.0.0.1:")
		s.dial("h2") // others are still served
	})
}

// failingListener returns errors before it accepts.
type failingListener struct {
	net.Listener
	errs []error
}

func (l *failingListener) Accept() (net.Conn, error) {
	if len(l.errs) == 0 {
		return nil, errors.New("the end")
	}
	err := l.errs[0]
	l.errs = l.errs[1:]
	return nil, err
}

// TestAcceptIsRetried checks that the server stops accepting only at a permanent error.
func TestAcceptIsRetried(t *testing.T) {
	var text bytes.Buffer
	h := handshakes{log: log.New(&text, "", 0)}
	outOfFiles := &net.OpError{Op: "accept", Err: syscall.EMFILE}
	err := h.serve(&failingListener{errs: []error{outOfFiles, outOfFiles}}, &tls.Config{}, nil)
	if err == nil || err.Error() != "the end" {
		t.Errorf("got %v, want the permanent error", err)
	}
	if got := text.String(); !strings.Contains(got, "retrying in 5ms") || !strings.Contains(got, "retrying in 10ms") {
		t.Errorf("got the log %q, want two retries", got)
	}
}

// TestGoAway checks that GOAWAY reaches idle connections and those with a request in progress,
// and also those that were made after an earlier GoAway.
func TestGoAway(t *testing.T) {
	started, finish := make(chan bool, 1), make(chan bool)
	s := startServer(t, time.Minute, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			started <- true
			<-finish
		}
	}, nil)
	idle, busy := s.dialHTTP2(), s.dialHTTP2()
	if idle.get(1, "/"); !idle.answered(1) {
		t.Fatal("no response")
	}
	busy.get(1, "/slow")
	<-started
	s.GoAway()
	for name, c := range map[string]framer{"idle": idle, "busy": busy} {
		if !c.goAway(1) {
			t.Errorf("%s: the connection ended without GOAWAY for stream 1", name)
		}
	}
	idle.ended()
	late := s.dialHTTP2()
	if late.get(1, "/"); !late.answered(1) {
		t.Fatal("no response on a late connection")
	}
	s.GoAway()
	if !late.goAway(1) {
		t.Error("a late connection ended without GOAWAY")
	}
	close(finish)
	if !busy.answered(1) {
		t.Error("a request in progress got no response")
	}
	busy.ended()
	late.ended()
}

// TestShutdownWaitsForHTTP2 checks that Shutdown returns after the last response, and that
// Close ends what is left when its time is over.
func TestShutdownWaitsForHTTP2(t *testing.T) {
	started, finish := make(chan bool, 2), make(chan bool)
	s := startServer(t, time.Minute, func(http.ResponseWriter, *http.Request) {
		started <- true
		<-finish
	}, nil)
	busy, idle := s.dialHTTP2(), s.dialHTTP2()
	idle.until(func(f http2.Frame) bool { _, ok := f.(*http2.SettingsFrame); return ok }) // until it is served
	busy.get(1, "/")
	<-started
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(t.Context()) }()
	if !busy.goAway(1) {
		t.Error("no GOAWAY")
	}
	select {
	case err := <-ended:
		t.Fatalf("Shutdown returned %v before the response", err)
	default:
	}
	idle.ended()
	close(finish)
	if !busy.answered(1) {
		t.Error("a request in progress got no response")
	}
	busy.ended()
	if err := <-ended; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

func TestCloseEndsHTTP2(t *testing.T) {
	started, finish := make(chan bool, 1), make(chan bool)
	defer close(finish)
	s := startServer(t, time.Minute, func(http.ResponseWriter, *http.Request) {
		started <- true
		<-finish
	}, nil)
	busy := s.dialHTTP2()
	busy.get(1, "/")
	<-started
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: got %v, want its context's error", err)
	}
	s.Close()
	busy.ended()
	if err := s.http2.wait(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestCloseIdle checks that connections that would delay Shutdown are closed, whatever their
// state, and others are not.
func TestCloseIdle(t *testing.T) {
	started, finish := make(chan bool, 1), make(chan bool)
	s := startServer(t, time.Minute, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			started <- true
			<-finish
		}
	}, nil)
	silent := s.dialTCP()
	withoutRequest, idle, busy := s.dial("http/1.1"), s.dialHTTP2(), s.dialHTTP2()
	if idle.get(1, "/"); !idle.answered(1) {
		t.Fatal("no response")
	}
	busy.get(1, "/slow")
	<-started
	s.waitHandshakes(1)
	s.wait("a connection without a request", func() bool { return s.newConns.count.Load() == 1 })
	s.CloseIdle(time.Hour)
	for name, c := range map[string]net.Conn{"in handshake": silent, "without a request": withoutRequest} {
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: got %v, want the end of the connection", name, err)
		}
	}
	if idle.get(3, "/"); !idle.answered(3) {
		t.Error("a connection that is idle for less than an hour got no response")
	}
	s.wait("the state of the idle connection", func() bool { // set after its response is sent
		s.CloseIdle(0)
		return s.http2.open.Load() == 1
	})
	close(finish)
	if !busy.answered(1) {
		t.Error("a request in progress got no response")
	}
	late := tls.Client(s.dialTCP(), &tls.Config{InsecureSkipVerify: true})
	if err := late.Handshake(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a handshake after CloseIdle: got %v, want the end of the connection", err)
	}
}

// TestListenerCloseEndsOnlyServe checks that a request on an open connection is answered
// after the listener is closed, and a handshake in progress completes.
func TestListenerCloseEndsOnlyServe(t *testing.T) {
	s := startServer(t, time.Minute, func(http.ResponseWriter, *http.Request) {}, nil)
	raw := s.dialTCP()
	s.waitHandshakes(1)
	open := s.dial("http/1.1")
	s.listener.Close()
	if err := <-s.ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve: got %v, want the listener's error", err)
	}
	late := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
	for name, c := range map[string]net.Conn{"open": open, "in handshake": late} {
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if got, err := bufio.NewReader(c).ReadString('\n'); got != "HTTP/1.1 200 OK\r\n" {
			t.Errorf("%s: got %q, %v, want status 200", name, got, err)
		}
	}
}
