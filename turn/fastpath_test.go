package turn

import (
	"bytes"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun/v4"
	"golang.org/x/time/rate"
)

// fakeClient keeps what is sent to it.
type fakeClient struct {
	over    transport
	from    netip.AddrPort
	sent    [][]byte
	full    bool
	current *allocation
}

func (c *fakeClient) transport() transport { return c.over }
func (c *fakeClient) addr() netip.AddrPort { return c.from }
func (c *fakeClient) admit(bool) bool      { return true }
func (c *fakeClient) answer(b []byte)      { c.relay(b) }
func (c *fakeClient) attach(a *allocation) { c.current = a }
func (c *fakeClient) detach(*allocation)   { c.current = nil }

func (c *fakeClient) relay(b []byte) dropReason {
	if c.full {
		return dropQueueFull
	}
	c.sent = append(c.sent, bytes.Clone(b))
	return notDropped
}

// pair is two allocations of fake clients that permit each other. Alice has channel 0x4001
// to Bob.
type pair struct {
	*Server
	clock      *testClock
	alice, bob *allocation
	toBob      *fakeClient
}

func newPair(t testing.TB) *pair {
	t.Helper()
	clock := &testClock{}
	s, err := New(Config{Secret: testSecret, Now: clock.Now, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	p := &pair{Server: s, clock: clock, toBob: &fakeClient{from: netip.MustParseAddrPort("198.51.100.2:4000")}}
	p.alice = p.open(t, &fakeClient{from: netip.MustParseAddrPort("198.51.100.1:4000")})
	p.bob = p.open(t, p.toBob)
	p.alice.peers.Store(p.alice.peers.Load().withChannel(0x4001, p.bob.relay, s.elapsed()))
	p.bob.peers.Store(p.bob.peers.Load().withPermissions([]netip.AddrPort{p.alice.relay}, s.elapsed()))
	return p
}

func (p *pair) open(t testing.TB, c client) *allocation {
	t.Helper()
	a, refused := p.openAllocation(&request{client: c, allocationID: p.lastAllocation.Add(1)}, 0)
	if refused != notRefused {
		t.Fatalf("refused: %s", refusalTable[refused].name)
	}
	return a
}

// bindBob gives Bob a channel to Alice.
func (p *pair) bindBob(number uint16) {
	p.bob.peers.Store(p.bob.peers.Load().withChannel(number, p.alice.relay, p.elapsed()))
}

func channelData(number uint16, payload string) []byte {
	b := binary.BigEndian.AppendUint16(nil, number)
	b = binary.BigEndian.AppendUint16(b, uint16(len(payload)))
	return append(b, payload...)
}

func sendIndication(to netip.AddrPort, payload string) []byte {
	return stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodSend, stun.ClassIndication),
		peer(to), attribute(stun.AttrData, []byte(payload)...)).Raw
}

func TestRelayFormats(t *testing.T) {
	p := newPair(t)
	for _, payload := range []string{"", "a", "ab", "abc", "abcd", string(bytes.Repeat([]byte("x"), 1500))} {
		for name, raw := range map[string][]byte{
			"ChannelData": channelData(0x4001, payload), "padded ChannelData": append(channelData(0x4001, payload), "pad"...),
			"Send": sendIndication(p.bob.relay, payload),
		} {
			p.bob.peers.Store(p.bob.peers.Load().withPermissions([]netip.AddrPort{p.alice.relay}, p.elapsed()))
			p.toBob.sent = nil
			if reason := p.relay(p.alice, testMessage(raw)); reason != notDropped {
				t.Fatalf("%s of %d bytes: %q", name, len(payload), dropNames[reason])
			}
			checkDataIndication(t, p.toBob.sent[0], p.alice.relay, payload)
		}
	}
	p.bindBob(0x4abc)
	for _, payload := range []string{"", "a", "abcd"} {
		for _, raw := range [][]byte{channelData(0x4001, payload), sendIndication(p.bob.relay, payload)} {
			p.toBob.sent = nil
			if reason := p.relay(p.alice, testMessage(raw)); reason != notDropped {
				t.Fatalf("%q: %q", payload, dropNames[reason])
			}
			want := channelData(0x4abc, payload)
			want = append(want, make([]byte, padded(len(want))-len(want))...)
			if !bytes.Equal(p.toBob.sent[0], want) {
				t.Errorf("got %x, want %x", p.toBob.sent[0], want)
			}
		}
	}
}

