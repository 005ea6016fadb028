package turn

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/stun/v4"
)

var somePeer = netip.MustParseAddrPort("192.0.2.7:4000")

func TestUnauthenticatedAnswersAreShort(t *testing.T) {
	ts := newTestServer(t, nil)
	c := ts.newRawClient(t, overUDP, "alice")
	for _, method := range []stun.Method{stun.MethodAllocate, stun.MethodRefresh, stun.MethodCreatePermission, stun.MethodChannelBind} {
		answer := c.ask(method)
		if code := errorCode(answer); code != stun.CodeUnauthorized {
			t.Errorf("%s: got code %d, want 401", method, code)
		}
		if len(answer.Raw) > 68 || answer.Contains(stun.AttrSoftware) {
			t.Errorf("%s: got %d bytes: %v", method, len(answer.Raw), answer)
		}
	}
	answer := c.ask(stun.MethodBinding)
	var mapped stun.XORMappedAddress
	if err := mapped.GetFrom(answer); err != nil || mapped.String() != c.conn.LocalAddr().String() || len(answer.Raw) > 40 {
		t.Errorf("got %v, %v, %d bytes, want %v", mapped, err, len(answer.Raw), c.conn.LocalAddr())
	}
	if got := ts.State().Unauthenticated; got != 5 {
		t.Errorf("got %d unauthenticated answers, want 5", got)
	}
}

func TestUnauthenticatedRequestsAreWithheld(t *testing.T) {
	var asked atomic.Value
	ts := newTestServer(t, func(c *Config) {
		c.AllowUnauthenticated = func(a netip.Addr) bool { asked.Store(a); return false }
	})
	c := ts.newRawClient(t, overUDP, "alice")
	c.send(stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw)
	c.send(stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest),
		stun.NewUsername(c.creds.Username), stun.NewRealm("x"), stun.NewNonce("x"), c.key()).Raw)
	eventually(t, "two withheld answers", func() bool { return ts.State().Withheld == 2 })
	if got := asked.Load(); got != netip.MustParseAddr("127.0.0.1") || ts.State().Unauthenticated != 0 {
		t.Errorf("asked for %v, %d answers", got, ts.State().Unauthenticated)
	}
}

func TestLowSourcePortGetsNoAnswer(t *testing.T) {
	ts := newTestServer(t, func(c *Config) {
		c.AllowUnauthenticated = func(netip.Addr) bool { t.Error("asked"); return true }
	})
	u := &udpSocket{s: ts.Server}
	m := testMessage(stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw)
	if got := u.handle(m, fiveTuple{client: netip.MustParseAddrPort("127.0.0.1:1023")}); got != dropLowPort {
		t.Errorf("got %q", dropNames[got])
	}
}

// testMessage returns a message in a buffer as readers have it.
func testMessage(raw []byte) message {
	buf := make([]byte, headroomBytes+len(raw)+tailroomBytes)
	copy(buf[headroomBytes:], raw)
	return message{buf, headroomBytes, headroomBytes + len(raw)}
}

func TestCredentialsAreChecked(t *testing.T) {
	ts := newTestServer(t, nil)
	c := ts.newRawClient(t, overUDP, "alice")
	for _, row := range []struct {
		name   string
		change func(*Credentials)
		reason string
	}{
		{"password", func(c *Credentials) { c.Password += "x" }, "credentials"},
		{"user name", func(c *Credentials) { c.Username += "x" }, "credentials"},
		{"no user name", func(c *Credentials) { c.Username = "" }, "credentials"},
	} {
		before := ts.State().Refused[row.reason]
		changed := &rawClient{t: t, conn: c.conn, to: c.to, creds: c.creds}
		row.change(&changed.creds)
		changed.expect(stun.CodeUnauthorized, stun.MethodAllocate, udpTransport)
		if got := ts.State().Refused[row.reason] - before; got != 1 {
			t.Errorf("%s: got %d refusals of %s, want 1", row.name, got, row.reason)
		}
	}
}

