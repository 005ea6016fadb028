package turn

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun/v4"
)

// socketKind is a kind of socket, and how it is read.
type socketKind struct {
	name, network, host string
	io                  func(*net.UDPConn) packetIO
}

func newSingle(c *net.UDPConn) packetIO { return newSingleIO(c) }

var socketKinds = []socketKind{
	{"dual stack", "udp", "127.0.0.1", newPacketIO},
	{"IPv4", "udp4", "127.0.0.1", newPacketIO},
	{"IPv6", "udp", "::1", newPacketIO},
	{"dual stack, one at a time", "udp", "127.0.0.1", newSingle},
	{"IPv4, one at a time", "udp4", "127.0.0.1", newSingle},
	{"IPv6, one at a time", "udp", "::1", newSingle},
}

func forSocketKinds(t *testing.T, test func(*testing.T, *socketPair)) {
	for _, k := range socketKinds {
		t.Run(k.name, func(t *testing.T) {
			if c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(k.host)}); err != nil {
				t.Skipf("the system has no address %s: %v", k.host, err)
			} else {
				c.Close()
			}
			test(t, k.newPair(t))
		})
	}
}

// expectPacket reads a packet that a client must receive.
func expectPacket(t testing.TB, c *net.UDPConn, want []byte) {
	t.Helper()
	buf := make([]byte, 2000)
	c.SetReadDeadline(time.Now().Add(testTimeout))
	if n, err := c.Read(buf); err != nil || !bytes.Equal(buf[:n], want) {
		t.Fatalf("got %q, %v, want %q", buf[:n], err, want)
	}
}

func write(t testing.TB, c *net.UDPConn, packet []byte) {
	t.Helper()
	if _, err := c.Write(packet); err != nil {
		t.Fatal(err)
	}
}

// receiveUntil handles what waits at the socket until the server has relayed n packets.
func (p *socketPair) receiveUntil(t testing.TB, n int64) (batches int) {
	t.Helper()
	for p.State().UDP.RelayedPackets < n {
		if err := p.socket.receive(); err != nil {
			t.Fatal(err)
		}
		batches++
	}
	return batches
}

// TestPacketsOfBothClientsKeepTheirOrder sends more than one batch, in both directions, before
// the server reads the first packet.
func TestPacketsOfBothClientsKeepTheirOrder(t *testing.T) {
	forSocketKinds(t, func(t *testing.T, p *socketPair) {
		const each = 50
		payload := func(client, i int) string { return fmt.Sprintf("%04d from client %d", i, client) }
		for i := range each {
			for j, c := range p.clients {
				write(t, c, channelData(0x4000+uint16(j), payload(j, i)))
			}
		}
		batches := p.receiveUntil(t, 2*each)
		if _, single := p.socket.io.(*singleIO); single != (batches == 2*each) {
			t.Errorf("%T: got %d batches", p.socket.io, batches)
		}
		for i := range each {
			for j, c := range p.clients {
				want := channelData(0x4000+uint16(j), payload(1-j, i))
				expectPacket(t, c, append(want, make([]byte, padded(len(want))-len(want))...))
			}
		}
	})
}

// TestClientOverItsRateDoesNotAffectOthers sends packets of a client among more of another one
// that has used up its rate.
func TestClientOverItsRateDoesNotAffectOthers(t *testing.T) {
	forSocketKinds(t, func(t *testing.T, p *socketPair) {
		for p.allocated[0].flow.Allow(1400) {
		}
		const each = 20
		for i := range 2 * each {
			write(t, p.clients[0], channelData(0x4000, string(make([]byte, 1400))))
			if i%2 == 1 {
				write(t, p.clients[1], channelData(0x4001, "data"))
			}
		}
		for handled := int64(0); handled < 3*each; handled = p.State().UDP.RelayedPackets + p.State().Dropped["rate"] - 1 {
			if err := p.socket.receive(); err != nil {
				t.Fatal(err)
			}
		}
		for range each {
			expectPacket(t, p.clients[0], channelData(0x4000, "data"))
		}
	})
}