func checkDataIndication(t *testing.T, raw []byte, from netip.AddrPort, payload string) {
	t.Helper()
	m := stun.Message{Raw: raw}
	if err := m.Decode(); err != nil || m.Type != stun.NewType(stun.MethodData, stun.ClassIndication) {
		t.Fatalf("got %x: %v, %v", raw, m.Type, err)
	}
	var addr stun.XORMappedAddress
	if err := addr.GetFromAs(&m, stun.AttrXORPeerAddress); err != nil || addr.String() != from.String() {
		t.Errorf("got peer %v, %v, want %v", addr, err, from)
	}
	data, err := m.Get(stun.AttrData)
	if err != nil || string(data) != payload {
		t.Errorf("got %q, %v, want %q", data, err, payload)
	}
	for _, b := range raw[dataHeaderBytes+len(payload):] {
		if b != 0 {
			t.Errorf("padding %x", raw[dataHeaderBytes+len(payload):])
		}
	}
}

func TestRelayDrops(t *testing.T) {
	stranger := netip.MustParseAddrPort("192.0.2.9:9")
	for _, row := range []struct {
		name   string
		change func(*pair)
		raw    func(*pair) []byte
		want   dropReason
	}{
		{"unbound channel", nil, func(*pair) []byte { return channelData(0x4002, "x") }, dropNoChannel},
		{"length beyond the end", nil, func(*pair) []byte { return []byte{0x40, 1, 0, 1} }, dropMalformed},
		{"length of 64 KiB", nil, func(*pair) []byte { return []byte{0x40, 1, 0xff, 0xfc} }, dropMalformed},
		{"no peer", nil, func(*pair) []byte {
			return stun.MustBuild(stun.NewType(stun.MethodSend, stun.ClassIndication), attribute(stun.AttrData, 1)).Raw
		}, dropMalformed},
		{"no data", nil, func(p *pair) []byte {
			return stun.MustBuild(stun.NewType(stun.MethodSend, stun.ClassIndication), peer(p.bob.relay)).Raw
		}, dropMalformed},
		{"IPv6 peer", nil, func(*pair) []byte { return sendIndication(netip.MustParseAddrPort("[::1]:80"), "x") }, dropMalformed},
		{"attribute beyond the end", nil, func(p *pair) []byte {
			raw := sendIndication(p.bob.relay, "data")
			raw[stunHeaderBytes+attrHeaderBytes+xorAddrBytes+3] = 5
			return raw
		}, dropMalformed},
		{"no permission", nil, func(*pair) []byte { return sendIndication(stranger, "x") }, dropNoPermission},
		{"no relay", func(p *pair) {
			p.alice.peers.Store(p.alice.peers.Load().withPermissions([]netip.AddrPort{stranger}, p.elapsed()))
		}, func(*pair) []byte { return sendIndication(stranger, "x") }, dropNoRelay},
		{"other port of the relay", nil, func(p *pair) []byte {
			return sendIndication(netip.AddrPortFrom(p.bob.relay.Addr(), p.bob.relay.Port()^1), "x")
		}, dropNoRelay},
		{"closed relay", func(p *pair) { p.closeAllocation(p.bob) }, nil, dropNoRelay},
		{"no permission of the receiver", func(p *pair) { p.bob.peers.Store(&peers{}) }, nil, dropPeerPermission},
		{"expired permissions", func(p *pair) {
			p.clock.advance(permissionLifetime)
		}, nil, dropNoPermission},
		{"expired permission of the receiver", func(p *pair) {
			p.clock.advance(permissionLifetime)
			p.alice.peers.Store(p.alice.peers.Load().withPermissions([]netip.AddrPort{p.bob.relay}, p.elapsed()))
		}, nil, dropPeerPermission},
		{"expired channel", func(p *pair) {
			p.clock.advance(channelLifetime)
			p.alice.peers.Store(p.alice.peers.Load().withPermissions([]netip.AddrPort{p.bob.relay}, p.elapsed()))
		}, nil, dropNoChannel},
		{"slow receiver", func(p *pair) { p.toBob.full = true }, nil, dropQueueFull},
		{"closed sender", func(p *pair) { p.closeAllocation(p.alice) }, nil, dropQuota},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := newPair(t)
			if row.change != nil {
				row.change(p)
			}
			raw := channelData(0x4001, "x")
			if row.raw != nil {
				raw = row.raw(p)
			}
			if got := p.relay(p.alice, testMessage(raw)); got != row.want {
				t.Errorf("got reason %d, want %d", got, row.want)
			}
			if len(p.toBob.sent) != 0 || p.State().MonthBytes != 0 {
				t.Errorf("sent %x, %d bytes of the month", p.toBob.sent, p.State().MonthBytes)
			}
		})
	}
}