func TestExpiredCredentialsRefuseOnlyAllocate(t *testing.T) {
	ts := newTestServer(t, nil)
	c := ts.newRawClient(t, overUDP, "alice")
	c.allocate()
	other := ts.newRawClient(t, overUDP, "alice")
	ts.clock.advance(CredentialLifetime)
	other.expect(stun.CodeUnauthorized, stun.MethodAllocate, udpTransport)
	c.expect(0, stun.MethodRefresh)
	c.expect(0, stun.MethodCreatePermission, peer(somePeer))
	c.expect(0, stun.MethodChannelBind, channelNumberAttr(0x4000), peer(somePeer))
	if got := ts.State().Refused["expired"]; got != 1 {
		t.Errorf("got %d refusals, want 1", got)
	}
}

func TestRequestsWithoutAllocation(t *testing.T) {
	for over := range transports {
		ts := newTestServer(t, nil)
		c := ts.newRawClient(t, over, "alice")
		c.expect(stun.CodeAllocMismatch, stun.MethodRefresh)
		c.expect(stun.CodeAllocMismatch, stun.MethodCreatePermission, peer(somePeer))
		c.expect(stun.CodeAllocMismatch, stun.MethodChannelBind, channelNumberAttr(0x4000), peer(somePeer))
		if got := ts.State().Refused["no-allocation"]; got != 3 {
			t.Errorf("%s: got %d refusals, want 3", transportNames[over], got)
		}
	}
}

func TestAllocationOfAnotherUser(t *testing.T) {
	ts := newTestServer(t, nil)
	c := ts.newRawClient(t, overUDP, "alice")
	c.allocate()
	c.creds = ts.Credentials("bob", Payer{})
	c.expect(stun.CodeWrongCredentials, stun.MethodRefresh)
	c.expect(stun.CodeWrongCredentials, stun.MethodCreatePermission, peer(somePeer))
	if got := ts.State().Refused["other-user"]; got != 2 {
		t.Errorf("got %d refusals, want 2", got)
	}
}

func TestAllocateAgain(t *testing.T) {
	for over := range transports {
		ts := newTestServer(t, nil)
		c := ts.newRawClient(t, over, "alice")
		relay := c.allocate()
		c.expect(stun.CodeAllocMismatch, stun.MethodAllocate, udpTransport)
		c.expect(0, stun.MethodRefresh, lifetime(0))
		c.expect(stun.CodeAllocMismatch, stun.MethodRefresh)
		if ts.State().UDP.Allocations+ts.State().TLS.Allocations != 0 {
			t.Errorf("%s: the allocation exists after Refresh with a lifetime of zero", transportNames[over])
		}
		if again := c.allocate(); again == relay {
			t.Errorf("%s: the same relay again", transportNames[over])
		}
		if got := ts.State().UDP.Allocated + ts.State().TLS.Allocated; got != 2 {
			t.Errorf("%s: got %d allocations made, want 2", transportNames[over], got)
		}
	}
}

func TestRepeatedAllocateGetsTheSameAnswer(t *testing.T) {
	ts := newTestServer(t, nil)
	c := ts.newRawClient(t, overUDP, "alice")
	relay := c.allocate()
	id := stun.NewTransactionIDSetter(stun.NewTransactionID())
	other := ts.newRawClient(t, overUDP, "bob")
	first := relayOf(t, other.request(stun.MethodAllocate, id, udpTransport))
	second := relayOf(t, other.request(stun.MethodAllocate, id, udpTransport))
	if first != second || first == relay {
		t.Errorf("got %v and %v, and %v for another client", first, second, relay)
	}
}

// TestForeignPeersAreRefused asks for addresses that an open relay would reach.
func TestForeignPeersAreRefused(t *testing.T) {
	ts := newTestServer(t, nil)
	c := ts.newRawClient(t, overUDP, "alice")
	relay := c.allocate()
	for text, want := range map[string]stun.ErrorCode{
		"127.0.0.1": 403, "10.0.0.1": 403, "169.254.169.254": 403, "192.168.1.1": 403, "0.0.0.0": 403,
		"100.64.0.1": 403, "224.0.0.1": 403, "255.255.255.255": 403, "8.8.8.8": 403, "192.0.3.1": 403,
		"::1": 443, "fe80::1": 443, "64:ff9b::a00:1": 443, "2001:db8::1": 443,
	} {
		foreign := netip.AddrPortFrom(netip.MustParseAddr(text), 80)
		c.expect(want, stun.MethodCreatePermission, peer(foreign))
		c.expect(want, stun.MethodCreatePermission, peer(relay), peer(foreign))
		c.expect(want, stun.MethodChannelBind, channelNumberAttr(0x4000), peer(foreign))
	}
	mapped := attribute(stun.AttrXORPeerAddress, append([]byte{0, 2, 0, 80}, make([]byte, 16)...)...)
	c.expect(443, stun.MethodCreatePermission, mapped)
	a := ts.relays.get(relay)
	if p := a.peers.Load(); len(p.permissions)+len(p.channels) != 0 {
		t.Errorf("got %+v, want no peers", p)
	}
}

