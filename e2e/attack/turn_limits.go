package attack

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"inbox/e2e/turnclient"

	"github.com/pion/stun/v4"
)

const (
	maxTURNPeers    = 32
	maxTURNChannels = 16
)

// manyPermissions requests 20,000 permissions and all 4,095 channels on one allocation, over
// UDP and over TLS.
func manyPermissions(ctx context.Context, s *scenario) {
	for name, allocate := range map[string]func(context.Context, string, string) (*turnclient.Client, error){
		"UDP": s.allocateUDP, "TLS": s.allocateTLS,
	} {
		c, err := allocate(ctx, "permissions-"+name, attackerAddr(len(name)))
		if err != nil {
			s.fail("%s: %v", name, err)
			continue
		}
		s.requestAll(name, c)
		if err := c.Release(); err != nil {
			s.fail("%s: release: %v", name, err)
		}
	}
}

// requestAll requests permissions for the relays of one client, and then channels. It sends
// without waiting for responses.
func (s *scenario) requestAll(name string, c *turnclient.Client) {
	before, began := s.proc.RSS(), s.cpu()
	// A permission is for an address. All addresses but those of relays are refused anyway.
	relays := netip.PrefixFrom(c.Relay.Addr(), 24).Masked().Addr().As4()
	relay := func(i int) netip.AddrPort {
		relays[3] = byte(i)
		return netip.AddrPortFrom(netip.AddrFrom4(relays), uint16(1024+i))
	}
	permissions := s.flood(name, c, stun.MethodCreatePermission, 20_000, func(i int) []stun.Setter {
		return []stun.Setter{turnclient.Peer(relay(i))}
	})
	channels := s.flood(name, c, stun.MethodChannelBind, 4095, func(i int) []stun.Setter {
		return []stun.Setter{turnclient.Channel(turnChannel + uint16(i)), turnclient.Peer(relay(i))}
	})
	s.addFigure("%s: %d permissions and %d channels granted, %d KiB more memory, %d ms of CPU", name, len(permissions), len(channels),
		(s.proc.RSS()-before)>>10, (s.cpu() - began).Milliseconds())
	if len(permissions) > maxTURNPeers || len(channels) > maxTURNChannels {
		s.fail("%s: got %d permissions and %d channels, want at most %d and %d", name, len(permissions), len(channels), maxTURNPeers, maxTURNChannels)
	}
	if len(permissions) == 0 {
		s.fail("%s: got no permission, want some", name)
	}
}

// flood sends n requests and returns the distinct low bytes of the requests that the server
// granted.
func (s *scenario) flood(name string, c *turnclient.Client, method stun.Method, n int, attributes func(i int) []stun.Setter) map[byte]bool {
	var mu sync.Mutex
	asked := map[[stun.TransactionIDSize]byte]byte{}
	granted := map[byte]bool{}
	var reader sync.WaitGroup
	reader.Go(func() {
		for {
			raw, err := c.ReadMessage()
			if err != nil {
				return
			}
			m := &stun.Message{Raw: raw}
			if m.Decode() == nil && m.Type == stun.NewType(method, stun.ClassSuccessResponse) {
				mu.Lock()
				granted[asked[m.TransactionID]] = true
				mu.Unlock()
			}
		}
	})
	for i := range n {
		m, err := c.Build(method, attributes(i)...)
		if err == nil {
			mu.Lock()
			asked[m.TransactionID] = byte(i)
			mu.Unlock()
			_, err = c.Conn().Write(m.Raw)
		}
		if err != nil {
			s.fail("%s: request %d: %v", name, i, err)
			break
		}
	}
	c.Conn().SetReadDeadline(time.Now().Add(2 * time.Second)) // for the last responses
	reader.Wait()
	c.Conn().SetReadDeadline(time.Time{})
	return granted
}

// foreignPeers returns addresses that are no relays: of this machine, and of ranges that
// relays must never reach, also in the forms that hide an IPv4 address in an IPv6 one.
func foreignPeers() (all []netip.Addr, err error) {
	for _, text := range []string{
		"0.0.0.0", "127.0.0.1", "127.1.2.3", "10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "169.254.169.254",
		"192.0.0.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "255.255.255.255", "8.8.8.8",
		"::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "2606:4700::1111",
		"::ffff:127.0.0.1", "::ffff:192.0.2.1", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::1", "2001:0:7f00:1::1",
	} {
		all = append(all, netip.MustParseAddr(text))
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	for _, a := range own {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			all = append(all, prefix.Addr())
		}
	}
	return all, nil
}

