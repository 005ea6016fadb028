package ratelimit

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pipeListener hands out connections in memory.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { close(l.closed); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

// lingeringServer refuses every request at once, without reading the body.
type lingeringServer struct {
	*LingeringClose
	listener *pipeListener
}

func testLingering(t *testing.T, limits LingeringLimits, addr string, test func(*lingeringServer)) {
	synctest.Test(t, func(t *testing.T) {
		clientAddr, _ := netip.ParseAddr(addr)
		s := &lingeringServer{
			NewLingeringClose(limits, func(*http.Request) netip.Addr { return clientAddr }),
			&pipeListener{make(chan net.Conn), make(chan struct{})},
		}
		refuse := func(w http.ResponseWriter, r *http.Request) {
			if read := r.Header.Get("Read"); read != "" {
				var n int64
				fmt.Sscan(read, &n)
				io.CopyN(io.Discard, r.Body, n)
			}
			w.Header().Set("Connection", "close")
			w.Header().Set("Content-Length", "7")
			w.WriteHeader(http.StatusTooManyRequests)
			io.WriteString(w, "refused")
		}
		web := &http.Server{Handler: s.Handler(http.HandlerFunc(refuse))}
		go web.Serve(s.listener)
		defer time.Sleep(time.Second) // until the connections end, half a second after the response
		defer web.Close()
		test(s)
	})
}

// post sends a body in pieces of 64 KiB, one each interval, and then returns the response
// and how much of the body could be sent. The response is received meanwhile, as the
// kernel does.
func (s *lingeringServer) post(header string, size int, interval time.Duration) (response string, sent int) {
	client, server := net.Pipe()
	defer client.Close()
	s.listener.conns <- server
	received := make(chan string, 1)
	go func() {
		resp, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err != nil {
			received <- err.Error()
			return
		}
		body, _ := io.ReadAll(resp.Body)
		received <- resp.Status + " " + string(body)
	}()
	io.WriteString(client, "POST / HTTP/1.1\r\nHost: x\r\n"+header+"\r\n\r\n")
	piece := []byte(strings.Repeat("x", 64<<10))
	if strings.HasPrefix(header, "Transfer-Encoding") {
		piece = []byte("fff0\r\n" + strings.Repeat("x", 0xfff0) + "\r\n")
	}
	for sent < size {
		time.Sleep(interval)
		n, err := client.Write(piece[:min(len(piece), size-sent)])
		sent += n
		if err != nil {
			break
		}
	}
	return <-received, sent
}

var defaultLingering = LingeringLimits{
	Timeout: 15 * time.Second, MaxBytes: 16 << 20, Max: 100, MaxPerAddr: 10, BytesPerSecond: 1 << 20, BurstBytes: 1 << 30,
}

const refusal = "429 Too Many Requests refused"

// TestRefusedBodyIsReadToItsEnd checks that a slow client can send all of a body that the
// server has refused, and gets the response.
func TestRefusedBodyIsReadToItsEnd(t *testing.T) {
	for _, header := range []string{
		"Content-Length: 8000000", "Content-Length: 8000000\r\nRead: 100000", "Transfer-Encoding: chunked", "Content-Length: 200000",
	} {
		testLingering(t, defaultLingering, "192.0.2.1", func(s *lingeringServer) {
			size := 8_000_000
			fmt.Sscanf(header, "Content-Length: %d", &size)
			if response, sent := s.post(header, size, 110*time.Millisecond); response != refusal || sent != size {
				t.Errorf("%s: got %q and %d bytes sent, want %q and %d", header, response, sent, refusal, size)
			}
			synctest.Wait()
			if s.Cut() != 0 || s.open.Used() != 0 {
				t.Errorf("%s: got %d cut and %d active, want none", header, s.Cut(), s.open.Used())
			}
		})
	}
}

// TestLingeringIsBounded checks each limit: the client still gets the response, but can
// send only a part of its body.
func TestLingeringIsBounded(t *testing.T) {
	for _, row := range []struct {
		name     string
		addr     string
		change   func(*LingeringLimits)
		interval time.Duration
	}{
		{"bytes of one response", "192.0.2.1", func(l *LingeringLimits) { l.MaxBytes = 1 << 20 }, 10 * time.Millisecond},
		{"time of one response", "192.0.2.1", func(l *LingeringLimits) { l.Timeout = time.Second }, time.Second},
		{"bytes of an address", "192.0.2.1", func(l *LingeringLimits) { l.BurstBytes, l.BytesPerSecond = 1<<20, 1 }, 10 * time.Millisecond},
		{"bytes of a network", "2001:db8::1", func(l *LingeringLimits) { l.BurstBytes, l.BytesPerSecond = 1<<20, 1 }, 10 * time.Millisecond},
	} {
		limits := defaultLingering
		row.change(&limits)
		testLingering(t, limits, row.addr, func(s *lingeringServer) {
			const size = 4_000_000
			response, sent := s.post("Content-Length: 4000000", size, row.interval)
			if response != refusal || sent == size {
				t.Errorf("%s: got %q and %d bytes sent, want %q and fewer than %d", row.name, response, sent, refusal, size)
			}
			synctest.Wait()
			if s.Cut() != 1 || s.open.Used() != 0 {
				t.Errorf("%s: got %d cut and %d active, want 1 and none", row.name, s.Cut(), s.open.Used())
			}
		})
	}
}

// TestLingeringConnectionsAreBounded checks the limits on connections, and that Stop ends
// those that linger.
func TestLingeringConnectionsAreBounded(t *testing.T) {
	for name, change := range map[string]func(*LingeringLimits){
		"in total":    func(l *LingeringLimits) { l.Max = 12 },
		"per address": func(l *LingeringLimits) { l.MaxPerAddr = 2 },
		"stopped":     func(l *LingeringLimits) { l.MaxPerAddr = 2 },
	} {
		limits := defaultLingering
		change(&limits)
		testLingering(t, limits, "192.0.2.1", func(s *lingeringServer) {
			began := time.Now()
			done := make(chan time.Duration, 3)
			for range 3 {
				go func() {
					s.post("Content-Length: 4000000", 4_000_000, 10*time.Second)
					done <- time.Since(began)
				}()
			}
			time.Sleep(5 * time.Second)
			if got := s.open.Used(); got != 2 {
				t.Errorf("%s: got %d lingering, want 2", name, got)
			}
			if name == "stopped" {
				s.Stop()
				synctest.Wait()
				if got := s.open.Used(); got != 0 {
					t.Errorf("got %d lingering after Stop, want none", got)
				}
			}
			for range 3 {
				<-done
			}
			synctest.Wait()
			if s.open.Used() != 0 {
				t.Errorf("%s: got %d active, want none", name, s.open.Used())
			}
		})
	}
}

// TestBodyThatWasReadDoesNotLinger checks that a connection stays usable.
func TestBodyThatWasReadDoesNotLinger(t *testing.T) {
	testLingering(t, defaultLingering, "192.0.2.1", func(s *lingeringServer) {
		for _, header := range []string{"Content-Length: 4000000\r\nRead: 4000000", "Content-Length: 0"} {
			size := 0
			fmt.Sscanf(header, "Content-Length: %d", &size)
			if response, sent := s.post(header, size, 0); response != refusal || sent != size {
				t.Errorf("%s: got %q and %d bytes sent, want %q and all", header, response, sent, refusal)
			}
		}
		if s.Cut() != 0 || s.blocks.Len() != 0 {
			t.Errorf("got %d cut and %d addresses in debt, want none", s.Cut(), s.blocks.Len())
		}
	})
}
