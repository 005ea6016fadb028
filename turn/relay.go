package turn

import (
	"encoding/binary"
	"hash/maphash"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"inbox/turn/internal/quota"
)

const (
	maxPeers    = 32
	maxChannels = 16

	permissionLifetime = 5 * time.Minute
	channelLifetime    = 10 * time.Minute
	// maxIdle is how long an allocation exists without relayed data. Refresh does not count.
	maxIdle = 10 * time.Minute

	firstRelayPort = 1024
	// maxRelays leaves half of the ports free, so that a random one is found soon.
	maxRelays = (1<<16 - firstRelayPort) / 2

	// A client sends about 20 requests at the start of a call and then one a minute.
	requestsPerSecond = 20
	requestBurst      = 100
)

// allocation is a relay and the client it belongs to (RFC 8656, section 2.2). The table of
// these is what decides whether data is relayed; pion has a copy for the requests that it
// answers. Fields without a comment do not change.
type allocation struct {
	id       uint64
	relay    netip.AddrPort
	client   client
	owner    ownerHash
	flow     *quota.Flow
	opened   time.Duration
	username string // of the client
	requests *rate.Limiter
	// strangers bounds the requests from the address of the client that its user did not sign.
	strangers *rate.Limiter

	peers     atomic.Pointer[peers] // replaced by requests of the client, one at a time
	relayedAt atomic.Int64          // a time.Duration
	ended     chan struct{}         // closed by closeAllocation, so that pion forgets it
}

// expired reports whether the allocation is idle or has reached its maximum life.
func (a *allocation) expired(now time.Duration) bool {
	return now-time.Duration(a.relayedAt.Load()) >= maxIdle || now-a.opened >= MaxAllocationLifetime
}

// openAllocation opens the allocation that a request asks for. A zero port is a random one.
func (s *Server) openAllocation(r *request, port uint16) (*allocation, refusal) {
	client := r.client.addr().Addr()
	if !s.config.Allocations.Reserve(client, 1) {
		return nil, refusedShare
	}
	now := s.elapsed()
	a := &allocation{
		id: r.allocationID, client: r.client, owner: r.identity.owner, opened: now,
		username: r.identity.username(), ended: make(chan struct{}),
		requests: rate.NewLimiter(requestsPerSecond, requestBurst), strangers: rate.NewLimiter(requestsPerSecond, requestBurst),
	}
	a.peers.Store(&peers{})
	a.relayedAt.Store(int64(now))
	var err error
	end := func() { s.closeAllocation(a) }
	if a.flow, err = s.quota.Open(client, r.identity.payer, end); err != nil {
		s.config.Allocations.Release(client, 1)
		return nil, refusedMonth
	}
	if !s.relays.add(a, port) {
		a.flow.Close()
		s.config.Allocations.Release(client, 1)
		return nil, refusedFull
	}
	a.client.attach(a)
	s.counters.allocated(a.client.transport())
	if s.revoked.includes(r.identity) { // Revoke did not see the allocation
		s.closeAllocation(a)
		return nil, refusedExpired
	}
	return a, notRefused
}

// closeAllocation removes an allocation, from pion's table soon after it returned. A second
// call has no effect. pion calls it with a lock held, so it must not wait for pion.
func (s *Server) closeAllocation(a *allocation) {
	if !s.relays.remove(a) {
		return
	}
	close(a.ended)
	a.client.detach(a)
	a.flow.Close()
	s.config.Allocations.Release(a.client.addr().Addr(), 1)
	s.counters.closed(a.client.transport())
}

// peers are the permissions and channels of an allocation. A value does not change. All
// times are those at which an entry expires.
type peers struct {
	permissions []permission
	channels    []channel
}

type permission struct {
	addr  netip.Addr
	until time.Duration
}

type channel struct {
	number uint16
	peer   netip.AddrPort
	until  time.Duration
}

// permit reports whether data can be exchanged with the peers of an address.
func (p *peers) permit(addr netip.Addr, now time.Duration) bool {
	for i := range p.permissions {
		if p.permissions[i].addr == addr {
			return now < p.permissions[i].until
		}
	}
	return false
}

// peerOf returns the peer that a channel is bound to.
func (p *peers) peerOf(number uint16, now time.Duration) (netip.AddrPort, bool) {
	for i := range p.channels {
		if c := &p.channels[i]; c.number == number {
			return c.peer, now < c.until
		}
	}
	return netip.AddrPort{}, false
}

