package limits

import (
	"net/netip"
	"time"

	"inbox/ratelimit"

	"golang.org/x/time/rate"
)

const (
	// Answers to UDP requests whose source can be forged. Each is up to 132 bytes, so that a
	// network gets 2.6 KB/s of them at most. A client needs one for a relay.
	answerRate, answerBurst = 20, 100
	// Those to one address of the network, so that one client does not use up the budget.
	addressAnswerRate, addressAnswerBurst = 5, 25
	// Answers to one address that has proved that it is not forged, before it has an allocation.
	provenRate, provenBurst = 20, 100
	// Answers to all networks: 500 KB/s.
	allAnswersRate, allAnswersBurst = 4000, 8000
	// maxAnsweredNetworks bounds each table of networks and of addresses, about 200 bytes each.
	maxAnsweredNetworks = 16 << 10

	turnPart             = 16       // of the memory: allocations
	turnDefault          = 64 << 20 // bytes, if the memory is not known
	bytesPerAllocation   = 30 << 10 // over TLS; over UDP 12 KiB
	minAllocationsPerIP  = 4        // two clients of an address, over UDP and TLS
	leastAllocationTotal = 64
)

// TURN has the limits of a relay. Its methods can be called concurrently.
type TURN struct {
	// Allocations divides the number of allocations.
	Allocations *ratelimit.Share

	networks, addresses, proven *ratelimit.Limiter
	all                         *rate.Limiter
}

func newTURN(cfg Config) *TURN {
	memory := int64(turnDefault)
	if cfg.MaxMemoryBytes > 0 {
		memory = cfg.MaxMemoryBytes / turnPart
	}
	return &TURN{
		Allocations: ratelimit.NewShare(ratelimit.ShareLimits{
			Ceiling: max(leastAllocationTotal, memory/bytesPerAllocation), MinPerClient: minAllocationsPerIP, DryRun: cfg.DryRun,
		}),
		networks:  ratelimit.NewLimiter(ratelimit.Budget{PerSecond: answerRate, Burst: answerBurst}, maxAnsweredNetworks),
		addresses: ratelimit.NewLimiter(ratelimit.Budget{PerSecond: addressAnswerRate, Burst: addressAnswerBurst}, maxAnsweredNetworks),
		proven:    ratelimit.NewLimiter(ratelimit.Budget{PerSecond: provenRate, Burst: provenBurst}, maxAnsweredNetworks),
		all:       rate.NewLimiter(allAnswersRate, allAnswersBurst),
	}
}

// AllowProven reports whether a UDP request is answered whose source has no allocation, but has
// proved its address. A dry run does not lift the limit.
func (t *TURN) AllowProven(addr netip.Addr) bool {
	return addr.IsValid() && t.proven.Take(addr.WithZone(""), time.Now()).OK
}

// AllowAnswer reports whether a UDP request is answered whose source has no allocation and can be
// forged. The budgets are those of the address, of the IPv4 /24 or the IPv6 /48, and of the whole
// server, so that it is no use as a reflector. A dry run does not lift them.
func (t *TURN) AllowAnswer(addr netip.Addr) bool {
	bits := 24
	if addr = addr.Unmap().WithZone(""); addr.Is6() {
		bits = 48
	}
	network, err := addr.Prefix(bits)
	if err != nil { // an invalid address
		return false
	}
	now := time.Now()
	return t.addresses.Take(addr, now).OK && t.networks.Take(network.Addr(), now).OK && t.all.AllowN(now, 1)
}
