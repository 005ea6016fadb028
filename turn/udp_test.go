package turn

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun/v4"
)

// TestAnswerComesFromTheAskedAddress asks both addresses of a host from one socket. Where
// the system has no packet information, the host has one address as far as the test knows.
func TestAnswerComesFromTheAskedAddress(t *testing.T) {
	for _, network := range []string{"udp4", "udp"} {
		ts := newTestServer(t, nil)
		conn, err := net.ListenUDP(network, nil)
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- ts.ServeUDP(conn) }()
		hosts := []string{"127.0.0.1"}
		if packetInfoBytes > 0 {
			hosts = append(hosts, "127.0.0.2")
		}
		client, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		for _, host := range hosts {
			to := netip.AddrPortFrom(netip.MustParseAddr(host), uint16(conn.LocalAddr().(*net.UDPAddr).Port))
			c := &rawClient{t: t, conn: client, to: net.UDPAddrFromAddrPort(to), creds: ts.Credentials("alice", Payer{})}
			if _, err := client.WriteToUDPAddrPort(stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw, to); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 2000)
			client.SetReadDeadline(time.Now().Add(testTimeout))
			if _, from, err := client.ReadFromUDPAddrPort(buf); err != nil || from != to {
				t.Errorf("%s: got an answer from %v, %v, want %v", network, from, err, to)
			}
			// The destination belongs to the five-tuple.
			c.allocate()
		}
		if got := ts.State().UDP.Allocations; got != int64(len(hosts)) {
			t.Errorf("%s: got %d allocations, want %d", network, got, len(hosts))
		}
		ts.Close()
		if err := <-served; err != nil {
			t.Errorf("%s: ServeUDP: %v", network, err)
		}
	}
}

// TestPacketInfoIsOptional serves a socket of a system that does not tell the destination.
func TestPacketInfoIsOptional(t *testing.T) {
	p := newSocketPair(t)
	p.socket.packetInfo = packetInfo{}
	p.relayOne(t, stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw)
	p.clients[0].SetReadDeadline(time.Now().Add(testTimeout))
	if _, err := p.clients[0].Read(make([]byte, 2000)); err != nil {
		t.Errorf("no answer: %v", err)
	}
	if info := (packetInfo{}); info.local([]byte{1, 2, 3}).IsValid() || info.source(netip.Addr{}) != nil {
		t.Error("the zero packetInfo does something")
	}
}

func TestLargeDatagramsAreDropped(t *testing.T) {
	p := newSocketPair(t)
	p.relayOne(t, channelData(0x4000, string(make([]byte, maxMessageBytes-channelHeaderBytes+1))))
	p.relayOne(t, make([]byte, 3000))
	p.relayOne(t, nil)
	if got := p.State().Dropped; got["too-large"] != 2 || got["malformed"] != 1 {
		t.Errorf("got %v", got)
	}
	p.relayOne(t, channelData(0x4000, string(make([]byte, maxMessageBytes-channelHeaderBytes))))
	if got := p.State(); got.UDP.RelayedBytes != maxMessageBytes-channelHeaderBytes {
		t.Errorf("got %+v", got)
	}
}

func TestServeUDPEnds(t *testing.T) {
	ts := newTestServer(t, nil)
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- ts.ServeUDP(conn) }()
	conn.Close()
	if err := <-served; !errors.Is(err, net.ErrClosed) {
		t.Errorf("a socket that was closed elsewhere: got %v", err)
	}
	ts.Close()
	conn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	if err := ts.ServeUDP(conn); err != nil {
		t.Errorf("after Close: got %v", err)
	}
	if _, err := conn.Write(nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the socket is open after Close: %v", err)
	}
}
