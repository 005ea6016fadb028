package turn

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"inbox/e2e/netns"

	"github.com/pion/stun/v4"
	"golang.org/x/sys/unix"
)

// The budgets of answers to unauthenticated requests: those of an IPv4 /24, and of all
// networks.
const (
	networkAnswers, networkAnswersBurst = 20, 100
	allAnswers, allAnswersBurst         = 4000, 8000
)

// TestForgedSources sends requests whose sources are other hosts. The server must not flood
// these with answers.
func TestForgedSources(t *testing.T) {
	t.Parallel()
	startServer(t, "flooded")
	wire := startCapture(t, "flooded")
	for _, row := range []struct {
		name        string
		network     netip.Prefix // of the sources
		source      func(i int) netip.AddrPort
		rate, burst float64
	}{
		{"one network", netip.MustParsePrefix("198.18.0.0/24"), func(i int) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, 0, byte(i)}), uint16(1024+i))
		}, networkAnswers, networkAnswersBurst},
		{"256 networks", netip.MustParsePrefix("198.19.0.0/16"), func(i int) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 19, byte(i), 1}), uint16(1024+i/256))
		}, allAnswers, allAnswersBurst},
		{"ports of services", netip.MustParsePrefix("198.18.128.0/17"), func(i int) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, 128 | byte(i), 1}), uint16(i%1024))
		}, 0, 0},
	} {
		began := time.Now()
		forge(t, "proxy", addrs[floodName][0], row.source)
		answers := lastAnswers(wire, row.network)
		took := time.Since(began)
		t.Logf("%s: %d answers of %d bytes to %d requests in %v", row.name, answers.Packets, answers.Bytes, forgedRequests,
			took.Round(time.Millisecond))
		if most := row.burst + row.rate*took.Seconds(); float64(answers.Packets) > most {
			t.Errorf("%s: got %d answers in %v, want at most %.0f", row.name, answers.Packets, took, most)
		}
		if row.burst > 0 && answers.Packets == 0 {
			t.Errorf("%s: got no answers, want the server to answer some requests", row.name)
		}
	}
	canAllocate(t)
}

// lastAnswers returns the traffic to a network, once there was no more for a second: requests
// can wait in the buffer of the server.
func lastAnswers(wire *netns.Capture, network netip.Prefix) (total netns.Traffic) {
	for quiet := time.Now(); time.Since(quiet) < time.Second; time.Sleep(50 * time.Millisecond) {
		last := total
		total = netns.Traffic{}
		for p, traffic := range wire.Sent() {
			if network.Contains(p.To.Addr()) {
				total.Packets += traffic.Packets
				total.Bytes += traffic.Bytes
			}
		}
		if total != last {
			quiet = time.Now()
		}
	}
	return total
}

// forgedRequests are sent in each part, at forgedRate per second.
const forgedRequests, forgedRate = 30_000, 10_000

// forge sends requests of unauthenticated clients.
func forge(t *testing.T, host, server string, source func(i int) netip.AddrPort) {
	t.Helper()
	var socket int
	err := world.Do(host, func() (err error) {
		socket, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(socket)
	request := stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest),
		stun.RawAttribute{Type: stun.AttrRequestedTransport, Value: []byte{unix.IPPROTO_UDP, 0, 0, 0}}).Raw
	to := netip.AddrPortFrom(netip.MustParseAddr(server), 3478)
	began := time.Now()
	for i := range forgedRequests {
		if wait := time.Duration(i)*time.Second/forgedRate - time.Since(began); wait > time.Millisecond {
			time.Sleep(wait)
		}
		packet := udpPacket(source(i), to, request)
		if err := unix.Sendto(socket, packet, 0, &unix.SockaddrInet4{Addr: to.Addr().As4()}); err != nil {
			t.Fatal(err)
		}
	}
}

// udpPacket returns an IPv4 packet. The kernel sets the identification and the checksum of
// the header; UDP needs none.
func udpPacket(from, to netip.AddrPort, payload []byte) []byte {
	const header = 28
	b := make([]byte, header, header+len(payload))
	b[0], b[8], b[9] = 0x45, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(b[2:], uint16(header+len(payload)))
	copy(b[12:], from.Addr().AsSlice())
	copy(b[16:], to.Addr().AsSlice())
	binary.BigEndian.PutUint16(b[20:], from.Port())
	binary.BigEndian.PutUint16(b[22:], to.Port())
	binary.BigEndian.PutUint16(b[24:], uint16(8+len(payload)))
	return append(b, payload...)
}

// canAllocate checks that the server still serves a client of another network.
func canAllocate(t *testing.T) {
	t.Helper()
	relay, err := world.fetchTURN("proxy", floodName, "after the flood")
	if err != nil {
		t.Fatal(err)
	}
	c := dialTURN(t, "proxy", floodName, relay.Username, relay.Credential)
	defer c.Close()
	if err := c.Allocate(); err != nil {
		t.Error(err)
	}
}
