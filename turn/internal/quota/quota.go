// Package quota divides the traffic of a TURN server: the rate of an allocation, of a client
// address, of its IPv6 /48 and of the whole server, and the bytes of a calendar month (UTC).
// It does no I/O.
//
// The month is shared among payers:
//
//   - A payer can use an eighth of what the others left, and a /48 half of it. The own use
//     does not count as used by others, so the limit of a payer that is alone does not
//     shrink while it uses it. It falls with each byte that others use and never rises.
//   - The last sixteenth of the month serves only payers that used less than 0.5 % of the
//     month, and a /48 that used less than 2 %.
//   - From 99 % on, no flow opens, and each one that is open has 64 kbit/s.
//   - At 100 %, all flows end.
//
// A packet counts with its payload and [HeaderBytes], so that an empty one is not free.
package quota

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// The rates, in bits per second.
const (
	// FlowBits is the rate of one allocation, SlowFlowBits from 99 % of the month on.
	FlowBits     = 8_000_000
	SlowFlowBits = 64_000
	// AddressBits is the rate of an IPv4 address or an IPv6 /64, NetworkBits of a /48.
	AddressBits = 32_000_000
	NetworkBits = networkFactor * AddressBits

	// HeaderBytes is what a packet counts for beside its payload, in the month and in all
	// rates: about the headers of IP, UDP and ChannelData, between those of IPv4 and IPv6.
	HeaderBytes = 48

	networkFactor = 4
	// priorityPart is the part of the server's rate up to which an address has priority, and
	// a /48 up to networkFactor times that: the rest of its traffic can use only half of the
	// server's burst.
	priorityPart = 16
)

// Errors of [Quota.Open].
var (
	// ErrMonthUsed means that 99 % of the month are used.
	ErrMonthUsed = errors.New("the traffic of the month is used up")
	// ErrShare means that the payer, or the network around it, has used its share of the month.
	ErrShare = errors.New("the payer's share of the month's traffic is used up")
)

// Hash is the pseudonym of a payer, as in the ledger. The zero Hash has no share.
type Hash [12]byte

// Payer is what the month's traffic of a flow is charged to: a client, and for IPv6 the /48
// around it.
type Payer struct{ Client, Network Hash }

func (p Payer) hashes() [2]Hash { return [...]Hash{p.Client, p.Network} }

// Config configures a [Quota].
type Config struct {
	// RateBits is the rate of the whole server in bits per second. Zero is no limit.
	RateBits int64
	// MonthBytes bounds what all flows send in a calendar month (UTC). Zero is no limit.
	MonthBytes int64
	// Now is the clock. Nil is time.Now.
	Now func() time.Time
}

// Quota divides the traffic of one server. All methods can be called concurrently.
type Quota struct {
	now        func() time.Time
	start      time.Time
	serverBits int64
	server     bucket
	month      month
	dropped    [reasons]atomic.Int64

	mu        sync.Mutex
	flows     map[*Flow]struct{}
	addresses addresses
}

// New returns a quota that continues with the ledger that [Quota.Ledger] returned. An empty
// ledger is a new one. For an invalid one, New returns an error beside a quota with an empty
// ledger.
func New(c Config, ledger []byte) (*Quota, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	q := &Quota{
		now:        c.Now,
		start:      c.Now(),
		serverBits: c.RateBits,
		flows:      make(map[*Flow]struct{}),
		addresses:  addresses{rates: make(map[netip.Prefix]*address)},
	}
	err := q.month.init(c.MonthBytes, q.start, ledger)
	return q, err
}

// Flow is the traffic that one allocation sends.
type Flow struct {
	q       *Quota
	rate    bucket
	address *address // nil for an invalid address
	network *address // nil for IPv4
	payer   Payer
	accounts
	end   func()
	ended atomic.Bool
}

// followClock returns the time since the start, which does not depend on changes of the clock.
func (q *Quota) followClock() time.Duration {
	at := q.now()
	now := at.Sub(q.start)
	q.month.follow(at, now)
	return now
}

