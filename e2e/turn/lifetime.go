package turn

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/stun/v4"
)

// lifetimeProxy is a UDP proxy in front of the server that shortens the lifetimes in its
// responses, so that clients refresh their allocations within seconds. The server itself is
// unmodified. The proxy knows the credentials, and signs what it changes.
type lifetimeProxy struct {
	site     *site
	host     string // of the proxy
	server   string // address of the server
	lifetime time.Duration
	credentials
	front *net.UDPConn

	mu        sync.Mutex
	upstream  map[netip.AddrPort]net.Conn
	realms    map[netip.AddrPort]string    // that the server has sent to each client
	refreshed map[netip.AddrPort]time.Time // the last success of each client
}

// startLifetimeProxy serves port 3478 of a host.
func (s *site) startLifetimeProxy(host, server string, lifetime time.Duration, c credentials) (*lifetimeProxy, error) {
	p := &lifetimeProxy{
		site: s, host: host, server: server, lifetime: lifetime, credentials: c,
		upstream: map[netip.AddrPort]net.Conn{}, realms: map[netip.AddrPort]string{}, refreshed: map[netip.AddrPort]time.Time{},
	}
	err := s.Do(host, func() (err error) {
		p.front, err = net.ListenUDP("udp4", &net.UDPAddr{Port: 3478})
		return err
	})
	if err != nil {
		return nil, err
	}
	go p.forwardRequests()
	return p, nil
}

func (p *lifetimeProxy) close() {
	p.front.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.upstream {
		c.Close()
	}
}

func (p *lifetimeProxy) forwardRequests() {
	buf := make([]byte, 2048)
	for {
		n, client, err := p.front.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		if c := p.upstreamOf(client); c != nil {
			_, _ = c.Write(buf[:n]) // a datagram can get lost
		}
	}
}

// upstreamOf returns the socket to the server of a client, or nil if the proxy is closed.
func (p *lifetimeProxy) upstreamOf(client netip.AddrPort) net.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.upstream[client]; c != nil {
		return c
	}
	var c net.Conn
	err := p.site.Do(p.host, func() (err error) {
		c, err = net.Dial("udp4", net.JoinHostPort(p.server, "3478"))
		return err
	})
	if err != nil {
		return nil
	}
	p.upstream[client] = c
	go p.forwardResponses(c, client)
	return c
}

func (p *lifetimeProxy) forwardResponses(c net.Conn, client netip.AddrPort) {
	buf := make([]byte, 2048)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		_, _ = p.front.WriteToUDPAddrPort(p.shorten(buf[:n], client), client)
	}
}

// shorten returns a response with a shorter lifetime, and records refreshes.
func (p *lifetimeProxy) shorten(raw []byte, client netip.AddrPort) []byte {
	m := &stun.Message{Raw: raw}
	if !stun.IsMessage(raw) || m.Decode() != nil {
		return raw
	}
	realm := p.realmOf(client, m)
	if m.Type.Class != stun.ClassSuccessResponse || !m.Contains(stun.AttrLifetime) {
		return raw
	}
	if m.Type.Method == stun.MethodRefresh {
		p.recordRefresh(m, client)
	}
	setters := []stun.Setter{m.Type, stun.NewTransactionIDSetter(m.TransactionID)}
	for _, a := range m.Attributes {
		switch a.Type {
		case stun.AttrLifetime:
			value := min(binary.BigEndian.Uint32(a.Value), uint32(p.lifetime/time.Second))
			setters = append(setters, stun.RawAttribute{Type: a.Type, Value: binary.BigEndian.AppendUint32(nil, value)})
		case stun.AttrMessageIntegrity:
			setters = append(setters, stun.NewLongTermIntegrity(p.Username, realm, p.Password))
		case stun.AttrFingerprint:
			setters = append(setters, stun.Fingerprint)
		default:
			setters = append(setters, a)
		}
	}
	short, err := stun.Build(setters...)
	if err != nil {
		return raw
	}
	return short.Raw
}

// realmOf returns the realm of a client, which is in the answer to its first request.
func (p *lifetimeProxy) realmOf(client netip.AddrPort, m *stun.Message) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var realm stun.Realm
	if realm.GetFrom(m) == nil {
		p.realms[client] = realm.String()
	}
	return p.realms[client]
}

// recordRefresh ignores a lifetime of zero, which ends the allocation.
func (p *lifetimeProxy) recordRefresh(m *stun.Message, client netip.AddrPort) {
	value, err := m.Get(stun.AttrLifetime)
	if err != nil || len(value) < 4 || binary.BigEndian.Uint32(value) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refreshed[client] = time.Now()
}

// refreshedSince returns the hosts of the clients that the server has refreshed since then.
func (p *lifetimeProxy) refreshedSince(then time.Time) map[netip.Addr]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	hosts := map[netip.Addr]bool{}
	for client, at := range p.refreshed {
		if at.After(then) {
			hosts[client.Addr()] = true
		}
	}
	return hosts
}
