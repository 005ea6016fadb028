// Package turnclient is a small TURN client (RFC 8656) for tests. It sends what the test
// asks for, also what no correct client sends, and does nothing on its own: it neither
// refreshes allocations nor answers the server.
package turnclient

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/pion/stun/v4"
)

const (
	// Timeout bounds a request, also on a busy machine.
	Timeout = 20 * time.Second
	// retransmission is the interval of the repetitions of a request over UDP.
	retransmission = 500 * time.Millisecond

	stunHeaderBytes    = 20
	channelHeaderBytes = 4
	maxMessageBytes    = 64 << 10
)

// Error is the code of an error response, such as 403.
type Error struct{ Code int }

func (e *Error) Error() string { return fmt.Sprintf("the server answered with error %d", e.Code) }

// CodeOf returns the code of an error response: 0 if err is nil, and -1 for other errors.
func CodeOf(err error) int {
	var response *Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &response):
		return response.Code
	}
	return -1
}

// Client is one client. One goroutine at a time can receive or make requests, and another
// one can send.
type Client struct {
	// Relay is the address of the relay, after Allocate.
	Relay netip.AddrPort

	conn               net.Conn
	isStream           bool
	username, password string
	realm              stun.Realm
	nonce              stun.Nonce
	in                 []byte // the last message
	out                []byte // the last ChannelData sent
}

// New returns a client on a connection: a connected UDP socket, or a stream, such as TLS.
func New(conn net.Conn, username, password string) *Client {
	_, isDatagram := conn.(net.PacketConn)
	return &Client{conn: conn, isStream: !isDatagram, username: username, password: password, in: make([]byte, 2048)}
}

// Release ends the allocation and closes the connection.
func (c *Client) Release() error { return errors.Join(c.Refresh(0), c.Close()) }

// Close closes the connection. Over UDP, the server does not notice.
func (c *Client) Close() error { return c.conn.Close() }

// Conn returns the connection.
func (c *Client) Conn() net.Conn { return c.conn }

// Allocate opens an allocation with a relay for UDP.
func (c *Client) Allocate(attributes ...stun.Setter) error {
	const udp = 17
	transport := stun.RawAttribute{Type: stun.AttrRequestedTransport, Value: []byte{udp, 0, 0, 0}}
	response, err := c.Request(stun.MethodAllocate, append([]stun.Setter{transport}, attributes...)...)
	if err != nil {
		return fmt.Errorf("allocate: %w", err)
	}
	var relay stun.XORMappedAddress
	if err := relay.GetFromAs(response, stun.AttrXORRelayedAddress); err != nil {
		return fmt.Errorf("allocate: read the address of the relay: %w", err)
	}
	addr, _ := netip.AddrFromSlice(relay.IP)
	c.Relay = netip.AddrPortFrom(addr.Unmap(), uint16(relay.Port))
	return nil
}

// Refresh sets the lifetime of the allocation.
func (c *Client) Refresh(lifetime time.Duration) error {
	_, err := c.Request(stun.MethodRefresh, stun.RawAttribute{
		Type: stun.AttrLifetime, Value: binary.BigEndian.AppendUint32(nil, uint32(lifetime/time.Second)),
	})
	return err
}

// Permit creates permissions.
func (c *Client) Permit(peers ...netip.AddrPort) error {
	var attributes []stun.Setter
	for _, p := range peers {
		attributes = append(attributes, Peer(p))
	}
	_, err := c.Request(stun.MethodCreatePermission, attributes...)
	return err
}

// Bind binds a channel to a peer.
func (c *Client) Bind(channel uint16, peer netip.AddrPort) error {
	_, err := c.Request(stun.MethodChannelBind, Channel(channel), Peer(peer))
	return err
}

// Channel is the attribute CHANNEL-NUMBER.
func Channel(number uint16) stun.Setter {
	return stun.RawAttribute{Type: stun.AttrChannelNumber, Value: []byte{byte(number >> 8), byte(number), 0, 0}}
}

// Peer is the attribute XOR-PEER-ADDRESS. An IPv4 address that is mapped to IPv6 stays so.
func Peer(peer netip.AddrPort) stun.Setter { return peerAddress(peer) }

type peerAddress netip.AddrPort

func (p peerAddress) AddTo(m *stun.Message) error {
	const cookie, familyIPv4, familyIPv6 = 0x2112A442, 1, 2
	peer := netip.AddrPort(p)
	family := byte(familyIPv6)
	if peer.Addr().Is4() {
		family = familyIPv4
	}
	value := binary.BigEndian.AppendUint16([]byte{0, family}, peer.Port()^cookie>>16)
	mask := append(binary.BigEndian.AppendUint32(nil, cookie), m.TransactionID[:]...)
	for i, b := range peer.Addr().AsSlice() {
		value = append(value, b^mask[i])
	}
	m.Add(stun.AttrXORPeerAddress, value)
	return nil
}