func TestMalformedPeersAndChannels(t *testing.T) {
	ts := newTestServer(t, nil)
	c := ts.newRawClient(t, overUDP, "alice")
	c.allocate()
	c.expect(400, stun.MethodCreatePermission)
	c.expect(400, stun.MethodCreatePermission, peer(somePeer), attribute(stun.AttrXORPeerAddress, 0, 1, 2))
	c.expect(400, stun.MethodChannelBind)
	c.expect(400, stun.MethodChannelBind, peer(somePeer))
	c.expect(400, stun.MethodChannelBind, channelNumberAttr(0x4000))
	c.expect(400, stun.MethodChannelBind, channelNumberAttr(0x3fff), peer(somePeer))
	c.expect(0, stun.MethodChannelBind, channelNumberAttr(0x4000), peer(somePeer))
	c.expect(400, stun.MethodChannelBind, channelNumberAttr(0x4001), peer(somePeer))
	c.expect(400, stun.MethodChannelBind, channelNumberAttr(0x4000), peer(netip.AddrPortFrom(somePeer.Addr(), 4001)))
	c.expect(0, stun.MethodChannelBind, channelNumberAttr(0x4000), peer(somePeer))
}

func TestPeersAndChannelsAreBounded(t *testing.T) {
	ts := newTestServer(t, nil)
	c := ts.newRawClient(t, overUDP, "alice")
	relay := c.allocate()
	addr := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 5000)
	}
	for i := range maxChannels {
		c.expect(0, stun.MethodChannelBind, channelNumberAttr(0x4000+uint16(i)), peer(addr(i)))
	}
	c.expect(508, stun.MethodChannelBind, channelNumberAttr(0x4100), peer(addr(100)))
	for i := maxChannels; i < maxPeers; i++ {
		c.expect(0, stun.MethodCreatePermission, peer(addr(i)))
	}
	c.expect(508, stun.MethodCreatePermission, peer(addr(100)))
	c.expect(0, stun.MethodCreatePermission, peer(addr(0)), peer(addr(1)))
	p := ts.relays.get(relay).peers.Load()
	if len(p.permissions) != maxPeers || len(p.channels) != maxChannels {
		t.Errorf("got %d permissions and %d channels", len(p.permissions), len(p.channels))
	}
	if state := ts.State(); state.Refused["peers"] != 1 || state.Refused["channels"] != 1 {
		t.Errorf("got %v", state.Refused)
	}
}

func TestUnsupportedRelays(t *testing.T) {
	ts := newTestServer(t, nil)
	c := ts.newRawClient(t, overUDP, "alice")
	c.expect(400, stun.MethodAllocate)
	c.expect(442, stun.MethodAllocate, tcpTransport)
	c.expect(442, stun.MethodAllocate, attribute(stun.AttrRequestedTransport, 1, 0, 0, 0))
	c.expect(440, stun.MethodAllocate, udpTransport, attribute(stun.AttrRequestedAddressFamily, 2, 0, 0, 0))
	c.expect(420, stun.MethodAllocate, udpTransport, attribute(stun.AttrDontFragment))
	c.expect(420, stun.MethodAllocate, udpTransport, attribute(stun.AttrType(0x7777)))
	c.expect(508, stun.MethodAllocate, udpTransport, attribute(stun.AttrReservationToken, 1, 2, 3, 4, 5, 6, 7, 8))
	c.expect(0, stun.MethodAllocate, udpTransport, attribute(stun.AttrRequestedAddressFamily, 1, 0, 0, 0))
	c.expect(443, stun.MethodRefresh, attribute(stun.AttrRequestedAddressFamily, 2, 0, 0, 0))
}

