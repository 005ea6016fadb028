package ratelimit

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

const handshakeRecord, dataRecord = 22, 23

// recordsOfType returns n records of a type.
func recordsOfType(kind byte, n int) []byte {
	r := record(200)
	r[0] = kind
	return repeat(n, r)
}

// handshaking returns a connection that delivers handshake records, then application data.
func handshaking(limiter *HandshakeLimiter, from string, records int) net.Conn {
	in := append(recordsOfType(handshakeRecord, records), recordsOfType(dataRecord, 1)...)
	var c net.Conn = &scriptedConn{from: from, in: bytes.NewReader(in), chunk: len(in) / (records + 1)}
	if from == "" {
		c = unixConn{c}
	}
	accepted, _ := limiter.Listener(&oneConnListener{c}).Accept()
	return accepted
}

// unixConn is a connection from a Unix socket.
type unixConn struct{ net.Conn }

func (unixConn) RemoteAddr() net.Addr { return &net.UnixAddr{Net: "unix"} }

// oneConnListener is a listener with one connection.
type oneConnListener struct{ net.Conn }

func (l *oneConnListener) Accept() (net.Conn, error) { return l.Conn, nil }
func (l *oneConnListener) Addr() net.Addr            { return nil }

func readOnce(c net.Conn) error {
	_, err := c.Read(make([]byte, 1<<10))
	return err
}

// Handshakes of one address queue in order; other addresses do not wait for them.
func TestHandshakesQueueInOrder(t *testing.T) {
	const alice, bob = "192.0.2.1", "192.0.2.2"
	for name, end := range map[string]func(net.Conn){
		"read":  func(c net.Conn) { readOnce(c) },
		"write": func(c net.Conn) { c.Write(nil) },
		"close": func(c net.Conn) { c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				limiter := &HandshakeLimiter{PerAddr: 1, Timeout: time.Minute, ClientIP: new(ClientIP)}
				first := handshaking(limiter, alice, 1)
				readOnce(first)
				order := make(chan int, 2)
				var waiting []net.Conn
				for i := range 2 {
					c := handshaking(limiter, alice, 1)
					waiting = append(waiting, c)
					go func() { readOnce(c); order <- i }()
					synctest.Wait()
				}
				if err := readOnce(handshaking(limiter, bob, 1)); err != nil || len(order) > 0 || limiter.Waited() != 2 {
					t.Fatalf("another address: %v; %d continued without a slot and %d waited, want 0 and 2", err, len(order), limiter.Waited())
				}
				for i, before := range []net.Conn{first, waiting[0]} {
					end(before)
					synctest.Wait()
					if len(order) != 1 {
						t.Fatalf("%d continued after release %d, want 1", len(order), i)
					}
					if got := <-order; got != i {
						t.Errorf("got handshake %d next, want %d", got, i)
					}
				}
			})
		})
	}
}

func TestHandshakeSlotsAreReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := &HandshakeLimiter{PerAddr: 1, Timeout: 10 * time.Second, ClientIP: new(ClientIP)}
		holder, waiter := handshaking(limiter, "192.0.2.1", 1), handshaking(limiter, "192.0.2.1", 1)
		readOnce(holder)
		began := time.Now()
		if err := readOnce(waiter); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != 10*time.Second {
			t.Errorf("got %v after %v, want a deadline after 10s", err, time.Since(began))
		}
		closed := handshaking(limiter, "192.0.2.1", 1)
		go readOnce(closed)
		synctest.Wait()
		closed.Close() // while it waits for a slot
		holder.Close()
		synctest.Wait()
		if len(limiter.queues) != 0 {
			t.Errorf("%d queues left, want none", len(limiter.queues))
		}
	})
}

