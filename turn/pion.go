package turn

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/stun/v4"
	pion "github.com/pion/turn/v5"
)

const (
	// reservationLifetime is how long pion keeps the reservation that it makes for each
	// EVEN-PORT, also after the allocation ended. Browsers use none. maxReservations bounds them
	// per transport, 100 bytes each, and the others those of a /24 or /48 and of a client.
	reservationLifetime    = 30 * time.Second
	maxReservations        = 4096
	maxNetworkReservations = 256
	maxClientReservations  = 64
)

var errRefused = errors.New("refused")

// pionServer runs pion/turn as a function from a request to its answer. pion knows one
// PacketConn, on which one request at a time arrives, and calls back only during that
// request. Payload never passes through it. Each transport has its own pionServer, so that
// requests over TLS do not delay the reader of a UDP socket.
//
// pion finds an allocation by its five-tuple. Its destination is not an address but the ID
// of the allocation in our table, so that pion cannot find an earlier one of the client.
type pionServer struct {
	s *Server

	mu       sync.Mutex // held during a request
	requests chan *request
	handled  chan struct{}
	closed   chan struct{}
	once     sync.Once

	// The remaining fields belong to the goroutine of pion.
	current      *request
	reservations []reservation // oldest first
}

func newPionServer(s *Server) (*pionServer, error) {
	p := &pionServer{s: s, requests: make(chan *request), handled: make(chan struct{}), closed: make(chan struct{})}
	_, err := pion.NewServer(pion.ServerConfig{
		Realm:               realmPlaceholder,
		AuthHandler:         p.authenticate,
		EventHandler:        pion.EventHandler{OnAuth: p.authenticated},
		StrictAddressFamily: true,
		PermissionTimeout:   permissionLifetime,
		ChannelBindTimeout:  channelLifetime,
		InboundMTU:          maxMessageBytes + 1,
		LoggerFactory:       logCounter{&s.counters.libraryErrors},
		PacketConnConfigs: []pion.PacketConnConfig{{
			PacketConn: p, RelayAddressGenerator: p, PermissionHandler: p.permit,
		}},
	})
	return p, err
}

// handle sets the response of the request, or leaves it empty if pion has none. The caller
// decides which requests pion sees.
func (p *pionServer) handle(r *request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case p.requests <- r:
		<-p.handled
	case <-p.closed:
	}
}

// ReadFrom returns the next request. pion calls it when the previous one is handled. It
// returns no error before Close: an error would end all allocations.
func (p *pionServer) ReadFrom(b []byte) (int, net.Addr, error) {
	if p.current != nil {
		p.current = nil
		p.handled <- struct{}{}
	}
	select {
	case p.current = <-p.requests:
		return copy(b, p.current.raw), p.current.source(), nil
	case <-p.closed:
		return 0, nil, net.ErrClosed
	}
}

// WriteTo keeps the response of the request.
func (p *pionServer) WriteTo(b []byte, _ net.Addr) (int, error) {
	if p.current != nil {
		p.current.response = append(p.current.response[:0], b...)
	}
	return len(b), nil
}

// LocalAddr returns the destination of the five-tuple of the request.
func (p *pionServer) LocalAddr() net.Addr {
	addr := &net.UDPAddr{IP: make(net.IP, net.IPv6len)}
	if p.current != nil {
		binary.BigEndian.PutUint64(addr.IP, p.current.allocationID)
	}
	return addr
}

func (p *pionServer) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pionServer) SetDeadline(time.Time) error      { return nil }
func (p *pionServer) SetReadDeadline(time.Time) error  { return nil }
func (p *pionServer) SetWriteDeadline(time.Time) error { return nil }

// authenticate returns the key of a user name. Only an Allocate needs credentials that have
// not expired, so that a call does not end with them.
func (p *pionServer) authenticate(a *pion.RequestAttributes) (userID string, key []byte, ok bool) {
	r := p.current
	identity, refused := p.s.identify(a.Username, r.msg.Type.Method)
	if r.msg.Type.Method == stun.MethodAllocate && !p.s.issuer.checkRealm(a.Realm, r.client.addr().Addr()) {
		refused = refusedCredentials
	}
	if refused != notRefused {
		r.refused = refused
		return "", nil, false
	}
	r.identity = identity
	r.key = pion.GenerateAuthKey(a.Username, a.Realm, p.s.issuer.password(a.Username))
	return a.Username, r.key, true
}