// TestConnectMethodsAreDropped sends the requests of relays over TCP (RFC 6062).
func TestConnectMethodsAreDropped(t *testing.T) {
	ts := newTestServer(t, nil)
	c := ts.newRawClient(t, overUDP, "alice")
	for _, method := range []stun.Method{stun.MethodConnect, stun.MethodConnectionBind, stun.MethodSend, stun.MethodData} {
		c.send(stun.MustBuild(stun.TransactionID, stun.NewType(method, stun.ClassRequest)).Raw)
	}
	eventually(t, "four dropped requests", func() bool { return ts.State().Dropped["malformed"] == 4 })
}

func TestEvenPort(t *testing.T) {
	ts := newTestServer(t, nil)
	c := ts.newRawClient(t, overUDP, "alice")
	answer := c.expect(0, stun.MethodAllocate, udpTransport, attribute(stun.AttrEvenPort, 0x80))
	even := relayOf(t, answer)
	token, err := answer.Get(stun.AttrReservationToken)
	if err != nil || even.Port()%2 != 0 {
		t.Fatalf("got relay %v, token %v", even, err)
	}
	for want, owner := range map[stun.ErrorCode]string{0: "bob"} {
		next := ts.newRawClient(t, overUDP, owner)
		odd := relayOf(t, next.expect(want, stun.MethodAllocate, udpTransport, attribute(stun.AttrReservationToken, token...)))
		if odd.Addr() != even.Addr() || odd.Port() != even.Port()+1 {
			t.Errorf("got %v after %v", odd, even)
		}
	}
	ts.newRawClient(t, overUDP, "carol").expect(508, stun.MethodAllocate, udpTransport, attribute(stun.AttrReservationToken, token...))
}

// newRawClientOf returns a client with another loopback address. Each goes to the socket of the
// server as a client of its own.
func (ts *testServer) newRawClientOf(t testing.TB, addr, owner string) *rawClient {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(addr)})
	if err != nil && runtime.GOOS != "linux" {
		t.Skipf("no address %s: %v", addr, err) // only Linux has all of 127.0.0.0/8
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &rawClient{t: t, conn: conn, to: ts.serverAddr(overUDP), creds: ts.Credentials(owner, Payer{})}
}

// reserve makes reservations and ends their allocations, until the client has no more.
func (c *rawClient) reserve() (made int) {
	c.t.Helper()
	for {
		answer := c.request(stun.MethodAllocate, udpTransport, attribute(stun.AttrEvenPort, 0x80))
		if code := errorCode(answer); code == stun.CodeAllocQuotaReached {
			return made
		} else if code != 0 {
			c.t.Fatalf("got code %d", code)
		}
		made++
		c.expect(0, stun.MethodRefresh, lifetime(0))
	}
}

func TestReservationsAreShared(t *testing.T) {
	ts := newTestServer(t, nil)
	c := ts.newRawClient(t, overUDP, "alice")
	if got := c.reserve(); got != maxClientReservations {
		t.Errorf("got %d reservations of a client, want %d", got, maxClientReservations)
	}
	c.allocate() // without EVEN-PORT
	network := 0
	for i := range 2 * maxNetworkReservations / maxClientReservations {
		network += ts.newRawClientOf(t, fmt.Sprintf("127.0.7.%d", i+1), "alice").reserve()
	}
	if network != maxNetworkReservations {
		t.Errorf("got %d reservations of a network, want %d", network, maxNetworkReservations)
	}
	other := ts.newRawClientOf(t, "127.0.9.9", "bob")
	other.expect(0, stun.MethodAllocate, udpTransport, attribute(stun.AttrEvenPort, 0x80))
	c.expect(0, stun.MethodRefresh, lifetime(0))
	ts.clock.advance(reservationLifetime + time.Second)
	if got := c.reserve(); got != maxClientReservations {
		t.Errorf("got %d reservations later, want %d", got, maxClientReservations)
	}
}

