// Package turn is a server of STUN and TURN (RFC 8489, RFC 8656) with a closed relay: the
// relays are entries of a table, not sockets, and reach only other relays of the same
// server. Two clients that both use the server can thus exchange data over UDP and TLS, in
// any combination of networks, while nothing else can be reached through it. It cannot relay
// to a peer that has no relay here.
//
// [Server.ServeUDP] serves a UDP socket, and [Server.ServeConn] a TLS connection that the
// caller accepted. Clients need the [Credentials] of an [Issuer] for a relay, and none for
// STUN. The package limits what a client can use, except the number of its connections.
package turn

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"inbox/turn/internal/quota"
)

// sweepInterval is how often allocations are checked for their maximum life.
const sweepInterval = 15 * time.Second

// Share divides the number of allocations among client addresses. Its methods can be called
// concurrently.
type Share interface {
	// Reserve reports whether the client can have n more allocations, and counts them if so.
	Reserve(client netip.Addr, n int64) bool
	// Release is called once for each successful Reserve.
	Release(client netip.Addr, n int64)
}

// Config configures a [Server].
type Config struct {
	// Secret is the key of the credentials, as for [NewIssuer].
	Secret []byte
	// RateBits bounds the relayed data of the whole server in bits per second, MonthBytes what
	// is sent in a calendar month (UTC). Both count the payload and 48 bytes for the headers of
	// each packet. Zero is no limit.
	RateBits, MonthBytes int64
	// Ledger is what [Server.Ledger] returned before a restart. An invalid one is logged, and
	// the month begins at zero.
	Ledger []byte
	// Revocations is what [Server.Revocations] returned before a restart. An invalid one is
	// logged, and revokes nothing.
	Revocations []byte
	// Allocations bounds the allocations of each client. Nil bounds only those of all clients
	// together, at 32,256.
	Allocations Share
	// AllowUnauthenticated reports whether a UDP request is answered whose source has no
	// allocation. Such a source can be forged, and the answer is up to 3.6 times as large as
	// the request. A client needs one such answer for an allocation. Nil allows all.
	AllowUnauthenticated func(client netip.Addr) bool
	// AllowProven is AllowUnauthenticated for the requests after that: they contain what only a
	// client at this address has received. A client needs one such answer. Nil allows all.
	AllowProven func(client netip.Addr) bool
	// Relays is the IPv4 prefix of the addresses that relays have in the eyes of clients. No
	// packet has one of them as its source or destination. The default is 192.0.2.0/24.
	Relays netip.Prefix
	// Logger is slog.Default() if nil.
	Logger *slog.Logger
	// Now is the clock. Nil is time.Now.
	Now func() time.Time
}

func (c Config) withDefaults() (Config, error) {
	if c.Allocations == nil {
		c.Allocations = unlimited{}
	}
	if c.AllowUnauthenticated == nil {
		c.AllowUnauthenticated = func(netip.Addr) bool { return true }
	}
	if c.AllowProven == nil {
		c.AllowProven = func(netip.Addr) bool { return true }
	}
	if !c.Relays.IsValid() {
		c.Relays = netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, 0}), 24)
	}
	if !c.Relays.Addr().Is4() {
		return c, fmt.Errorf("relay prefix %s: must be IPv4", c.Relays)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c, nil
}

type unlimited struct{}

func (unlimited) Reserve(netip.Addr, int64) bool { return true }
func (unlimited) Release(netip.Addr, int64)      {}

// Server is a TURN server. All methods can be called concurrently.
type Server struct {
	config         Config
	start          time.Time
	issuer         *Issuer
	revoked        revocations
	quota          *quota.Quota
	relays         *relays
	pions          [transports]*pionServer
	lastAllocation atomic.Uint64
	counters       counters

	stop    chan struct{}
	running sync.WaitGroup // the sweep, sockets and streams

	mu      sync.Mutex
	closed  bool
	sockets map[*net.UDPConn]struct{}
	streams map[*stream]struct{} // nil after CloseStreams
}