func TestRelayWithoutAllocation(t *testing.T) {
	p := newPair(t)
	if got := p.relay(nil, testMessage(channelData(0x4001, "x"))); got != dropNoAllocation {
		t.Errorf("got reason %d", got)
	}
}

// TestRateOfAnAllocation sends a second of traffic at once.
func TestRateOfAnAllocation(t *testing.T) {
	p := newPair(t)
	raw := channelData(0x4001, string(make([]byte, 1000)))
	dropped := 0
	for range 2000 {
		if p.relay(p.alice, testMessage(raw)) == dropQuota {
			dropped++
		}
	}
	state := p.State()
	if dropped == 0 || state.Dropped["rate"] != int64(dropped) || state.UDP.RelayedPackets+int64(dropped) != 2000 {
		t.Errorf("got %d dropped packets, %+v", dropped, state)
	}
}

func TestMessageKind(t *testing.T) {
	binding := stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw
	change := func(i int, b byte) []byte { c := bytes.Clone(binding); c[i] = b; return c }
	for _, row := range []struct {
		raw  []byte
		want kind
	}{
		{nil, kindUnknown}, {[]byte{0}, kindUnknown}, {[]byte{0x40, 0, 0}, kindUnknown},
		{[]byte{0x40, 0, 0, 0}, kindChannelData}, {[]byte{0x7f, 0xff, 0xff, 0xff}, kindChannelData},
		{[]byte{0x80, 0, 0, 0}, kindUnknown}, {[]byte("GET / HTTP/1.1\r\n\r\n--"), kindChannelData},
		{binding, kindRequest}, {binding[:19], kindUnknown}, {change(4, 0), kindUnknown}, {change(3, 4), kindUnknown},
		{change(1, 0x16), kindSend}, {change(1, 0x17), kindIgnored}, {change(1, 0x11), kindIgnored},
		{change(0, 1), kindIgnored},
	} {
		if got := testMessage(row.raw).kind(); got != row.want {
			t.Errorf("%x: got %d, want %d", row.raw, got, row.want)
		}
	}
}

// socketPair is a socket that the test reads itself, with two real clients whose
// allocations have channels to each other.
type socketPair struct {
	*pair
	socket    *udpSocket
	clients   [2]*net.UDPConn
	allocated [2]*allocation
}

func newSocketPair(t testing.TB) *socketPair { return socketKinds[0].newPair(t) }