// authenticated is called when pion has compared MESSAGE-INTEGRITY with the key.
func (p *pionServer) authenticated(_, _ net.Addr, _, _, _, _ string, matches bool) {
	p.current.authenticated = matches
	if !matches {
		p.current.refused = refusedCredentials
	}
}

// permit is called for each peer of a request. All of them were checked before.
func (p *pionServer) permit(net.Addr, net.IP) bool { return p.current.refused == notRefused }

func (p *pionServer) Validate() error { return nil }

// AllocatePacketConn opens the allocation of the request. Without a user, pion only looks
// for a free even port.
func (p *pionServer) AllocatePacketConn(c pion.AllocateListenerConfig) (net.PacketConn, net.Addr, error) {
	switch {
	case c.UserID == "":
		return p.evenPort()
	case c.Network != "udp4":
		return nil, nil, p.refuse(refusedFamily)
	}
	a, refused := p.s.openAllocation(p.current, uint16(c.RequestedPort))
	if refused != notRefused {
		return nil, nil, p.refuse(refused)
	}
	if r := p.current.reserves; r != nil {
		p.reservations = append(p.reservations, *r)
	}
	return relayConn{p.s, a}, net.UDPAddrFromAddrPort(a.relay), nil
}

// evenPort returns a relay that is not in the table. pion closes it at once, opens an allocation
// with its port, and reserves the next port.
func (p *pionServer) evenPort() (net.PacketConn, net.Addr, error) {
	p.current.reserves = p.newReservation()
	if refused := p.checkReservation(p.current.reserves); refused != notRefused {
		return nil, nil, p.refuse(refused)
	}
	a := &allocation{relay: p.s.relays.addrOf(p.s.relays.freeEvenPort())}
	return relayConn{p.s, a}, net.UDPAddrFromAddrPort(a.relay), nil
}

// reservation is one that pion keeps, by who made it.
type reservation struct {
	client, network netip.Prefix
	at              time.Duration
}

func (p *pionServer) newReservation() *reservation {
	addr := p.current.client.addr().Addr().WithZone("")
	clientBits, networkBits := 32, 24
	if addr.Is6() {
		clientBits, networkBits = 64, 48
	}
	r := &reservation{at: p.s.elapsed()}
	r.client, _ = addr.Prefix(clientBits) // invalid ones share the zero prefix
	r.network, _ = addr.Prefix(networkBits)
	return r
}

// checkReservation reports whether there is room for a further one.
func (p *pionServer) checkReservation(next *reservation) refusal {
	for len(p.reservations) > 0 && next.at-p.reservations[0].at > reservationLifetime {
		p.reservations = p.reservations[1:]
	}
	client, network := 0, 0
	for i := range p.reservations {
		if p.reservations[i].client == next.client {
			client++
		}
		if p.reservations[i].network == next.network {
			network++
		}
	}
	switch {
	case client >= maxClientReservations || network >= maxNetworkReservations:
		return refusedShare
	case len(p.reservations) >= maxReservations:
		return refusedFull
	}
	return notRefused
}

// AllocateListener refuses relays over TCP (RFC 6062), which reach other hosts.
func (p *pionServer) AllocateListener(pion.AllocateListenerConfig) (net.Listener, net.Addr, error) {
	return nil, nil, p.refuse(refusedTransport)
}

// AllocateConn refuses connections of relays over TCP.
func (p *pionServer) AllocateConn(pion.AllocateConnConfig) (net.Conn, error) {
	return nil, p.refuse(refusedTransport)
}

func (p *pionServer) refuse(reason refusal) error {
	p.current.refused = reason
	return errRefused
}

// relayConn is what pion has instead of the socket of a relay. Nothing arrives on it: an
// error ends the allocation in pion, and pion closes it when the allocation ended there.
type relayConn struct {
	s *Server
	a *allocation
}

func (c relayConn) ReadFrom([]byte) (int, net.Addr, error) {
	<-c.a.ended
	return 0, nil, net.ErrClosed
}

func (c relayConn) WriteTo(b []byte, _ net.Addr) (int, error) { return len(b), nil }
func (c relayConn) LocalAddr() net.Addr                       { return net.UDPAddrFromAddrPort(c.a.relay) }
func (c relayConn) SetDeadline(time.Time) error               { return nil }
func (c relayConn) SetReadDeadline(time.Time) error           { return nil }
func (c relayConn) SetWriteDeadline(time.Time) error          { return nil }

// Close closes the allocation. pion can hold its locks.
func (c relayConn) Close() error {
	c.s.closeAllocation(c.a)
	return nil
}
