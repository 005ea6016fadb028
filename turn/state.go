package turn

import (
	"sync/atomic"

	"github.com/pion/stun/v4"
)

// transport is how a client reaches the server.
type transport int

const (
	overUDP transport = iota
	overTLS
	transports
)

// refusal is why a request gets an error.
type refusal int

const (
	notRefused refusal = iota
	refusedCredentials
	refusedExpired
	refusedNoAllocation
	refusedOtherUser
	refusedMalformed
	refusedPeer
	refusedPeerFamily
	refusedPeers
	refusedChannels
	refusedFamily
	refusedTransport
	refusedShare
	refusedMonth
	refusedFull
	refusals
)

// refusalTable has the names that [State] uses and the codes of RFC 8656.
var refusalTable = [refusals]struct {
	name string
	code stun.ErrorCode
}{
	refusedCredentials:  {"credentials", stun.CodeUnauthorized},
	refusedExpired:      {"expired", stun.CodeUnauthorized},
	refusedNoAllocation: {"no-allocation", stun.CodeAllocMismatch},
	refusedOtherUser:    {"other-user", stun.CodeWrongCredentials},
	refusedMalformed:    {"malformed", stun.CodeBadRequest},
	refusedPeer:         {"peer", stun.CodeForbidden},
	refusedPeerFamily:   {"peer-family", stun.CodePeerAddrFamilyMismatch},
	refusedPeers:        {"peers", stun.CodeInsufficientCapacity},
	refusedChannels:     {"channels", stun.CodeInsufficientCapacity},
	refusedFamily:       {"family", stun.CodeAddrFamilyNotSupported},
	refusedTransport:    {"transport", stun.CodeUnsupportedTransProto},
	refusedShare:        {"share", stun.CodeAllocQuotaReached},
	refusedMonth:        {"month", stun.CodeInsufficientCapacity},
	refusedFull:         {"full", stun.CodeInsufficientCapacity},
}

func (r refusal) code() stun.ErrorCode { return refusalTable[r].code }

// dropReason is why a message gets no answer and is not relayed.
type dropReason int

const (
	notDropped dropReason = iota
	dropMalformed
	dropTooLarge
	dropLowPort
	dropRequestRate
	dropNoAllocation
	dropNoChannel
	dropNoPermission
	dropNoRelay
	dropPeerPermission
	dropQueueFull
	dropSendFailed
	dropReasons

	dropQuota = dropReasons // package quota counts these, by reason
)

var dropNames = [dropReasons]string{
	dropMalformed:      "malformed",
	dropTooLarge:       "too-large",
	dropLowPort:        "low-port",
	dropRequestRate:    "request-rate",
	dropNoAllocation:   "no-allocation",
	dropNoChannel:      "no-channel",
	dropNoPermission:   "no-permission",
	dropNoRelay:        "no-relay",
	dropPeerPermission: "peer-permission",
	dropQueueFull:      "queue-full",
	dropSendFailed:     "send-failed",
}

// State is what a server has and has counted since its start.
type State struct {
	// UDP and TLS count by the transport of the client.
	UDP, TLS TransportState
	// Refused are the requests that got an error, and Dropped the messages that got no answer
	// and were not relayed, by reason. The keys are always the same ones:
	//
	// Refused: credentials, expired (401); no-allocation (437); other-user (441); malformed
	// (400); peer (403); peer-family (443); peers, channels (508, an allocation has too many);
	// family (440); transport (442); share (486); month, full (508).
	//
	// Dropped: malformed; too-large; low-port (a UDP source below 1024); request-rate;
	// no-allocation; no-channel, no-permission (of the sender); no-relay (no such peer);
	// peer-permission (of the receiver); queue-full (of a slow stream); send-failed; rate,
	// address-rate, server-rate; month-share, month (used up).
	Refused, Dropped map[string]int64
	// Unauthenticated is the number of answers to clients that did not prove who they are,
	// Withheld that of requests that got none because of their number.
	Unauthenticated, Withheld int64
	// LibraryErrors counts what pion/turn would have logged as an error. Clients can cause it.
	LibraryErrors int64
	// Streams is the number of open streams, LongestQueueBytes what waits in the longest of
	// their queues.
	Streams           int
	LongestQueueBytes int
	// MonthBytes is what was relayed in the current month (UTC), with 48 bytes for the headers
	// of each packet, MonthLimit how much can be. A zero limit is none.
	MonthBytes, MonthLimit int64
}

// TransportState is the part of [State] of one transport.
type TransportState struct {
	// Allocations is the number of allocations now, Allocated of those since the start.
	Allocations, Allocated int64
	// RelayedPackets and RelayedBytes were sent to clients of this transport. Bytes are those
	// of the payload.
	RelayedPackets, RelayedBytes int64
}

// counters are the counters behind [State].
type counters struct {
	transports      [transports]transportCounters
	refused         [refusals]atomic.Int64
	dropped         [dropReasons]atomic.Int64
	unauthenticated atomic.Int64
	withheld        atomic.Int64
	libraryErrors   atomic.Int64
}

type transportCounters struct{ allocations, allocated, packets, bytes atomic.Int64 }

func (c *counters) refuse(reason refusal) { c.refused[reason].Add(1) }

func (c *counters) drop(reason dropReason) {
	if reason != notDropped && reason != dropQuota {
		c.dropped[reason].Add(1)
	}
}

func (c *counters) allocated(t transport) {
	c.transports[t].allocated.Add(1)
	c.transports[t].allocations.Add(1)
}

func (c *counters) closed(t transport) { c.transports[t].allocations.Add(-1) }

func (c *counters) relayed(t transport, payloadBytes int) {
	c.transports[t].packets.Add(1)
	c.transports[t].bytes.Add(int64(payloadBytes))
}

func (c *transportCounters) state() TransportState {
	return TransportState{
		Allocations: c.allocations.Load(), Allocated: c.allocated.Load(),
		RelayedPackets: c.packets.Load(), RelayedBytes: c.bytes.Load(),
	}
}

// State returns the present state.
func (s *Server) State() State {
	c, q := &s.counters, s.quota.State()
	state := State{
		UDP: c.transports[overUDP].state(), TLS: c.transports[overTLS].state(),
		Refused: make(map[string]int64),
		Dropped: map[string]int64{
			"rate": q.DroppedFlowRate, "address-rate": q.DroppedAddressRate, "server-rate": q.DroppedServerRate,
			"month-share": q.DroppedShare, "month": q.DroppedMonth,
		},
		Unauthenticated: c.unauthenticated.Load(), Withheld: c.withheld.Load(),
		LibraryErrors: c.libraryErrors.Load(),
		MonthBytes:    q.MonthBytes, MonthLimit: q.MonthLimit,
	}
	for reason := notRefused + 1; reason < refusals; reason++ {
		state.Refused[refusalTable[reason].name] = c.refused[reason].Load()
	}
	for reason := notDropped + 1; reason < dropReasons; reason++ {
		state.Dropped[dropNames[reason]] = c.dropped[reason].Load()
	}
	state.Streams, state.LongestQueueBytes = s.streamState()
	return state
}
