package ratelimit

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"inbox/ratelimit/internal/buckets"
)

// Share divides a resource that all clients use: bytes, files, connections or anything else
// that is counted in units. A client is an IPv4 address or an IPv6 /64. A client reserves
// units before it uses them and releases them afterwards. What it can hold depends on how
// much is free:
//
//   - While more than half is free, a client can hold a quarter of what is free. One client
//     thus gets a fifth of an idle server, and three or four clients together half.
//   - Of the other half, a client can hold a 240th of the ceiling. This part fits a hundred
//     clients that hold all they can.
//   - The last sixteenth is the reserve. Only clients that hold at most MinPerClient in total
//     can reserve it. A newcomer gets MinPerClient as long as fewer than 256 other clients
//     (with the default of MinPerClient) hold units, whatever they hold.
//
// A share shrinks but is not taken back: a client that holds more than its current share
// keeps it and cannot reserve more.
//
// The network of a client, an IPv4 /24 or an IPv6 /48, has sixteen times the share of a
// client while less than half is free. Otherwise it has the same share.
//
// A Share has an entry for each client and network that holds units, and refuses new clients
// above [DefaultTableSize] entries. It does not depend on time. All methods can be called
// concurrently.
type Share struct {
	limits  ShareLimits
	refused atomic.Int64

	mu   sync.Mutex
	used int64
	held map[key]int64 // no zero values
}

// ShareLimits are the limits of a [Share]. All counts are in units.
type ShareLimits struct {
	// Ceiling bounds what all clients hold together. Zero is no limit.
	Ceiling int64
	// MinPerClient is what a client can always hold while the reserve lasts. Zero is a
	// 4096th of Ceiling, but at least one unit.
	MinPerClient int64
	// MaxPerClient bounds what a client can hold, however much is free. A network can hold
	// sixteen times as much. Zero is no limit besides the share.
	MaxPerClient int64
	// DryRun counts what exceeds the shares but refuses nothing. Ceiling applies nevertheless:
	// it protects the server.
	DryRun bool
}

const (
	freePerShare  = 4   // a client can hold 1/4 of what is free,
	heldBackPart  = 2   // while more than 1/2 of the ceiling is free;
	clientsToFit  = 240 // then a 240th of the ceiling,
	reservedPart  = 16  // while more than 1/16 is free;
	newcomersPart = 256 // then a 256th of the reserve
)

// NewShare returns a share of which nothing is reserved.
func NewShare(limits ShareLimits) *Share {
	if limits.MinPerClient <= 0 {
		limits.MinPerClient = max(1, limits.Ceiling/reservedPart/newcomersPart)
	}
	return &Share{limits: limits, held: make(map[key]int64)}
}

// Reserve reserves n units for a client, or nothing if that exceeds the client's share, its
// network's share or the ceiling. The caller must release what it reserved. An invalid
// address has no share: only the ceiling applies, as for a trusted proxy, whose clients are
// unknown, or a Unix socket.
func (s *Share) Reserve(addr netip.Addr, n int64) bool {
	result := s.reserve(addr, n)
	return result == withinShare || result == overShare && s.limits.DryRun
}

// shareResult tells which part of the contract a reservation exceeds.
type shareResult int

const (
	withinShare shareResult = iota
	overShare
	overCeiling
)

// reserve is Reserve with the reason of a refusal. A dry run ignores overShare.
func (s *Share) reserve(addr netip.Addr, n int64) shareResult {
	keys := shareKeys(addr)
	s.mu.Lock()
	defer s.mu.Unlock()
	result := s.fitsLocked(keys, n)
	if result != withinShare {
		s.refused.Add(1)
	}
	if result == withinShare || result == overShare && s.limits.DryRun {
		s.addLocked(keys, n)
	}
	return result
}

// Release returns n units that were reserved for the same address.
func (s *Share) Release(addr netip.Addr, n int64) {
	keys := shareKeys(addr)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addLocked(keys, -n)
}

// Used returns how many units are reserved.
func (s *Share) Used() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

// Refused returns how many reservations were refused, or would have been in a dry run.
func (s *Share) Refused() int64 { return s.refused.Load() }

// Limits returns the limits, with defaults resolved.
func (s *Share) Limits() ShareLimits { return s.limits }

func (s *Share) fitsLocked(keys [2]key, n int64) shareResult {
	if s.limits.Ceiling > 0 && (n > s.limits.Ceiling || s.used > s.limits.Ceiling-n) {
		return overCeiling
	}
	for i, k := range keys {
		if k == (key{}) {
			continue
		}
		held, known := s.held[k]
		if !known && len(s.held) >= DefaultTableSize || held+n > s.limits.quota(s.used+n, factors[i]) {
			return overShare
		}
	}
	return withinShare
}

func (s *Share) addLocked(keys [2]key, n int64) {
	s.used += n
	for _, k := range keys {
		if k == (key{}) {
			continue
		}
		if held := s.held[k] + n; held != 0 {
			s.held[k] = held
		} else {
			delete(s.held, k)
		}
	}
}

// factors are the shares of a client and of its network, in the order of shareKeys.
var factors = [2]int64{1, networkFactor}

// quota returns how many units a client, or with another factor a network, can hold when used
// units are reserved, its own new ones included. It never grows with used.
func (l ShareLimits) quota(used, factor int64) int64 {
	const unlimited = 1<<63 - 1
	quota := int64(unlimited)
	if l.Ceiling > 0 {
		quota = l.share(l.Ceiling-used, factor)
	}
	if l.MaxPerClient > 0 {
		quota = min(quota, l.MaxPerClient*factor)
	}
	return quota
}

func (l ShareLimits) share(free, factor int64) int64 {
	least := l.MinPerClient * factor
	switch {
	case free > l.Ceiling/heldBackPart:
		return max(free/freePerShare, least)
	case free >= l.Ceiling/reservedPart:
		return max(l.Ceiling/clientsToFit*factor, least)
	}
	return least
}

// shareKeys returns the keys of a client and of its network. Both are zero for an invalid
// address.
func shareKeys(addr netip.Addr) [2]key {
	keys := keysOf(addr)
	if keys[0].Kind == buckets.IPv4 {
		keys[1] = key{Kind: buckets.IPv4Network, Value: keys[0].Value >> 8}
	}
	return keys
}