// Open opens a flow of a client address that a payer pays for. The end function is called at
// most once, in a goroutine of its own, when no more traffic will be allowed: the month, or
// the payer's share of it, is used up. It is not called after Close.
//
// Errors: ErrMonthUsed, ErrShare.
func (q *Quota) Open(client netip.Addr, payer Payer, end func()) (*Flow, error) {
	now := q.followClock()
	if q.month.nearlyUsed() {
		return nil, ErrMonthUsed
	}
	f := &Flow{q: q, payer: payer, end: end}
	var ok bool
	if f.accounts, ok = q.month.open(payer); !ok {
		return nil, ErrShare
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	f.address, f.network = q.addresses.open(client, now)
	q.flows[f] = struct{}{}
	return f, nil
}

// Close ends the flow. A second call has no effect.
func (f *Flow) Close() {
	f.ended.Store(true)
	f.q.mu.Lock()
	_, open := f.q.flows[f]
	if open {
		delete(f.q.flows, f)
		f.q.addresses.close(f.address, f.network)
	}
	f.q.mu.Unlock()
	if open {
		f.q.month.close(f.payer, f.accounts)
	}
}

// Allow reports whether the server can send a packet for the flow now. If so, it charges the
// payload and the headers. It allocates no memory, and takes no lock except when the month
// changes.
func (f *Flow) Allow(payloadBytes int) bool {
	if f.ended.Load() {
		return false
	}
	reason := f.q.charge(f, int64(payloadBytes)+HeaderBytes)
	if reason != allowed {
		f.q.dropped[reason].Add(1)
	}
	switch reason {
	case monthExhausted:
		f.q.endAll()
	case shareExhausted:
		f.callEnd()
	}
	return reason == allowed
}

// reason tells why traffic is dropped.
type reason int

const (
	allowed reason = iota
	flowRate
	addressRate
	serverRate
	shareExhausted
	monthExhausted
	reasons
)

// Refund returns what Allow charged for a packet that could then not be sent, to the month,
// its accounts and the server's rate. The rates of the flow and its address keep it, because
// the packet cost processor time. It allocates no memory and takes no lock.
func (f *Flow) Refund(payloadBytes int) {
	n := int64(payloadBytes) + HeaderBytes
	f.q.month.refund(f.accounts, n)
	server := [...]limit{f.q.serverLimit()}
	refund(server[:], n)
}

// charge charges all rates and accounts of the flow, or none of them.
func (q *Quota) charge(f *Flow, n int64) reason {
	now := q.followClock()
	own := q.ownLimits(f)
	if refused := takeAll(own[:], now, n); refused != allowed {
		return refused
	}
	priority := q.priorityLimits(f)
	server := [...]limit{q.serverLimit()}
	first := takeAll(priority[:], now, n) == allowed
	if !first {
		server[0].burst = burst / 2
	}
	refused := takeAll(server[:], now, n)
	if refused == allowed {
		if refused = q.month.charge(f.accounts, n); refused == allowed {
			return allowed
		}
		refund(server[:], n)
	}
	if first {
		refund(priority[:], n)
	}
	refund(own[:], n)
	return refused
}

// ownLimits returns the rates of the flow, of its address and of its network.
func (q *Quota) ownLimits(f *Flow) [3]limit {
	limits := [...]limit{
		{&f.rate, FlowBits, burst, leastBytes, flowRate},
		{nil, AddressBits, burst, leastBytes, addressRate},
		{nil, NetworkBits, burst, leastBytes, addressRate},
	}
	if q.month.nearlyUsed() {
		limits[0].bits, limits[0].burst, limits[0].least = SlowFlowBits, slowBurst, 0
	}
	if f.address != nil {
		limits[1].bucket = &f.address.rate
	}
	if f.network != nil {
		limits[2].bucket = &f.network.rate
	}
	return limits
}

// priorityLimits returns the parts of the server's rate up to which the address and the
// network of the flow have priority. Without one for the network, the many /64 of a /48 would
// all have it.
func (q *Quota) priorityLimits(f *Flow) [2]limit {
	limits := [...]limit{
		{nil, q.serverBits / priorityPart, burst, 0, serverRate},
		{nil, q.serverBits / priorityPart * networkFactor, burst, 0, serverRate},
	}
	if f.address != nil {
		limits[0].bucket = &f.address.priority
	}
	if f.network != nil {
		limits[1].bucket = &f.network.priority
	}
	return limits
}

func (q *Quota) serverLimit() limit { return limit{&q.server, q.serverBits, burst, 0, serverRate} }

// callEnd calls the end function unless the flow has ended or is closed.
func (f *Flow) callEnd() {
	if f.ended.CompareAndSwap(false, true) && f.end != nil {
		go f.end()
	}
}

func (q *Quota) endAll() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for f := range q.flows {
		f.callEnd()
	}
}

// MonthUsed reports whether 99 % of the month are used, so that no flow opens.
func (q *Quota) MonthUsed() bool {
	q.followClock()
	return q.month.nearlyUsed()
}

// Ledger returns the use of the month, for [New]. It contains the use of at most 10,000
// payers and networks, those with the most.
func (q *Quota) Ledger() []byte {
	q.followClock()
	return q.month.ledger().encode()
}

// State is what a quota has counted.
type State struct {
	// MonthBytes is what was sent in the current month, with HeaderBytes for each packet,
	// MonthLimit how much can be. Zero is no limit.
	MonthBytes, MonthLimit int64
	// Flows is the number of open flows, Payers that of payers and networks in the ledger.
	Flows, Payers int
	// Packets that exceeded a limit, since the start: of the flow, of the client's address or
	// network, of the whole server, of the payer's share of the month, and of the month.
	DroppedFlowRate, DroppedAddressRate, DroppedServerRate, DroppedShare, DroppedMonth int64
}

// State returns the present state.
func (q *Quota) State() State {
	q.followClock()
	s := State{
		MonthBytes:         max(0, q.month.used.Load()),
		MonthLimit:         q.month.limit,
		Payers:             q.month.payers(),
		DroppedFlowRate:    q.dropped[flowRate].Load(),
		DroppedAddressRate: q.dropped[addressRate].Load(),
		DroppedServerRate:  q.dropped[serverRate].Load(),
		DroppedShare:       q.dropped[shareExhausted].Load(),
		DroppedMonth:       q.dropped[monthExhausted].Load(),
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	s.Flows = len(q.flows)
	return s
}
