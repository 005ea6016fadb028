package turn

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"math/big"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pion "github.com/pion/turn/v5"
)

// testTimeout bounds the wait for an event that must happen.
const testTimeout = 20 * time.Second

// testClock is a clock that tests advance.
type testClock struct{ ahead atomic.Int64 }

func (c *testClock) Now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *testClock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// testServer is a server with a UDP socket and a TLS listener on the loopback interface.
type testServer struct {
	*Server
	clock testClock
	udp   *net.UDPConn
	tls   net.Listener
}

func newTestServer(t testing.TB, change func(*Config)) *testServer {
	t.Helper()
	ts := &testServer{}
	config := Config{Secret: testSecret, Now: ts.clock.Now, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	if change != nil {
		change(&config)
	}
	var err error
	if ts.Server, err = New(config); err != nil {
		t.Fatal(err)
	}
	if ts.udp, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		t.Fatal(err)
	}
	if ts.tls, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	ts.tls = tls.NewListener(ts.tls, testTLSConfig())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := ts.ServeUDP(ts.udp); err != nil {
			t.Errorf("ServeUDP: %v", err)
		}
	})
	serving.Go(func() {
		for {
			c, err := ts.tls.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { ts.ServeConn(c) })
		}
	})
	t.Cleanup(func() {
		ts.tls.Close()
		if err := ts.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		serving.Wait()
	})
	return ts
}

var testTLSConfig = sync.OnceValue(func() *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}}}
})

// dial returns a connection to the server over a transport, as messages.
func (ts *testServer) dial(t testing.TB, over transport) net.PacketConn {
	t.Helper()
	if over == overUDP {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	c, err := tls.Dial("tcp", ts.tls.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return pion.NewSTUNConn(c)
}

// serverAddr is where pion's client sends its requests.
func (ts *testServer) serverAddr(over transport) net.Addr {
	if over == overUDP {
		return ts.udp.LocalAddr()
	}
	return ts.tls.Addr()
}

// newClient returns pion's client with credentials of an owner.
func (ts *testServer) newClient(t testing.TB, over transport, c Credentials) *pion.Client {
	t.Helper()
	client, err := pion.NewClient(&pion.ClientConfig{
		Conn:           ts.dial(t, over),
		TURNServerAddr: ts.serverAddr(over).String(),
		STUNServerAddr: ts.serverAddr(over).String(),
		Username:       c.Username,
		Password:       c.Password,
		LoggerFactory:  logCounter{new(atomic.Int64)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// allocate returns a relay of a new client.
func (ts *testServer) allocate(t testing.TB, over transport, owner string) net.PacketConn {
	t.Helper()
	relay, err := ts.newClient(t, over, ts.Credentials(owner, Payer{})).Allocate()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { relay.Close() })
	return relay
}

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(testTimeout); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}