// TestRefusedAllocationReservesNothing refuses more than a client can reserve.
func TestRefusedAllocationReservesNothing(t *testing.T) {
	share := &switchedShare{}
	ts := newTestServer(t, func(c *Config) { c.Allocations = share })
	c := ts.newRawClient(t, overUDP, "alice")
	for range 2 * maxClientReservations {
		c.expect(stun.CodeAllocQuotaReached, stun.MethodAllocate, udpTransport, attribute(stun.AttrEvenPort, 0x80))
	}
	share.open.Store(true)
	if got := c.reserve(); got != maxClientReservations {
		t.Errorf("got %d reservations, want %d", got, maxClientReservations)
	}
}

// switchedShare allows no allocation until it is open.
type switchedShare struct{ open atomic.Bool }

func (s *switchedShare) Reserve(netip.Addr, int64) bool { return s.open.Load() }
func (s *switchedShare) Release(netip.Addr, int64)      {}

func TestReservationsAreBounded(t *testing.T) {
	s := newPipeServer(t, nil)
	p := s.pions[overUDP]
	next := &reservation{client: netip.MustParsePrefix("192.0.2.1/32"), network: netip.MustParsePrefix("192.0.2.0/24")}
	p.reservations = make([]reservation, maxReservations)
	if got := p.checkReservation(next); got != refusedFull {
		t.Errorf("got %v, want %v", got, refusedFull)
	}
}

func TestRequestRateOfAnAllocation(t *testing.T) {
	ts := newTestServer(t, nil)
	c := ts.newRawClient(t, overUDP, "alice")
	c.allocate()
	refresh := stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodRefresh, stun.ClassRequest),
		stun.NewUsername(c.creds.Username), c.realm, c.nonce, c.key()).Raw
	eventually(t, "a dropped request", func() bool {
		c.send(refresh)
		return ts.State().Dropped["request-rate"] > 0
	})
}

// TestForgedRequestsLeaveTheRequestsOfTheUser sends what somebody else can send with the source
// of an allocation, until none of it gets an answer.
func TestForgedRequestsLeaveTheRequestsOfTheUser(t *testing.T) {
	ts := newTestServer(t, nil)
	c := ts.newRawClient(t, overUDP, "alice")
	c.allocate()
	refresh := stun.NewType(stun.MethodRefresh, stun.ClassRequest)
	wrong := stun.NewLongTermIntegrity(c.creds.Username, c.realm.String(), "wrong")
	bob := ts.Credentials("bob", Payer{})
	for name, raw := range map[string][]byte{
		"Binding":        stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw,
		"no signature":   stun.MustBuild(stun.TransactionID, refresh).Raw,
		"wrong password": stun.MustBuild(stun.TransactionID, refresh, stun.NewUsername(c.creds.Username), c.realm, c.nonce, wrong).Raw,
		"other user": stun.MustBuild(stun.TransactionID, refresh, stun.NewUsername(bob.Username), c.realm, c.nonce,
			stun.NewLongTermIntegrity(bob.Username, c.realm.String(), bob.Password)).Raw,
	} {
		before := ts.State().Withheld
		eventually(t, name+" without an answer", func() bool {
			c.send(raw)
			return ts.State().Withheld > before+2*requestBurst
		})
		c.expect(0, stun.MethodRefresh)
	}
	if got := ts.State().Dropped["request-rate"]; got != 0 {
		t.Errorf("got %d requests dropped of the user", got)
	}
}

// TestRealmProvesTheAddress withholds all answers to sources that can be forged, once a client has
// the realm of its address.
func TestRealmProvesTheAddress(t *testing.T) {
	var full atomic.Bool
	var proven atomic.Int64
	ts := newTestServer(t, func(c *Config) {
		c.AllowUnauthenticated = func(netip.Addr) bool { return !full.Load() }
		c.AllowProven = func(netip.Addr) bool { return proven.Add(1) <= 2 }
	})
	c := ts.newRawClient(t, overUDP, "alice")
	c.expect(stun.CodeBadRequest, stun.MethodAllocate) // the challenge, and the first proven request
	full.Store(true)
	c.allocate()
	other := ts.newRawClient(t, overUDP, "bob")
	other.nonce, other.realm = c.nonce, stun.NewRealm(ts.issuer.realm(netip.MustParseAddr("127.0.0.2"), ts.clock.Now()))
	allocate := stun.NewType(stun.MethodAllocate, stun.ClassRequest)
	for _, realm := range []stun.Realm{other.realm, stun.NewRealm("x"), c.realm} { // another address; none; over the limit
		other.send(stun.MustBuild(stun.TransactionID, allocate, realm, c.nonce).Raw)
	}
	eventually(t, "three withheld answers", func() bool { return ts.State().Withheld == 3 })
	if got := proven.Load(); got != 3 {
		t.Errorf("got %d proven requests, want 3", got)
	}
}