// newPair returns a pair whose clients have the channels 0x4000 and 0x4001.
func (k socketKind) newPair(t testing.TB) *socketPair {
	t.Helper()
	p := &socketPair{pair: newPair(t)}
	conn, err := net.ListenUDP(k.network, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetReadBuffer(4 << 20)
	p.socket = newUDPSocket(p.Server, conn)
	p.socket.io = k.io(conn)
	for i := range p.clients {
		p.clients[i] = p.dial(t, k.host)
		source := fiveTuple{client: p.clients[i].LocalAddr().(*net.UDPAddr).AddrPort()}
		if p.socket.packetInfo != (packetInfo{}) {
			source.local = netip.MustParseAddr(k.host)
		}
		p.allocated[i] = p.open(t, &udpClient{p.socket, source, p.socket.packetInfo.source(source.local)})
	}
	for i, a := range p.allocated {
		a.peers.Store(a.peers.Load().withChannel(0x4000+uint16(i), p.allocated[1-i].relay, p.elapsed()))
	}
	return p
}

// dial returns a socket that is connected to the server.
func (p *socketPair) dial(t testing.TB, host string) *net.UDPConn {
	t.Helper()
	server := &net.UDPAddr{IP: net.ParseIP(host), Port: p.socket.conn.LocalAddr().(*net.UDPAddr).Port}
	c, err := net.DialUDP("udp", nil, server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetReadBuffer(4 << 20)
	return c
}

// relayOne sends a packet from the first client, and reads it at the socket.
func (p *socketPair) relayOne(t testing.TB, packet []byte) {
	if _, err := p.clients[0].Write(packet); err != nil {
		t.Fatal(err)
	}
	if err := p.socket.receive(); err != nil {
		t.Fatal(err)
	}
}

func TestFastPathAllocatesNothing(t *testing.T) {
	forSocketKinds(t, func(t *testing.T, p *socketPair) {
		got := make([]byte, 2000)
		for name, packet := range map[string][]byte{
			"ChannelData": channelData(0x4000, string(make([]byte, 1200))),
			"Send":        sendIndication(p.allocated[1].relay, string(make([]byte, 1200))),
		} {
			allocs := testing.AllocsPerRun(100, func() {
				p.relayOne(t, packet)
				p.clients[1].SetReadDeadline(time.Now().Add(testTimeout))
				if n, err := p.clients[1].Read(got); err != nil || n != 1204 {
					t.Fatalf("got %d bytes, %v", n, err)
				}
			})
			if allocs != 0 {
				t.Errorf("%s: got %v allocations per packet", name, allocs)
			}
		}
	})
}

// BenchmarkFastPath compares the relay with a program that only receives and sends.
func BenchmarkFastPath(b *testing.B) {
	p := newSocketPair(b)
	packet := channelData(0x4000, string(make([]byte, 1200)))
	b.Run("relay", func(b *testing.B) {
		for range b.N {
			p.clock.advance(2 * time.Millisecond) // within the rate of the allocation
			p.relayOne(b, packet)
		}
	})
	b.Run("forwarder", func(b *testing.B) {
		to := p.clients[1].LocalAddr().(*net.UDPAddr).AddrPort()
		buf := make([]byte, 2000)
		for range b.N {
			p.clients[0].Write(packet)
			n, _, err := p.socket.conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				b.Fatal(err)
			}
			p.socket.conn.WriteToUDPAddrPort(buf[:n], to)
		}
	})
	if state := p.State(); state.UDP.RelayedPackets == 0 || state.Dropped["rate"] != 0 {
		b.Errorf("got %+v", state)
	}
}

// FuzzDatagram passes anything through the reader of a UDP socket and pion, as a client with
// an allocation and as one without.
func FuzzDatagram(f *testing.F) {
	p := newSocketPair(f)
	sources := []fiveTuple{p.allocated[0].client.(*udpClient).fiveTuple, {client: netip.MustParseAddrPort("127.0.0.1:2000")}}
	f.Add(channelData(0x4000, "payload"))
	f.Add(sendIndication(p.allocated[1].relay, "payload"))
	f.Add(stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.Fingerprint).Raw)
	for _, method := range []stun.Method{stun.MethodAllocate, stun.MethodRefresh, stun.MethodCreatePermission, stun.MethodChannelBind} {
		f.Add(stun.MustBuild(stun.TransactionID, stun.NewType(method, stun.ClassRequest)).Raw)
		f.Add(stun.MustBuild(stun.TransactionID, stun.NewType(method, stun.ClassRequest), peer(p.allocated[1].relay),
			channelNumberAttr(0x4001), udpTransport, attribute(stun.AttrEvenPort, 0), stun.NewUsername("u"), stun.NewRealm(realmPlaceholder),
			stun.NewNonce("n"), stun.NewShortTermIntegrity("p")).Raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, source := range sources {
			before := p.State()
			buf := make([]byte, headroomBytes+len(raw)+tailroomBytes)
			copy(buf[headroomBytes:], raw)
			p.socket.handle(message{buf, headroomBytes, headroomBytes + len(raw)}, source)
			p.socket.flush()
			if after := p.State(); after.UDP.Allocated != before.UDP.Allocated {
				t.Error("an allocation without credentials")
			}
		}
	})
}

