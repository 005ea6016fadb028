package turn

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/pion/stun/v4"
)

const (
	stunHeaderBytes    = 20
	channelHeaderBytes = 4
	attrHeaderBytes    = 4
	xorAddrBytes       = 8 // XOR-PEER-ADDRESS of an IPv4 address
	// dataHeaderBytes is what precedes the payload in a Data indication. In a Send indication
	// at least as much does.
	dataHeaderBytes = stunHeaderBytes + attrHeaderBytes + xorAddrBytes + attrHeaderBytes

	// headroomBytes is what a buffer has in front of a message, so that a Data indication fits
	// around the payload of any message, ChannelData included, without a copy.
	headroomBytes = dataHeaderBytes - channelHeaderBytes
	// tailroomBytes is what it has after a message: room for the padding.
	tailroomBytes = 3

	// maxMessageBytes bounds a message from a client. WebRTC sends packets that fit into
	// 1,500 bytes with all headers.
	maxMessageBytes = 1600

	magicCookie       = 0x2112A442
	familyIPv4        = 1
	messageTypeSend   = 0x0016
	messageTypeData   = 0x0017
	classBits         = 0x0110 // zero in a request
	classSuccess      = 0x0100
	channelNumberBits = 0x4000 // the first two bits are 01 in ChannelData, 00 in STUN
	kindBits          = 0xC000
)

// message is one message of a client, at buf[start:end]. The bytes around it, headroomBytes
// before and tailroomBytes after, can be overwritten.
type message struct {
	buf        []byte
	start, end int
}

func (m message) bytes() []byte { return m.buf[m.start:m.end] }

// kind tells apart what a client can send.
type kind int

const (
	kindUnknown kind = iota
	kindChannelData
	kindSend
	kindRequest
	kindIgnored // responses, and indications such as the keepalives of ICE
)

// kind looks at the first bytes. The lengths in ChannelData and attributes are checked when
// the message is used.
func (m message) kind() kind {
	b := m.bytes()
	if len(b) < channelHeaderBytes {
		return kindUnknown
	}
	messageType := binary.BigEndian.Uint16(b)
	switch {
	case messageType&kindBits == channelNumberBits:
		return kindChannelData
	case messageType&kindBits != 0, len(b) < stunHeaderBytes, binary.BigEndian.Uint32(b[4:]) != magicCookie,
		len(b) < stunHeaderBytes+int(binary.BigEndian.Uint16(b[2:])):
		return kindUnknown
	case messageType == messageTypeSend:
		return kindSend
	case messageType&classBits == 0:
		return kindRequest
	}
	return kindIgnored
}

// datagram is the payload of a message, at buf[start:end], and the relay it is sent to.
type datagram struct {
	peer       netip.AddrPort
	buf        []byte
	start, end int
}

// outgoing is a packet between the clients of two allocations.
type outgoing struct {
	from, to     *allocation
	packet       []byte
	payloadBytes int
	at           time.Duration // of elapsed
	sent         bool
}

// relay forwards ChannelData or a Send indication of a client to the client of another
// relay. It allocates no memory. The sender is nil if the client has no allocation.
func (s *Server) relay(from *allocation, m message) dropReason {
	p, reason := s.route(from, m)
	if reason != notDropped {
		return reason
	}
	return s.sent(p, p.to.client.relay(p.packet))
}

// route returns the packet that relay sends. The quota is charged for it.
func (s *Server) route(from *allocation, m message) (outgoing, dropReason) {
	if from == nil {
		return outgoing{}, dropNoAllocation
	}
	now := s.elapsed()
	var d datagram
	reason := notDropped
	if m.kind() == kindChannelData {
		d, reason = m.channelData(from.peers.Load(), now)
	} else {
		d, reason = m.sendIndication()
	}
	if reason != notDropped {
		return outgoing{}, reason
	}
	return s.forward(from, d, now)
}

// forward addresses the datagram to the client of the relay d.peer, as ChannelData if that
// client has a channel bound to the sender's relay, and as a Data indication otherwise. Both
// clients need a permission for the relay of the other.
func (s *Server) forward(from *allocation, d datagram, now time.Duration) (p outgoing, reason dropReason) {
	if !from.peers.Load().permit(d.peer.Addr(), now) {
		return p, dropNoPermission
	}
	to := s.relays.get(d.peer)
	if to == nil {
		return p, dropNoRelay
	}
	peers := to.peers.Load()
	if !peers.permit(from.relay.Addr(), now) {
		return p, dropPeerPermission
	}
	if !from.flow.Allow(d.end - d.start) {
		return p, dropQuota
	}
	p = outgoing{from: from, to: to, payloadBytes: d.end - d.start, at: now}
	if number, bound := peers.channelOf(from.relay, now); bound {
		p.packet = d.asChannelData(number)
	} else {
		p.packet = d.asDataIndication(from.relay)
	}
	return p, notDropped
}