// countingShare allows some allocations of each address.
type countingShare struct {
	max  int64
	held atomic.Int64
}

func (s *countingShare) Reserve(_ netip.Addr, n int64) bool {
	if s.held.Add(n) > s.max {
		s.held.Add(-n)
		return false
	}
	return true
}

func (s *countingShare) Release(_ netip.Addr, n int64) { s.held.Add(-n) }

func TestAllocationsOverTheShare(t *testing.T) {
	share := &countingShare{max: 1}
	ts := newTestServer(t, func(c *Config) { c.Allocations = share })
	alice, bob := ts.newRawClient(t, overUDP, "alice"), ts.newRawClient(t, overTLS, "bob")
	alice.allocate()
	bob.expect(486, stun.MethodAllocate, udpTransport)
	alice.expect(0, stun.MethodRefresh, lifetime(0))
	bob.allocate()
	bob.conn.Close()
	eventually(t, "the release of the last allocation", func() bool { return share.held.Load() == 0 })
	if got := ts.State().Refused["share"]; got != 1 {
		t.Errorf("got %d refusals, want 1", got)
	}
}

func TestMonthUsed(t *testing.T) {
	ts := newTestServer(t, func(c *Config) { c.MonthBytes = 100_000 })
	alice, bob := ts.newRawClient(t, overUDP, "alice"), ts.newRawClient(t, overUDP, "bob")
	a, b := alice.allocate(), bob.allocate()
	alice.expect(0, stun.MethodChannelBind, channelNumberAttr(0x4000), peer(b))
	bob.expect(0, stun.MethodCreatePermission, peer(a))
	packet := append([]byte{0x40, 0, 1000 >> 8, 1000 & 0xff}, bytes.Repeat([]byte{1}, 1000)...)
	eventually(t, "the end of the month's traffic", func() bool {
		alice.send(packet)
		return ts.MonthUsed()
	})
	ts.newRawClient(t, overUDP, "carol").expect(508, stun.MethodAllocate, udpTransport)
	if got := ts.State(); got.Refused["month"] != 1 || got.MonthBytes < 99_000 || got.MonthLimit != 100_000 {
		t.Errorf("got %+v", got)
	}
	eventually(t, "the end of all allocations", func() bool {
		ts.clock.advance(time.Second) // the rate is 64 kbit/s now
		alice.send(packet)
		return ts.State().UDP.Allocations == 0
	})
	bob.expect(stun.CodeAllocMismatch, stun.MethodRefresh)
}

// An Allocate whose source is forged has the realm of another address: that of its sender.
func TestAllocateWithTheRealmOfAnotherAddress(t *testing.T) {
	ts := newTestServer(t, nil)
	c := ts.newRawClient(t, overUDP, "alice")
	if answer := c.request(stun.MethodAllocate); errorCode(answer) == stun.CodeUnauthorized {
		t.Fatal("refused the realm of the challenge") // it lacks REQUESTED-TRANSPORT
	}
	given := c.realm
	c.realm = stun.NewRealm(ts.issuer.realm(netip.MustParseAddr("127.0.0.2"), ts.clock.Now()))
	if answer := c.request(stun.MethodAllocate, udpTransport); errorCode(answer) != stun.CodeUnauthorized {
		t.Errorf("got %v", answer)
	} else if err := c.realm.GetFrom(answer); err != nil || c.realm.String() != given.String() {
		t.Errorf("got realm %q, %v, want %q", c.realm, err, given)
	}
	c.allocate()
	ts.clock.advance(3 * realmPeriod)
	c.expect(0, stun.MethodRefresh, lifetime(60)) // of a running call
	fresh := ts.newRawClient(t, overUDP, "bob")
	fresh.nonce, fresh.realm = c.nonce, given
	if answer := fresh.request(stun.MethodAllocate, udpTransport); errorCode(answer) != stun.CodeUnauthorized {
		t.Errorf("an old realm: got %v", answer)
	}
}