// New returns a server that serves nothing yet. It must be closed.
func New(c Config) (*Server, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{
		config: c, start: c.Now(), relays: newRelays(c.Relays), stop: make(chan struct{}),
		sockets: make(map[*net.UDPConn]struct{}), streams: make(map[*stream]struct{}),
	}
	if s.issuer, err = NewIssuer(c.Secret); err != nil {
		return nil, err
	}
	s.issuer.now = c.Now
	s.quota, err = quota.New(quota.Config{RateBits: c.RateBits, MonthBytes: c.MonthBytes, Now: c.Now}, c.Ledger)
	if err != nil {
		c.Logger.Warn("the month's traffic of the relay starts at zero: invalid ledger", "err", err)
	}
	if err := s.revoked.decode(c.Revocations, c.Now()); err != nil {
		c.Logger.Warn("credentials of the relay that were revoked are valid again until they expire", "err", err)
	}
	for t := range s.pions {
		if s.pions[t], err = newPionServer(s); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	s.running.Go(s.sweepUntilStop)
	return s, nil
}

// elapsed is the time since the start. Unlike the time of day, it is never set back.
func (s *Server) elapsed() time.Duration { return s.config.Now().Sub(s.start) }

func (s *Server) sweepUntilStop() {
	ticker := time.NewTicker(sweepInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.sweep()
		case <-s.stop:
			return
		}
	}
}

// sweep ends idle allocations, and those that have reached their maximum life.
func (s *Server) sweep() {
	now := s.elapsed()
	s.closeAllocations(func(a *allocation) bool { return a.expired(now) })
}

func (s *Server) closeAllocations(condition func(*allocation) bool) {
	for _, a := range s.relays.all(condition) {
		s.closeAllocation(a)
	}
}

// Credentials returns credentials for a relay of this server, as [Issuer.Issue] does.
func (s *Server) Credentials(owner string, payer Payer) Credentials {
	return s.issuer.Issue(owner, payer)
}

// Revoke ends the allocations of an owner. Credentials that were issued for it until now
// open none any more.
func (s *Server) Revoke(owner string) { s.revoke(s.issuer.ownerHash(owner), s.config.Now()) }

// RevokeID is Revoke for an owner whose [Issuer.OwnerID] is known, as from another node, and
// for credentials that were issued until a time. An invalid ID has no effect.
func (s *Server) RevokeID(id string, until time.Time) {
	if hash, ok := parseOwnerID(id); ok {
		s.revoke(hash, until)
	}
}

func (s *Server) revoke(owner ownerHash, until time.Time) {
	s.revoked.add(owner, until, s.config.Now())
	s.closeAllocations(func(a *allocation) bool { return a.owner == owner })
}

// RevokeCredentials is Revoke for an owner who has lost access. It leaves the allocations of the
// owner until they end.
func (s *Server) RevokeCredentials(owner string) {
	now := s.config.Now()
	s.revoked.deny(s.issuer.ownerHash(owner), now, now)
}

// RevokeAllCredentials ends the credentials that were issued until a time, of all owners, as if some of
// the revoked ones are not known. It leaves the allocations.
func (s *Server) RevokeAllCredentials(until time.Time) { s.revoked.addAll(until) }

// RevokeCredentialsID is RevokeID for an owner who has lost access. It leaves the allocations of the
// owner until they end.
func (s *Server) RevokeCredentialsID(id string, until time.Time) {
	if hash, ok := parseOwnerID(id); ok {
		s.revoked.deny(hash, until, s.config.Now())
	}
}

// MonthUsed reports whether 99 % of the month's traffic are used, so that no allocation is
// granted.
func (s *Server) MonthUsed() bool { return s.quota.MonthUsed() }

// Ledger returns the use of the month by payers, for [Config.Ledger] after a restart.
func (s *Server) Ledger() []byte { return s.quota.Ledger() }

// CloseStreams closes all streams, and new ones at once. Clients over TLS then look for
// another path while the rest of the server shuts down.
func (s *Server) CloseStreams() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.streams {
		st.abort()
	}
	s.streams = nil
}

// Close closes all sockets, streams and allocations. It returns when ServeUDP and ServeConn
// have returned.
func (s *Server) Close() error {
	s.CloseStreams()
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	var errs []error
	for c := range s.sockets {
		errs = append(errs, c.Close())
	}
	clear(s.sockets)
	s.mu.Unlock()
	if first {
		close(s.stop)
	}
	s.running.Wait()
	for _, p := range s.pions {
		if p != nil {
			p.Close()
		}
	}
	s.closeAllocations(func(*allocation) bool { return true })
	return errors.Join(errs...)
}