// foreignPeersRefused names foreign peers in every request, and sends data to them. Nothing
// may reach a socket of this machine.
func foreignPeersRefused(ctx context.Context, s *scenario) {
	peers, err := foreignPeers()
	if err != nil {
		s.fail("%v", err)
		return
	}
	for name, allocate := range map[string]func(context.Context, string, string) (*turnclient.Client, error){
		"UDP": s.allocateUDP, "TLS": s.allocateTLS,
	} {
		c, err := allocate(ctx, "peers-"+name, attackerAddr(len(name)))
		if err != nil {
			s.fail("%s: %v", name, err)
			continue
		}
		refused := 0
		for i, peer := range peers {
			if !sleep(ctx, 50*time.Millisecond) { // for the rate of requests of an allocation
				return
			}
			if s.refusesPeer(name, c, peer, uint16(i)) {
				refused++
			}
		}
		s.addFigure("%s: %d of %d peers refused", name, refused, len(peers))
		if err := c.Release(); err != nil {
			s.fail("%s: release: %v", name, err)
		}
	}
}

// refusesPeer listens at the address of the peer, if it belongs to this machine. Elsewhere a
// closed port stands for it.
func (s *scenario) refusesPeer(name string, c *turnclient.Client, addr netip.Addr, i uint16) bool {
	peer := netip.AddrPortFrom(addr, 9) // discard
	listener, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
	if err == nil {
		defer listener.Close()
		peer = netip.AddrPortFrom(addr, listener.LocalAddr().(*net.UDPAddr).AddrPort().Port())
	}
	want := 403
	switch {
	case addr.Is6():
		want = 443 // the relays are IPv4
	case netip.PrefixFrom(c.Relay.Addr(), 24).Masked().Contains(addr):
		want = 0 // this machine has an address that the relays seem to have
	}
	permit, bind := turnclient.CodeOf(c.Permit(peer)), turnclient.CodeOf(c.Bind(turnChannel+i, peer))
	if permit != want || bind != want {
		s.fail("%s: peer %v: got errors %d and %d, want %d", name, addr, permit, bind, want)
		return false
	}
	indication := stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodSend, stun.ClassIndication),
		turnclient.Peer(peer), stun.RawAttribute{Type: stun.AttrData, Value: []byte("to a foreign peer")})
	c.Conn().Write(indication.Raw)
	c.Send(turnChannel+i, []byte("to a foreign peer"))
	if code := turnclient.CodeOf(c.Refresh(10 * time.Minute)); code != 0 { // the server has read all of it
		s.fail("%s: refresh: got error %d", name, code)
	}
	if listener != nil && received(listener) {
		s.fail("%s: peer %v: got a packet, want none", name, addr)
		return false
	}
	return true
}

// received reports whether a datagram from another sender has arrived before one of this
// function.
func received(listener *net.UDPConn) bool {
	sender, err := net.Dial("udp", listener.LocalAddr().String())
	if err != nil {
		return false // an unspecified or multicast address
	}
	defer sender.Close()
	fmt.Fprint(sender, "sentinel")
	listener.SetReadDeadline(time.Now().Add(time.Second))
	buf := make([]byte, 100)
	n, err := listener.Read(buf)
	return err == nil && string(buf[:n]) != "sentinel"
}

// greedyAllocation sends ten times the rate of an allocation for d, beside a quiet pair.
func greedyAllocation(d time.Duration) func(context.Context, *scenario) {
	return func(ctx context.Context, s *scenario) {
		greedy, err := s.newTURNPair(ctx, "greedy", attackerAddr(0), attackerAddr(0))
		if err != nil {
			s.fail("%v", err)
			return
		}
		quiet, err := s.newTURNPair(ctx, "quiet", callerAddr, calleeAddr)
		if err != nil {
			s.fail("%v", err)
			return
		}
		defer greedy.close()
		defer quiet.close()
		began := time.Now()
		var both sync.WaitGroup
		both.Go(func() { greedy.send(ctx, d, 8*time.Millisecond, 67, 1200) }) // 80 Mbit/s
		both.Go(func() { quiet.send(ctx, d, 20*time.Millisecond, 1, 200) })
		both.Wait()
		took := time.Since(began).Seconds()
		relayed, sent := float64(greedy.receivedBytes.Load())*8/1e6, float64(greedy.sentBytes.Load())*8/1e6
		s.addFigure("greedy: %.1f of %.1f Mbit relayed in %.1f s; quiet: %d of %d packets", relayed, sent, took,
			quiet.received.Load(), quiet.sent.Load())
		if quiet.received.Load() < quiet.sent.Load()*9/10 {
			s.fail("quiet: got %d of %d packets, want almost all", quiet.received.Load(), quiet.sent.Load())
		}
		if most := 8 * (took + 1); relayed > most { // with a burst
			s.fail("greedy: got %.1f Mbit in %.1f s, want at most %.1f", relayed, took, most)
		}
	}
}