// sent counts a packet of route that was sent, or refunds it if it was dropped, and returns the
// reason.
func (s *Server) sent(p outgoing, reason dropReason) dropReason {
	if reason != notDropped {
		p.from.flow.Refund(p.payloadBytes)
		return reason
	}
	p.from.relayedAt.Store(int64(p.at))
	p.to.relayedAt.Store(int64(p.at))
	s.counters.relayed(p.to.client.transport(), p.payloadBytes)
	return notDropped
}

// channelData returns the datagram of a ChannelData message (RFC 8656, section 12.6).
func (m message) channelData(peers *peers, now time.Duration) (datagram, dropReason) {
	b := m.bytes()
	start := m.start + channelHeaderBytes
	end := start + int(binary.BigEndian.Uint16(b[2:]))
	if end > m.end {
		return datagram{}, dropMalformed
	}
	peer, bound := peers.peerOf(binary.BigEndian.Uint16(b), now)
	if !bound {
		return datagram{}, dropNoChannel
	}
	return datagram{peer, m.buf, start, end}, notDropped
}

// sendIndication returns the datagram of a Send indication (RFC 8656, section 11.2). Other
// attributes than XOR-PEER-ADDRESS and DATA are ignored.
func (m message) sendIndication() (d datagram, reason dropReason) {
	at := m.start + stunHeaderBytes
	end := at + int(binary.BigEndian.Uint16(m.buf[m.start+2:]))
	for at+attrHeaderBytes <= end {
		attr := stun.AttrType(binary.BigEndian.Uint16(m.buf[at:]))
		start := at + attrHeaderBytes
		valueEnd := start + int(binary.BigEndian.Uint16(m.buf[at+2:]))
		if at = padded(valueEnd-start) + start; at > end {
			return datagram{}, dropMalformed
		}
		switch attr {
		case stun.AttrXORPeerAddress:
			d.peer = parseXORAddress(m.buf[start:valueEnd])
		case stun.AttrData:
			d.buf, d.start, d.end = m.buf, start, valueEnd
		}
	}
	if d.buf == nil || !d.peer.IsValid() {
		return datagram{}, dropMalformed
	}
	return d, notDropped
}

// parseXORAddress returns the zero address for what is not IPv4: no relay has one.
func parseXORAddress(b []byte) netip.AddrPort {
	if len(b) != xorAddrBytes || b[1] != familyIPv4 {
		return netip.AddrPort{}
	}
	port := binary.BigEndian.Uint16(b[2:]) ^ magicCookie>>16
	var addr [4]byte
	binary.BigEndian.PutUint32(addr[:], binary.BigEndian.Uint32(b[4:])^magicCookie)
	return netip.AddrPortFrom(netip.AddrFrom4(addr), port)
}

func putXORAddress(b []byte, addr netip.AddrPort) {
	ip := addr.Addr().As4()
	b[0], b[1] = 0, familyIPv4
	binary.BigEndian.PutUint16(b[2:], addr.Port()^magicCookie>>16)
	binary.BigEndian.PutUint32(b[4:], binary.BigEndian.Uint32(ip[:])^magicCookie)
}

// asChannelData writes a header in front of the payload. It is padded, as streams require.
func (d datagram) asChannelData(number uint16) []byte {
	b := d.buf[d.start-channelHeaderBytes : d.pad()]
	binary.BigEndian.PutUint16(b, number)
	binary.BigEndian.PutUint16(b[2:], uint16(d.end-d.start))
	return b
}

// asDataIndication writes a Data indication around the payload (RFC 8656, section 11.5).
func (d datagram) asDataIndication(from netip.AddrPort) []byte {
	packet := d.buf[d.start-dataHeaderBytes : d.pad()]
	binary.BigEndian.PutUint16(packet, messageTypeData)
	binary.BigEndian.PutUint16(packet[2:], uint16(len(packet)-stunHeaderBytes))
	binary.BigEndian.PutUint32(packet[4:], magicCookie)
	binary.BigEndian.PutUint64(packet[8:], rand.Uint64())
	binary.BigEndian.PutUint32(packet[16:], rand.Uint32())
	b := packet[stunHeaderBytes:]
	binary.BigEndian.PutUint16(b, uint16(stun.AttrXORPeerAddress))
	binary.BigEndian.PutUint16(b[2:], xorAddrBytes)
	putXORAddress(b[attrHeaderBytes:], from)
	b = b[attrHeaderBytes+xorAddrBytes:]
	binary.BigEndian.PutUint16(b, uint16(stun.AttrData))
	binary.BigEndian.PutUint16(b[2:], uint16(d.end-d.start))
	return packet
}

// pad clears the padding after the payload and returns where it ends.
func (d datagram) pad() int {
	end := d.start + padded(d.end-d.start)
	clear(d.buf[d.end:end])
	return end
}

// padded rounds up to the multiple of four that attributes and ChannelData are padded to.
func padded(n int) int { return (n + 3) &^ 3 }