// Only handshakes of limited addresses wait, and nothing after a handshake does.
func TestOnlyHandshakesWait(t *testing.T) {
	trusted := &ClientIP{Trusted: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
	for _, row := range []struct {
		name   string
		limit  *HandshakeLimiter
		from   string
		skip   int // records of the handshake
		waited int64
	}{
		{"no limit", &HandshakeLimiter{}, "192.0.2.1", 0, 0},
		{"a dry run", &HandshakeLimiter{PerAddr: 1, DryRun: true, ClientIP: new(ClientIP)}, "192.0.2.1", 0, 2},
		{"a trusted proxy", &HandshakeLimiter{PerAddr: 1, ClientIP: trusted}, "192.0.2.1", 0, 0},
		{"no address", &HandshakeLimiter{PerAddr: 1, ClientIP: new(ClientIP)}, "", 0, 0},
		{"data", &HandshakeLimiter{PerAddr: 1, ClientIP: new(ClientIP)}, "192.0.2.1", 3, 0},
		{"two slots", &HandshakeLimiter{PerAddr: 2, DryRun: true, ClientIP: new(ClientIP)}, "192.0.2.1", 0, 1},
	} {
		for range 3 { // none reads again and releases its slot
			c := handshaking(row.limit, row.from, 3)
			for range row.skip + 1 {
				if err := readOnce(c); err != nil {
					t.Errorf("%s: %v", row.name, err)
				}
			}
		}
		if got := row.limit.Waited(); got != row.waited {
			t.Errorf("%s: %d waited, want %d", row.name, got, row.waited)
		}
	}
}

func TestHandshakesOfANetwork(t *testing.T) {
	limiter := &HandshakeLimiter{PerAddr: 1, DryRun: true, ClientIP: new(ClientIP)}
	for i := range networkFactor + 1 {
		if limiter.Waited() != 0 {
			t.Errorf("one of the first %d handshakes of a /48 waited", i)
		}
		readOnce(handshaking(limiter, fmt.Sprintf("2001:db8:0:%x::1", i), 1))
	}
	if got := limiter.Waited(); got != 1 {
		t.Errorf("%d waited, want the last one", got)
	}
}

// All addresses share the slots of Total in order; trusted proxies need none.
func TestHandshakesInTotal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		proxy := netip.MustParsePrefix("192.0.2.9/32")
		limiter := &HandshakeLimiter{PerAddr: 1, Total: 2, Timeout: time.Minute, ClientIP: &ClientIP{Trusted: []netip.Prefix{proxy}}}
		var holders []net.Conn
		for i := range 2 {
			c := handshaking(limiter, fmt.Sprintf("192.0.2.%d", 1+i), 1)
			readOnce(c)
			holders = append(holders, c)
		}
		if readOnce(handshaking(limiter, "192.0.2.9", 1)); limiter.Waited() != 0 {
			t.Error("a trusted proxy waited")
		}
		done := make(chan net.Conn)
		go func() {
			c := handshaking(limiter, "2001:db8::1", 1)
			readOnce(c)
			done <- c
		}()
		synctest.Wait()
		if limiter.Waited() != 1 {
			t.Errorf("%d waited, want the third address", limiter.Waited())
		}
		holders[0].Close()
		(<-done).Close()
		holders[1].Close()
		if len(limiter.queues) != 0 {
			t.Errorf("%d queues left, want none", len(limiter.queues))
		}
	})
}

// TestHandshakesRest checks that the slot of all is free as long as it was used, in turns of a
// millisecond or more.
func TestHandshakesRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := &HandshakeLimiter{PerAddr: 1, Total: 1, Rest: true, Timeout: time.Minute, ClientIP: new(ClientIP)}
		began, handshakes := time.Now(), 0
		use := func(d, want time.Duration) {
			t.Helper()
			handshakes++
			c := handshaking(limiter, fmt.Sprint("192.0.2.", handshakes), 1)
			if err := readOnce(c); err != nil {
				t.Fatal(err)
			}
			if got := time.Since(began); got != want {
				t.Errorf("handshake %d begins after %v, want %v", handshakes, got, want)
			}
			time.Sleep(d)
			c.Write(nil)
		}
		const us = time.Microsecond
		use(600*us, 0)
		use(600*us, 600*us)
		use(2000*us, 2400*us)
		use(600*us, 6400*us)
		time.Sleep(time.Minute)
		if len(limiter.queues) != 0 {
			t.Errorf("got %d queues after the last handshake, want none", len(limiter.queues))
		}
	})
}