// turnPair is two joined clients, of which one sends to the other.
type turnPair struct {
	sender, receiver                         *turnclient.Client
	sent, received, sentBytes, receivedBytes atomic.Int64
	reader                                   sync.WaitGroup
}

// newTURNPair joins a client over UDP at each of two addresses.
func (s *scenario) newTURNPair(ctx context.Context, mailbox, from, to string) (*turnPair, error) {
	sender, err := s.allocateUDP(ctx, mailbox+"-sender", from)
	if err != nil {
		return nil, err
	}
	receiver, err := s.allocateUDP(ctx, mailbox+"-receiver", to)
	if err != nil {
		sender.Close()
		return nil, err
	}
	p := &turnPair{sender: sender, receiver: receiver}
	if err := join(sender, receiver); err != nil {
		p.close()
		return nil, err
	}
	p.reader.Go(p.receive)
	return p, nil
}

func (p *turnPair) receive() {
	for {
		_, payload, err := p.receiver.Receive()
		if err != nil {
			return
		}
		p.received.Add(1)
		p.receivedBytes.Add(int64(len(payload)))
	}
}

// send sends bursts of packets at an interval for d, and then waits for the last ones.
func (p *turnPair) send(ctx context.Context, d, interval time.Duration, burst, size int) {
	payload := make([]byte, size)
	for end := time.Now().Add(d); time.Now().Before(end) && sleep(ctx, interval); {
		for range burst {
			binary.BigEndian.PutUint64(payload, uint64(p.sent.Add(1)))
			if p.sender.Send(turnChannel, payload) == nil {
				p.sentBytes.Add(int64(size))
			}
		}
	}
	sleep(ctx, 500*time.Millisecond)
}

// close ends both allocations and the connections.
func (p *turnPair) close() {
	for _, c := range []*turnclient.Client{p.sender, p.receiver} {
		if m, err := c.Build(stun.MethodRefresh, stun.RawAttribute{Type: stun.AttrLifetime, Value: make([]byte, 4)}); err == nil {
			c.Conn().Write(m.Raw)
		}
		c.Close()
	}
	p.reader.Wait()
}

// monthShare is what one address can use of a month of one gigabyte.
const monthShare = 1_000_000_000 / 8

// exhaustMonth sends from one address at the highest rate, until the server relays nothing
// more for it. Another address must still have a relay.
func exhaustMonth(ctx context.Context, s *scenario) {
	began := time.Now()
	relayed := s.useMonth(ctx, 4)
	took := time.Since(began)
	more := s.useMonth(ctx, 1)
	s.addFigure("%d MB relayed for one address in %.0f s, then %d bytes", relayed/1_000_000, took.Seconds(), more)
	if relayed > monthShare || relayed < monthShare/2 {
		s.fail("got %d bytes relayed for one address, want about %d", relayed, monthShare)
	}
	if more > 0 {
		s.fail("got %d more bytes relayed for one address, want none", more)
	}
	other, err := s.newTURNPair(ctx, "other", callerAddr, calleeAddr)
	if err != nil {
		s.fail("another address: %v", err)
		return
	}
	defer other.close()
	other.send(ctx, time.Second, 20*time.Millisecond, 1, 200)
	if other.received.Load() == 0 {
		s.fail("another address: got no packets relayed")
	}
}

// useMonth sends from one address to several others, until nothing arrives any more. It
// returns the number of bytes that arrived. The server can refuse a relay.
func (s *scenario) useMonth(ctx context.Context, receivers int) int64 {
	var relayed atomic.Int64
	parallel(receivers, receivers, func(i int) {
		p, err := s.newTURNPair(ctx, fmt.Sprint("month-", i), attackerAddr(0), attackerAddr(1+i))
		if turnclient.CodeOf(err) == 508 {
			return
		}
		if err != nil {
			s.fail("%v", err)
			return
		}
		defer p.close()
		for last := int64(-1); ctx.Err() == nil && p.received.Load() > last; {
			last = p.received.Load()
			p.send(ctx, 5*time.Second, 10*time.Millisecond, 18, 1200) // 17 Mbit/s
		}
		relayed.Add(p.receivedBytes.Load())
	})
	return relayed.Load()
}