// Request makes a request with the credentials, and a second time if the server has sent a
// new nonce. It returns an [Error] if the server refuses it.
func (c *Client) Request(method stun.Method, attributes ...stun.Setter) (*stun.Message, error) {
	for attempt := 0; ; attempt++ {
		response, err := c.roundTrip(method, attributes)
		if err != nil || response.Type.Class == stun.ClassSuccessResponse {
			return response, err
		}
		var code stun.ErrorCodeAttribute
		if err := code.GetFrom(response); err != nil {
			return nil, err
		}
		isNew := c.readNonce(response)
		if attempt > 0 || !isNew || code.Code != stun.CodeUnauthorized && code.Code != stun.CodeStaleNonce {
			return nil, &Error{int(code.Code)}
		}
	}
}

// readNonce keeps realm and nonce of a response, and reports whether it has any.
func (c *Client) readNonce(m *stun.Message) bool {
	return c.realm.GetFrom(m) == nil && c.nonce.GetFrom(m) == nil
}

// Build returns a request with the credentials, if the server has sent a nonce.
func (c *Client) Build(method stun.Method, attributes ...stun.Setter) (*stun.Message, error) {
	setters := append([]stun.Setter{stun.TransactionID, stun.NewType(method, stun.ClassRequest)}, attributes...)
	if len(c.nonce) > 0 {
		setters = append(setters, stun.NewUsername(c.username), c.realm, c.nonce,
			stun.NewLongTermIntegrity(c.username, c.realm.String(), c.password))
	}
	return stun.Build(setters...)
}

func (c *Client) roundTrip(method stun.Method, attributes []stun.Setter) (*stun.Message, error) {
	m, err := c.Build(method, attributes...)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(Timeout); ; {
		if _, err := c.conn.Write(m.Raw); err != nil {
			return nil, err
		}
		response, err := c.response(m.TransactionID, deadline)
		if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() && time.Now().Before(deadline) {
			continue
		}
		return response, err
	}
}

// response waits for the response to a transaction: over UDP until the next retransmission.
func (c *Client) response(transaction [stun.TransactionIDSize]byte, deadline time.Time) (*stun.Message, error) {
	until := deadline
	if !c.isStream {
		until = time.Now().Add(retransmission)
	}
	if err := c.conn.SetReadDeadline(until); err != nil {
		return nil, err
	}
	defer c.conn.SetReadDeadline(time.Time{})
	for {
		raw, err := c.ReadMessage()
		if err != nil {
			return nil, err
		}
		response := &stun.Message{Raw: append([]byte(nil), raw...)}
		if stun.IsMessage(raw) && response.Decode() == nil && response.TransactionID == transaction {
			return response, nil
		}
	}
}

// ReadMessage returns the next message, which is valid until the next call.
func (c *Client) ReadMessage() ([]byte, error) {
	if !c.isStream {
		n, err := c.conn.Read(c.in)
		return c.in[:n], err
	}
	if _, err := io.ReadFull(c.conn, c.in[:channelHeaderBytes]); err != nil {
		return nil, err
	}
	size := channelHeaderBytes + int(binary.BigEndian.Uint16(c.in[2:]))
	if c.in[0] < 0x40 {
		size += stunHeaderBytes - channelHeaderBytes
	}
	padded := (size + 3) &^ 3
	if padded > len(c.in) {
		if padded > maxMessageBytes {
			return nil, fmt.Errorf("got a message of %d bytes, want at most %d", padded, maxMessageBytes)
		}
		c.in = append(make([]byte, 0, padded), c.in...)[:padded]
	}
	_, err := io.ReadFull(c.conn, c.in[channelHeaderBytes:padded])
	return c.in[:size], err
}

// Send sends ChannelData.
func (c *Client) Send(channel uint16, payload []byte) error {
	c.out = binary.BigEndian.AppendUint16(c.out[:0], channel)
	c.out = binary.BigEndian.AppendUint16(c.out, uint16(len(payload)))
	c.out = append(c.out, payload...)
	for c.isStream && len(c.out)%4 > 0 {
		c.out = append(c.out, 0)
	}
	_, err := c.conn.Write(c.out)
	return err
}

// Receive returns the channel and the payload of the next ChannelData, which are valid until
// the next call.
func (c *Client) Receive() (channel uint16, payload []byte, err error) {
	for {
		m, err := c.ReadMessage()
		if err != nil {
			return 0, nil, err
		}
		if len(m) < channelHeaderBytes || m[0]&0xC0 != 0x40 {
			continue
		}
		end := channelHeaderBytes + int(binary.BigEndian.Uint16(m[2:]))
		return binary.BigEndian.Uint16(m), m[channelHeaderBytes:min(end, len(m))], nil
	}
}