// channelOf returns the channel that is bound to a peer.
func (p *peers) channelOf(peer netip.AddrPort, now time.Duration) (number uint16, bound bool) {
	for i := range p.channels {
		if c := &p.channels[i]; c.peer == peer {
			return c.number, now < c.until
		}
	}
	return 0, false
}

// withPermissions returns the peers with new or refreshed permissions, without expired ones.
func (p *peers) withPermissions(addrs []netip.AddrPort, now time.Duration) *peers {
	next := &peers{permissions: make([]permission, 0, len(p.permissions)+len(addrs)), channels: p.channels}
	for _, old := range p.permissions {
		if now < old.until && !containsAddr(addrs, old.addr) {
			next.permissions = append(next.permissions, old)
		}
	}
	for i, peer := range addrs {
		if !containsAddr(addrs[:i], peer.Addr()) {
			next.permissions = append(next.permissions, permission{peer.Addr(), now + permissionLifetime})
		}
	}
	return next
}

func containsAddr(peers []netip.AddrPort, addr netip.Addr) bool {
	return slices.ContainsFunc(peers, func(p netip.AddrPort) bool { return p.Addr() == addr })
}

// withChannel returns the peers with a new or refreshed channel, and the permission that
// belongs to it.
func (p *peers) withChannel(number uint16, peer netip.AddrPort, now time.Duration) *peers {
	next := p.withPermissions([]netip.AddrPort{peer}, now)
	next.channels = make([]channel, 0, len(p.channels)+1)
	for _, old := range p.channels {
		if now < old.until && old.number != number && old.peer != peer {
			next.channels = append(next.channels, old)
		}
	}
	next.channels = append(next.channels, channel{number, peer, now + channelLifetime})
	return next
}

// relays are all allocations by their relay. No socket belongs to a relay: its address exists
// only in requests and answers, and in this table. The relays are spread over the addresses
// of a prefix because a permission holds for all ports of an address (RFC 8656, section 9):
// with one address for all, each client would permit all others.
type relays struct {
	prefix netip.Prefix
	seed   maphash.Seed

	mu     sync.RWMutex
	byPort map[uint16]*allocation
}

func newRelays(prefix netip.Prefix) *relays {
	return &relays{prefix: prefix.Masked(), seed: maphash.MakeSeed(), byPort: make(map[uint16]*allocation)}
}

// addrOf returns the relay address with a port. A pair of an even and the next odd port,
// which EVEN-PORT reserves, has the same address.
func (r *relays) addrOf(port uint16) netip.AddrPort {
	network := r.prefix.Addr().As4()
	host, hosts := uint64(0), uint64(1)<<(32-r.prefix.Bits())
	if hosts > 2 { // the first and the last one are those of the network and of broadcasts
		host = 1 + maphash.Comparable(r.seed, port>>1)%(hosts-2)
	}
	binary.BigEndian.PutUint32(network[:], binary.BigEndian.Uint32(network[:])+uint32(host))
	return netip.AddrPortFrom(netip.AddrFrom4(network), port)
}

// get returns the allocation of a relay, or nil.
func (r *relays) get(relay netip.AddrPort) *allocation {
	r.mu.RLock()
	a := r.byPort[relay.Port()]
	r.mu.RUnlock()
	if a == nil || a.relay != relay {
		return nil
	}
	return a
}

// add gives the allocation a relay: with this port, or with a random one if it is zero.
func (r *relays) add(a *allocation, port uint16) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if port == 0 {
		port = r.freePortLocked(^uint16(0))
	}
	if r.byPort[port] != nil || port < firstRelayPort || len(r.byPort) >= maxRelays {
		return false
	}
	a.relay = r.addrOf(port)
	r.byPort[port] = a
	return true
}

// freeEvenPort returns a random port. It can be in use if the table is full.
func (r *relays) freeEvenPort() uint16 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.freePortLocked(^uint16(1))
}

func (r *relays) freePortLocked(mask uint16) uint16 {
	for {
		port := uint16(firstRelayPort+rand.N(1<<16-firstRelayPort)) & mask
		if r.byPort[port] == nil || len(r.byPort) >= maxRelays {
			return port
		}
	}
}

// remove reports whether the allocation was in the table.
func (r *relays) remove(a *allocation) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byPort[a.relay.Port()] != a {
		return false
	}
	delete(r.byPort, a.relay.Port())
	return true
}

// all returns the allocations that meet a condition.
func (r *relays) all(condition func(*allocation) bool) (found []*allocation) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, a := range r.byPort {
		if condition(a) {
			found = append(found, a)
		}
	}
	return found
}
