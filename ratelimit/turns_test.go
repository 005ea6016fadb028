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

// ofKind is n records of a kind that a client would send in a handshake.
func ofKind(kind byte, n int) []byte {
	r := record(200)
	r[0] = kind
	return repeat(n, r)
}

// shaking is a connection that brings so many records of a handshake, then one
// with data.
func shaking(turns *Turns, from string, records int) net.Conn {
	in := append(ofKind(handshakeRecord, records), ofKind(dataRecord, 1)...)
	var c net.Conn = &script{from: from, in: bytes.NewReader(in), step: len(in) / (records + 1)}
	if from == "" {
		c = placeless{c}
	}
	accepted, _ := turns.Handshakes(&one{c}).Accept()
	return accepted
}

// placeless is a connection of a Unix socket.
type placeless struct{ net.Conn }

func (placeless) RemoteAddr() net.Addr { return &net.UnixAddr{Net: "unix"} }

// one is a listener with one connection.
type one struct{ net.Conn }

func (l *one) Accept() (net.Conn, error) { return l.Conn, nil }
func (l *one) Addr() net.Addr            { return nil }

func readOnce(c net.Conn) error {
	_, err := c.Read(make([]byte, 1<<10))
	return err
}

// TestTurnsAreTakenInOrder, by those of one address; the others wait for nobody.
func TestTurnsAreTakenInOrder(t *testing.T) {
	const alice, bob = "192.0.2.1", "192.0.2.2"
	for name, end := range map[string]func(net.Conn){
		"read":  func(c net.Conn) { readOnce(c) },
		"write": func(c net.Conn) { c.Write(nil) },
		"close": func(c net.Conn) { c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				turns := &Turns{PerAddr: 1, Patience: time.Minute, Clients: new(Clients)}
				first := shaking(turns, alice, 1)
				readOnce(first)
				order := make(chan int, 2)
				var waiting []net.Conn
				for i := range 2 {
					c := shaking(turns, alice, 1)
					waiting = append(waiting, c)
					go func() { readOnce(c); order <- i }()
					synctest.Wait()
				}
				if err := readOnce(shaking(turns, bob, 1)); err != nil || len(order) > 0 || turns.Waited() != 2 {
					t.Fatalf("another address: %v; %d went on without a turn, %d waited, want none and 2", err, len(order), turns.Waited())
				}
				for i, before := range []net.Conn{first, waiting[0]} {
					end(before)
					synctest.Wait()
					if len(order) != 1 {
						t.Fatalf("%d went on after turn %d, want one", len(order), i)
					}
					if got := <-order; got != i {
						t.Errorf("got %d, want %d as the next", got, i)
					}
				}
			})
		})
	}
}

func TestTurnsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := &Turns{PerAddr: 1, Patience: 10 * time.Second, Clients: new(Clients)}
		holder, waiter := shaking(turns, "192.0.2.1", 1), shaking(turns, "192.0.2.1", 1)
		readOnce(holder)
		began := time.Now()
		if err := readOnce(waiter); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != 10*time.Second {
			t.Errorf("got %v after %v, want a deadline after 10s", err, time.Since(began))
		}
		closed := shaking(turns, "192.0.2.1", 1)
		go readOnce(closed)
		synctest.Wait()
		closed.Close() // while it waits
		holder.Close()
		synctest.Wait()
		if len(turns.lines) != 0 {
			t.Errorf("%d lines are left, want none", len(turns.lines))
		}
	})
}