// A handshake that gets no slot of its network must release the slot of its address.
func TestHandshakeRefusedByItsNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := &HandshakeLimiter{PerAddr: 1, Timeout: time.Second, ClientIP: new(ClientIP)}
		var others []net.Conn
		for i := range networkFactor {
			c := handshaking(limiter, fmt.Sprintf("2001:db8:0:%x::1", i), 1)
			readOnce(c)
			others = append(others, c)
		}
		if err := readOnce(handshaking(limiter, "2001:db8:0:ff::1", 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v, want no slot of the network", err)
		}
		for _, c := range others {
			c.Close()
		}
		c := handshaking(limiter, "2001:db8:0:ff::1", 1)
		if err := readOnce(c); err != nil {
			t.Errorf("got %v after all slots were released", err)
		}
		c.Close()
		if len(limiter.queues) != 0 {
			t.Errorf("%d queues left, want none", len(limiter.queues))
		}
	})
}

// For each TLS version and number of round trips, one handshake of an address is computed
// at once, a silent client delays no other, and no slot is held afterwards.
func TestHandshakesUnderTLS(t *testing.T) {
	certificate := httptest.NewTLSServer(nil)
	defer certificate.Close()
	for _, row := range []struct {
		name           string
		server, client *tls.Config
	}{
		{"1.3", &tls.Config{}, &tls.Config{}},
		{"1.3 with HelloRetryRequest", &tls.Config{CurvePreferences: []tls.CurveID{tls.CurveP256}}, &tls.Config{CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256}}},
		{"1.2", &tls.Config{MaxVersion: tls.VersionTLS12}, &tls.Config{}},
	} {
		t.Run(row.name, func(t *testing.T) {
			limiter := &HandshakeLimiter{PerAddr: 1, Timeout: time.Minute, ClientIP: new(ClientIP)}
			entered, leave := make(chan string, 4), make(chan struct{})
			row.server.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
				host, _, _ := net.SplitHostPort(hello.Conn.RemoteAddr().String())
				entered <- host
				<-leave
				return &certificate.TLS.Certificates[0], nil
			}
			row.client.InsecureSkipVerify = true
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go echo(tls.NewListener(limiter.Listener(l), row.server))
			silent, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer silent.Close()
			silent.Write([]byte{handshakeRecord, 3, 1, 1, 0, 1}) // the start of a ClientHello
			results := make(chan error, 4)
			for _, from := range []string{"127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.2"} {
				go func() { results <- exchange(from, l.Addr().String(), row.client) }()
			}
			if a, b := <-entered, <-entered; a == b {
				t.Errorf("two handshakes of %s are computed at once", a)
			}
			for limiter.Waited() < 2 {
				time.Sleep(time.Millisecond)
			}
			if len(entered) > 0 {
				t.Error("a third handshake is computed, want one of each address")
			}
			close(leave)
			for range 4 {
				if err := <-results; err != nil {
					t.Error(err)
				}
			}
			limiter.mu.Lock()
			defer limiter.mu.Unlock()
			if len(limiter.queues) != 0 {
				t.Errorf("%d queues left, want none", len(limiter.queues))
			}
		})
	}
}

// echo sends the first byte of each connection back.
func echo(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			io.CopyN(c, c, 1)
		}()
	}
}

// exchange connects from an address with TLS and receives an echo.
func exchange(from, to string, config *tls.Config) error {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
	c, err := tls.DialWithDialer(&d, "tcp", to, config)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_, err = io.ReadFull(c, make([]byte, 1))
	return err
}
