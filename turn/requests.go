package turn

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"

	"github.com/pion/stun/v4"
)

// client is the source of messages: a UDP five-tuple, or a stream.
type client interface {
	transport() transport
	addr() netip.AddrPort
	// admit reports whether the next request is served while the client has no allocation. It is
	// proven if it shows that its source is not forged.
	admit(proven bool) bool
	// relay sends or queues a relayed message, and does not wait for the client.
	relay(message []byte) dropReason
	// answer sends the answer to a request.
	answer(message []byte)
	// attach and detach set and remove the allocation of the client.
	attach(*allocation)
	detach(*allocation)
}

// request is a request on its way through pion.
type request struct {
	client       client
	allocation   *allocation // of the client; nil if it has none
	allocationID uint64      // of an allocation that the request opens, too
	raw          []byte
	msg          stun.Message
	peers        *peers // of the allocation, if pion accepts the request
	refused      refusal
	reserves     *reservation // that pion makes with the allocation; nil if none

	// What pion finds out.
	identity      identity
	key           stun.MessageIntegrity
	authenticated bool
	response      []byte
}

// serveRequest answers a request, or drops it if the client is not entitled to an answer.
func (s *Server) serveRequest(c client, a *allocation, raw []byte) {
	r := &request{client: c, allocation: a, raw: raw}
	if !r.decode() {
		s.counters.drop(dropMalformed)
		return
	}
	if !s.admit(r) {
		return
	}
	switch {
	case a != nil:
		r.allocationID = a.id
		s.preparePeers(r)
	case r.msg.Type.Method == stun.MethodAllocate:
		r.allocationID = s.lastAllocation.Add(1)
	}
	s.pions[c.transport()].handle(r)
	r.complete()
	s.finish(r)
}

// decode reports whether the request is well-formed and of a method that is served. Those of
// relays over TCP (RFC 6062) are not.
func (r *request) decode() bool {
	r.msg.Raw = r.raw
	if r.msg.Decode() != nil {
		return false
	}
	switch r.msg.Type.Method {
	case stun.MethodBinding, stun.MethodAllocate, stun.MethodRefresh, stun.MethodCreatePermission, stun.MethodChannelBind:
		return true
	}
	return false
}

// admit bounds the requests of a client. Over UDP, a request can have a forged source, and the
// answer can be larger than it. So those that nothing proves have budgets of their own.
func (s *Server) admit(r *request) bool {
	switch {
	case r.allocation == nil:
		if !r.client.admit(s.provesAddress(r)) {
			s.counters.withheld.Add(1)
			return false
		}
	case !s.isOfUser(r, r.allocation.username):
		if !r.allocation.strangers.AllowN(s.config.Now(), 1) {
			s.counters.withheld.Add(1)
			return false
		}
	case !r.allocation.requests.AllowN(s.config.Now(), 1):
		s.counters.drop(dropRequestRate)
		return false
	}
	return true
}

// provesAddress reports whether the request contains the realm that only its address was told.
func (s *Server) provesAddress(r *request) bool {
	realm, err := r.msg.Get(stun.AttrRealm)
	return err == nil && len(realm) == len(realmPlaceholder) && s.issuer.checkRealm(string(realm), r.client.addr().Addr())
}

// isOfUser reports whether the user signed the request. It takes some microseconds, like the
// relay of a message, and only for requests with the user name, which strangers do not know.
func (s *Server) isOfUser(r *request, username string) bool {
	given, err := r.msg.Get(stun.AttrUsername)
	if err != nil || string(given) != username {
		return false
	}
	realm, err := r.msg.Get(stun.AttrRealm)
	if err != nil || len(realm) != len(realmPlaceholder) {
		return false
	}
	key := stun.NewLongTermIntegrity(username, string(realm), s.issuer.password(username))
	return key.Check(&r.msg) == nil
}

// preparePeers computes what the request makes of the permissions and channels, or why it is
// refused. One refused peer refuses all of the request.
func (s *Server) preparePeers(r *request) {
	method := r.msg.Type.Method
	if method != stun.MethodCreatePermission && method != stun.MethodChannelBind {
		return
	}
	asked, refused := s.askedPeers(&r.msg)
	if refused != notRefused || len(asked) == 0 {
		r.refused = refused
		return
	}
	old, now := r.allocation.peers.Load(), s.elapsed()
	if method == stun.MethodCreatePermission {
		r.peers = old.withPermissions(asked, now)
	} else {
		number := channelNumber(&r.msg)
		if number&kindBits != channelNumberBits {
			r.refused = refusedMalformed
		}
		r.peers = old.withChannel(number, asked[0], now)
	}
	switch {
	case len(r.peers.permissions) > maxPeers:
		r.refused = refusedPeers
	case len(r.peers.channels) > maxChannels:
		r.refused = refusedChannels
	}
}