// TestTurnsAreForHandshakes of strangers; what follows them waits for nobody.
func TestTurnsAreForHandshakes(t *testing.T) {
	trusted := &Clients{Trusted: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
	for _, row := range []struct {
		name   string
		turns  *Turns
		from   string
		skip   int // records of the handshake
		waited int64
	}{
		{"no limit", &Turns{}, "192.0.2.1", 0, 0},
		{"a dry run", &Turns{PerAddr: 1, DryRun: true, Clients: new(Clients)}, "192.0.2.1", 0, 2},
		{"a trusted proxy", &Turns{PerAddr: 1, Clients: trusted}, "192.0.2.1", 0, 0},
		{"no address", &Turns{PerAddr: 1, Clients: new(Clients)}, "", 0, 0},
		{"data", &Turns{PerAddr: 1, Clients: new(Clients)}, "192.0.2.1", 3, 0},
		{"two turns and a third", &Turns{PerAddr: 2, DryRun: true, Clients: new(Clients)}, "192.0.2.1", 0, 1},
	} {
		for range 3 { // none of them reads on
			c := shaking(row.turns, row.from, 3)
			for range row.skip + 1 {
				if err := readOnce(c); err != nil {
					t.Errorf("%s: %v", row.name, err)
				}
			}
		}
		if got := row.turns.Waited(); got != row.waited {
			t.Errorf("%s: %d waited, want %d", row.name, got, row.waited)
		}
	}
}

func TestTurnsOfANetwork(t *testing.T) {
	turns := &Turns{PerAddr: 1, DryRun: true, Clients: new(Clients)}
	for i := range networkFactor + 1 {
		if turns.Waited() != 0 {
			t.Errorf("one of the first %d addresses of a /48 waited", i)
		}
		readOnce(shaking(turns, fmt.Sprintf("2001:db8:0:%x::1", i), 1))
	}
	if got := turns.Waited(); got != 1 {
		t.Errorf("%d waited, want the last", got)
	}
}

// TestTurnThatItsNetworkRefused is free for the next of that address.
func TestTurnThatItsNetworkRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := &Turns{PerAddr: 1, Patience: time.Second, Clients: new(Clients)}
		var others []net.Conn
		for i := range networkFactor {
			c := shaking(turns, fmt.Sprintf("2001:db8:0:%x::1", i), 1)
			readOnce(c)
			others = append(others, c)
		}
		if err := readOnce(shaking(turns, "2001:db8:0:ff::1", 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v, want the network to have no turn left", err)
		}
		for _, c := range others {
			c.Close()
		}
		c := shaking(turns, "2001:db8:0:ff::1", 1)
		if err := readOnce(c); err != nil {
			t.Errorf("got %v when all turns were free again", err)
		}
		c.Close()
		if len(turns.lines) != 0 {
			t.Errorf("%d lines are left, want none", len(turns.lines))
		}
	})
}

// TestTurnsUnderTLS: whatever the version and the number of round trips, one
// handshake of an address is worked on at once, a silent one delays nobody, and nothing is held after it.
func TestTurnsUnderTLS(t *testing.T) {
	certificate := httptest.NewTLSServer(nil)
	defer certificate.Close()
	for _, row := range []struct {
		name           string
		server, client *tls.Config
	}{
		{"1.3", &tls.Config{}, &tls.Config{}},
		{"1.3 with another group asked for", &tls.Config{CurvePreferences: []tls.CurveID{tls.CurveP256}}, &tls.Config{CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256}}},
		{"1.2", &tls.Config{MaxVersion: tls.VersionTLS12}, &tls.Config{}},
	} {
		t.Run(row.name, func(t *testing.T) {
			turns := &Turns{PerAddr: 1, Patience: time.Minute, Clients: new(Clients)}
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
			go echo(tls.NewListener(turns.Handshakes(l), row.server))
			silent, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer silent.Close()
			silent.Write([]byte{handshakeRecord, 3, 1, 1, 0, 1}) // the beginning of a hello
			results := make(chan error, 4)
			for _, from := range []string{"127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.2"} {
				go func() { results <- exchange(from, l.Addr().String(), row.client) }()
			}
			if a, b := <-entered, <-entered; a == b {
				t.Errorf("two handshakes of %s are worked on at once", a)
			}
			for turns.Waited() < 2 {
				time.Sleep(time.Millisecond)
			}
			if len(entered) > 0 {
				t.Error("a third handshake is worked on, want one for each address")
			}
			close(leave)
			for range 4 {
				if err := <-results; err != nil {
					t.Error(err)
				}
			}
			turns.mu.Lock()
			defer turns.mu.Unlock()
			if len(turns.lines) != 0 {
				t.Errorf("%d lines are left, want none", len(turns.lines))
			}
		})
	}
}

// echo answers a byte with the same on each connection.
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

// exchange shakes hands from an address, and has a byte echoed.
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