// TestRequestDoesNotDelayPacketsBeforeIt sends a request between two packets. Its answer, which
// goes to the receiver of the packets, comes between them.
func TestRequestDoesNotDelayPacketsBeforeIt(t *testing.T) {
	forSocketKinds(t, func(t *testing.T, p *socketPair) {
		before, after := channelData(0x4001, "before"), channelData(0x4001, "afterwards")
		write(t, p.clients[0], channelData(0x4000, "before"))
		write(t, p.clients[1], stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw)
		write(t, p.clients[0], channelData(0x4000, "afterwards"))
		p.receiveUntil(t, 2)
		expectPacket(t, p.clients[1], append(before, 0, 0))
		buf := make([]byte, 2000)
		n, err := p.clients[1].Read(buf)
		if answer := (stun.Message{Raw: buf[:n]}); err != nil || answer.Decode() != nil || answer.Type != stun.BindingSuccess {
			t.Errorf("got %x, %v, want the answer", buf[:n], err)
		}
		expectPacket(t, p.clients[1], append(after, 0, 0))
	})
}

// TestFailureOfOnePacketDoesNotAffectOthers sends packets of which the system refuses some: it
// does not send to port 0.
func TestFailureOfOnePacketDoesNotAffectOthers(t *testing.T) {
	const size = 8
	for refused := range 1 << size {
		if refused%7 != 3 && refused != 0 && refused != 1<<size-1 {
			continue // some combinations are enough
		}
		forSocketKinds(t, func(t *testing.T, p *socketPair) {
			to := p.allocated[1].client.(*udpClient)
			nowhere := &allocation{client: &udpClient{to.socket, fiveTuple{netip.AddrPortFrom(to.client.Addr(), 0), to.local}, to.source}}
			var packets []outgoing
			for i := range size {
				packets = append(packets, outgoing{to: p.allocated[1], packet: fmt.Append(nil, "packet ", i)})
				if refused>>i&1 != 0 {
					packets[i].to = nowhere
				}
			}
			p.socket.io.send(packets)
			for i, packet := range packets {
				if want := refused>>i&1 == 0; packet.sent != want {
					t.Errorf("packets %#b refused: packet %d: sent is %v", refused, i, packet.sent)
				} else if want {
					expectPacket(t, p.clients[1], packet.packet)
				}
			}
		})
	}
}

// TestClosedSocketCountsUnsentPackets closes the socket between receiving and sending.
func TestClosedSocketCountsUnsentPackets(t *testing.T) {
	forSocketKinds(t, func(t *testing.T, p *socketPair) {
		source := p.allocated[0].client.(*udpClient).fiveTuple
		p.socket.conn.Close()
		if reason := p.socket.handle(testMessage(channelData(0x4000, "data")), source); reason != notDropped {
			t.Fatalf("got reason %d", reason)
		}
		p.socket.flush()
		if state := p.State(); state.Dropped["send-failed"] != 1 || state.UDP.RelayedPackets != 0 || state.MonthBytes != 0 {
			t.Errorf("got %+v", state)
		}
		if len(p.socket.queue) != 0 {
			t.Errorf("got %d packets in the queue", len(p.socket.queue))
		}
		if err := p.socket.receive(); err == nil {
			t.Error("received from a closed socket")
		}
	})
}

// TestCloseEndsReceive closes the socket while its reader waits.
func TestCloseEndsReceive(t *testing.T) {
	forSocketKinds(t, func(t *testing.T, p *socketPair) {
		ended := make(chan error, 1)
		go func() {
			for {
				if err := p.socket.receive(); err != nil {
					ended <- err
					return
				}
			}
		}()
		write(t, p.clients[0], channelData(0x4000, "data"))
		expectPacket(t, p.clients[1], channelData(0x4001, "data"))
		p.socket.conn.Close()
		select {
		case <-ended:
		case <-time.After(testTimeout):
			t.Error("the reader still waits")
		}
	})
}
