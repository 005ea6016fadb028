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
	const perSecond, duration = 10_000, 3 * time.Second
	for _, row := range []struct {
		name        string
		source      func(i int) netip.AddrPort
		rate, burst float64
	}{
		{"one network", func(i int) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, 0, byte(i)}), uint16(1024+i))
		}, networkAnswers, networkAnswersBurst},
		{"512 networks", func(i int) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18 + byte(i/256%2), byte(i), 1}), uint16(1024+i/512))
		}, allAnswers, allAnswersBurst},
		{"ports of services", func(i int) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 19, byte(i), 1}), uint16(i%1024))
		}, 0, 0},
	} {
		wire := startCapture(t, "flooded")
		began := time.Now()
		forge(t, "proxy", addrs[floodName][0], perSecond, duration, row.source)
		took := time.Since(began)
		answers := forgedAnswers(wire)
		t.Logf("%s: %d answers of %d bytes to %d requests in %v", row.name, answers.Packets, answers.Bytes,
			int(perSecond*duration.Seconds()), took.Round(time.Millisecond))
		if most := row.burst + row.rate*(took.Seconds()+1); float64(answers.Packets) > most {
			t.Errorf("%s: got %d answers in %v, want at most %.0f", row.name, answers.Packets, took, most)
		}
		if row.burst > 0 && answers.Packets == 0 {
			t.Errorf("%s: got no answers, want the server to answer some requests", row.name)
		}
	}
	canAllocate(t)
}

// forgedAnswers returns the traffic to the forged sources.
func forgedAnswers(wire *netns.Capture) (total netns.Traffic) {
	for p, traffic := range wire.Sent() {
		if netip.MustParsePrefix(forgedNetworks).Contains(p.To.Addr()) {
			total.Packets += traffic.Packets
			total.Bytes += traffic.Bytes
		}
	}
	return total
}

// forge sends requests of an unauthenticated client from sources that it chooses.
func forge(t *testing.T, host, server string, perSecond int, d time.Duration, source func(i int) netip.AddrPort) {
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
	for i := range int(float64(perSecond) * d.Seconds()) {
		if wait := time.Duration(i)*time.Second/time.Duration(perSecond) - time.Since(began); wait > time.Millisecond {
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
