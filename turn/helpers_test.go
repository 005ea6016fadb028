package turn

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/stun/v4"
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

// relayClient is a relay of pion's client.
type relayClient struct {
	net.PacketConn
	client *pion.Client
}

// allocate returns a relay of a new client.
func (ts *testServer) allocate(t testing.TB, over transport, owner string) *relayClient {
	t.Helper()
	client := ts.newClient(t, over, ts.Credentials(owner, Payer{}))
	relay, err := client.Allocate()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { relay.Close() })
	return &relayClient{relay, client}
}

func (c *relayClient) permit(t testing.TB, other *relayClient) {
	t.Helper()
	if err := c.client.CreatePermission(other.LocalAddr()); err != nil {
		t.Fatal(err)
	}
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

// rawClient sends requests that pion's client does not send.
type rawClient struct {
	t     testing.TB
	conn  net.PacketConn
	to    net.Addr
	creds Credentials
	nonce stun.Nonce
	realm stun.Realm
}

// key is that of the realm that the server gave to the client.
func (c *rawClient) key() stun.MessageIntegrity {
	return stun.NewLongTermIntegrity(c.creds.Username, string(c.realm), c.creds.Password)
}

func (ts *testServer) newRawClient(t testing.TB, over transport, owner string) *rawClient {
	return &rawClient{t: t, conn: ts.dial(t, over), to: ts.serverAddr(over), creds: ts.Credentials(owner, Payer{})}
}

// send sends a message without credentials.
func (c *rawClient) send(raw []byte) {
	c.t.Helper()
	if _, err := c.conn.WriteTo(raw, c.to); err != nil {
		c.t.Fatal(err)
	}
}

// receive returns the next message, which must come.
func (c *rawClient) receive() []byte {
	c.t.Helper()
	buf := make([]byte, 2048)
	c.conn.SetReadDeadline(time.Now().Add(testTimeout))
	n, _, err := c.conn.ReadFrom(buf)
	if err != nil {
		c.t.Fatalf("no answer: %v", err)
	}
	return buf[:n]
}

// ask sends a request without credentials and returns the answer.
func (c *rawClient) ask(method stun.Method, attrs ...stun.Setter) *stun.Message {
	c.t.Helper()
	request := stun.MustBuild(append([]stun.Setter{stun.TransactionID, stun.NewType(method, stun.ClassRequest)}, attrs...)...)
	c.send(request.Raw)
	for {
		answer := &stun.Message{Raw: c.receive()}
		if err := answer.Decode(); err != nil {
			c.t.Fatalf("answer %x: %v", answer.Raw, err)
		}
		if answer.TransactionID == request.TransactionID {
			return answer
		}
	}
}

// request sends an authenticated request. The answer must be authenticated, too.
func (c *rawClient) request(method stun.Method, attrs ...stun.Setter) *stun.Message {
	c.t.Helper()
	if c.nonce == nil {
		challenge := c.ask(stun.MethodAllocate)
		if err := errors.Join(c.nonce.GetFrom(challenge), c.realm.GetFrom(challenge)); err != nil {
			c.t.Fatalf("nonce and realm: %v", err)
		}
	}
	key := c.key()
	answer := c.ask(method, append(attrs, stun.NewUsername(c.creds.Username), c.realm, c.nonce, key)...)
	if code := errorCode(answer); code != stun.CodeUnauthorized {
		if err := key.Check(answer); err != nil {
			c.t.Errorf("%s answered with %v: MESSAGE-INTEGRITY: %v", method, answer, err)
		}
	}
	return answer
}

// expect sends an authenticated request, and requires an error code or, with zero, success.
func (c *rawClient) expect(want stun.ErrorCode, method stun.Method, attrs ...stun.Setter) *stun.Message {
	c.t.Helper()
	answer := c.request(method, attrs...)
	if got := errorCode(answer); got != want {
		c.t.Errorf("%s: got code %d, want %d", method, got, want)
	}
	return answer
}

// allocate opens an allocation and returns its relay.
func (c *rawClient) allocate() netip.AddrPort {
	c.t.Helper()
	answer := c.expect(0, stun.MethodAllocate, udpTransport)
	return relayOf(c.t, answer)
}

func relayOf(t testing.TB, answer *stun.Message) netip.AddrPort {
	t.Helper()
	var addr stun.XORMappedAddress
	if err := addr.GetFromAs(answer, stun.AttrXORRelayedAddress); err != nil {
		t.Fatalf("XOR-RELAYED-ADDRESS: %v", err)
	}
	ip, _ := netip.AddrFromSlice(addr.IP)
	return netip.AddrPortFrom(ip.Unmap(), uint16(addr.Port))
}

// errorCode is zero for a success.
func errorCode(answer *stun.Message) stun.ErrorCode {
	var code stun.ErrorCodeAttribute
	if answer.Type.Class != stun.ClassErrorResponse {
		return 0
	}
	if code.GetFrom(answer) != nil {
		return -1
	}
	return code.Code
}

// attribute is an attribute with a value of bytes.
func attribute(t stun.AttrType, value ...byte) stun.Setter {
	return stun.RawAttribute{Type: t, Value: value}
}

var (
	udpTransport = attribute(stun.AttrRequestedTransport, 17, 0, 0, 0)
	tcpTransport = attribute(stun.AttrRequestedTransport, 6, 0, 0, 0)
)

func lifetime(seconds byte) stun.Setter { return attribute(stun.AttrLifetime, 0, 0, 0, seconds) }

// peer is XOR-PEER-ADDRESS.
func peer(addr netip.AddrPort) stun.Setter {
	return setterFunc(func(m *stun.Message) error {
		return stun.XORMappedAddress{IP: addr.Addr().AsSlice(), Port: int(addr.Port())}.AddToAs(m, stun.AttrXORPeerAddress)
	})
}

func channelNumberAttr(n uint16) stun.Setter {
	return attribute(stun.AttrChannelNumber, byte(n>>8), byte(n), 0, 0)
}

type setterFunc func(*stun.Message) error

func (f setterFunc) AddTo(m *stun.Message) error { return f(m) }