// askedPeers returns the peers of a request, all of which must be relays of this server.
func (s *Server) askedPeers(msg *stun.Message) (asked []netip.AddrPort, refused refusal) {
	for _, attr := range msg.Attributes {
		if attr.Type != stun.AttrXORPeerAddress {
			continue
		}
		peer := parseXORAddress(attr.Value)
		switch {
		case !peer.IsValid() && len(attr.Value) == attrHeaderBytes+net.IPv6len:
			return nil, refusedPeerFamily
		case !peer.IsValid():
			return nil, refusedMalformed
		case !s.relays.prefix.Contains(peer.Addr()):
			return nil, refusedPeer
		}
		asked = append(asked, peer)
	}
	return asked, notRefused
}

// channelNumber returns zero, which is no valid one, if the attribute is missing.
func channelNumber(msg *stun.Message) uint16 {
	value, err := msg.Get(stun.AttrChannelNumber)
	if err != nil || len(value) < 2 {
		return 0
	}
	return binary.BigEndian.Uint16(value)
}

// complete replaces the response where pion has none, another error code than the RFC, or
// no MESSAGE-INTEGRITY although the client is authenticated (RFC 8489, section 9.2.4).
func (r *request) complete() {
	if !r.authenticated {
		return
	}
	if r.response == nil {
		// pion finds no allocation of this user.
		r.refused = refusedNoAllocation
		if r.allocation != nil {
			r.refused = refusedOtherUser
		}
	}
	if r.refused != notRefused {
		r.response = r.errorResponse(r.refused.code())
		return
	}
	if code, unsigned := unsignedError(r.response); unsigned {
		r.refused = refusedMalformed
		r.response = r.errorResponse(code)
	}
}

// unsignedError returns the code of an error response without MESSAGE-INTEGRITY.
func unsignedError(response []byte) (code stun.ErrorCode, unsigned bool) {
	msg := stun.Message{Raw: response}
	var attr stun.ErrorCodeAttribute
	if msg.Decode() != nil || msg.Contains(stun.AttrMessageIntegrity) || attr.GetFrom(&msg) != nil {
		return 0, false
	}
	return attr.Code, true
}

func (r *request) errorResponse(code stun.ErrorCode) []byte {
	msg, err := stun.Build(
		&stun.Message{TransactionID: r.msg.TransactionID},
		stun.NewType(r.msg.Type.Method, stun.ClassErrorResponse),
		&stun.ErrorCodeAttribute{Code: code},
		r.key,
	)
	if err != nil {
		return nil
	}
	return msg.Raw
}

// finish applies what pion accepted, counts, and sends the response.
func (s *Server) finish(r *request) {
	if r.refused != notRefused {
		s.counters.refuse(r.refused)
	}
	if len(r.response) < stunHeaderBytes {
		return
	}
	success := binary.BigEndian.Uint16(r.response)&classBits == classSuccess
	if success && r.peers != nil {
		r.allocation.peers.Store(r.peers)
	}
	if !r.authenticated {
		setRealm(r.response, s.issuer.realm(r.client.addr().Addr(), s.config.Now()))
		s.counters.unauthenticated.Add(1)
	}
	r.client.answer(r.response)
}

// source returns the address that pion puts into XOR-MAPPED-ADDRESS.
func (r *request) source() net.Addr { return net.UDPAddrFromAddrPort(r.client.addr()) }

// identify returns who a user name belongs to. pion checks the password. Only an Allocate
// needs credentials that are not expired or revoked, so that no call ends with them.
func (s *Server) identify(username string, method stun.Method) (identity, refusal) {
	check := s.issuer.checkExisting
	if method == stun.MethodAllocate {
		check = func(username string) (identity, error) { return s.issuer.checkNew(username, &s.revoked) }
	}
	id, err := check(username)
	switch {
	case err == nil:
		return id, notRefused
	case errors.Is(err, errMalformedUsername):
		return id, refusedCredentials
	}
	return id, refusedExpired
}