// FuzzAuthenticatedRequest passes requests with valid credentials and any attributes to pion.
func FuzzAuthenticatedRequest(f *testing.F) {
	p := newPair(f)
	c := &fakeClient{from: netip.MustParseAddrPort("198.51.100.3:4000")}
	creds := p.Credentials("alice", Payer{})
	realm := stun.NewRealm(p.issuer.realm(c.from.Addr(), p.config.Now()))
	key := stun.NewLongTermIntegrity(creds.Username, realm.String(), creds.Password)
	var nonce stun.Nonce
	p.serveRequest(c, nil, stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest)).Raw)
	challenge := stun.Message{Raw: c.sent[0]}
	if challenge.Decode() != nil || nonce.GetFrom(&challenge) != nil {
		f.Fatalf("got %x", c.sent[0])
	}
	seed := func(method stun.Method, attrs ...stun.Setter) {
		f.Add(uint8(method), stun.MustBuild(append([]stun.Setter{stun.BindingRequest}, attrs...)...).Raw[stunHeaderBytes:])
	}
	seed(stun.MethodAllocate, udpTransport, lifetime(60), attribute(stun.AttrEvenPort, 0x80))
	seed(stun.MethodAllocate, tcpTransport, attribute(stun.AttrRequestedAddressFamily, 2, 0, 0, 0))
	seed(stun.MethodRefresh, lifetime(0))
	seed(stun.MethodCreatePermission, peer(somePeer), peer(netip.MustParseAddrPort("[::1]:80")))
	seed(stun.MethodChannelBind, peer(somePeer), channelNumberAttr(0x4000))
	signed := func(method stun.Method, attrs []byte) []byte {
		raw := stun.MustBuild(stun.TransactionID, stun.NewType(method, stun.ClassRequest)).Raw
		raw = append(raw, attrs...)
		binary.BigEndian.PutUint16(raw[2:], uint16(len(attrs)))
		request := stun.Message{Raw: raw}
		if len(raw) > maxMessageBytes || request.Decode() != nil {
			return nil
		}
		for _, setter := range []stun.Setter{stun.NewUsername(creds.Username), realm, nonce, key} {
			if setter.AddTo(&request) != nil {
				return nil
			}
		}
		return request.Raw
	}
	f.Fuzz(func(t *testing.T, method uint8, attrs []byte) {
		if c.current == nil {
			p.serveRequest(c, nil, signed(stun.MethodAllocate, []byte{0, byte(stun.AttrRequestedTransport), 0, 4, 17, 0, 0, 0}))
			c.current.requests.SetLimit(rate.Inf)
		}
		raw := signed(stun.Method(method&15), attrs)
		if raw == nil {
			return
		}
		c.sent = nil
		a := c.current
		p.serveRequest(c, a, raw)
		if peers := a.peers.Load(); len(peers.permissions) > maxPeers || len(peers.channels) > maxChannels {
			t.Errorf("got %d permissions and %d channels", len(peers.permissions), len(peers.channels))
		}
		for _, permission := range a.peers.Load().permissions {
			if !p.relays.prefix.Contains(permission.addr) {
				t.Errorf("permission for %s", permission.addr)
			}
		}
		if len(c.sent) > 1 {
			t.Errorf("got %d answers", len(c.sent))
		}
	})
}
