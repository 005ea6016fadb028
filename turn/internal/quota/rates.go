package quota

import (
	"net/netip"
	"sync/atomic"
	"time"
)

const (
	// burst is how much of its rate a bucket can have at once, slowBurst the same of a flow
	// at SlowFlowBits: six packets of 1,300 bytes.
	burst     = 500 * time.Millisecond
	slowBurst = time.Second
	// leastBytes is what a packet counts for in the rates of flows and addresses at least: a
	// small one costs as much processor time as a large one.
	leastBytes = 256

	sweepInterval = time.Second
)

// bucket is a token bucket without a lock. It holds the time since the start of the quota, in
// nanoseconds, at which it will be full: the virtual scheduling algorithm (ITU-T I.371).
type bucket struct{ full atomic.Int64 }

// limit is a bucket with its rate and the reason to drop what exceeds it. Without a bucket or
// a rate it is no limit.
type limit struct {
	bucket *bucket
	bits   int64 // per second
	burst  time.Duration
	least  int64 // bytes that a packet counts for
	reason reason
}

func (l limit) none() bool { return l.bucket == nil || l.bits <= 0 }

// take takes n bytes, or nothing if the bucket has less.
func (l limit) take(now time.Duration, n int64) bool {
	if l.none() {
		return true
	}
	for {
		full := l.bucket.full.Load()
		next := max(full, int64(now)) + l.cost(n)
		if next-int64(now) > int64(l.burst) {
			return false
		}
		if l.bucket.full.CompareAndSwap(full, next) {
			return true
		}
	}
}

// takeAll takes n bytes from each of the limits, or nothing. It returns the reason of the
// first limit that has less.
func takeAll(limits []limit, now time.Duration, n int64) reason {
	for i := range limits {
		if !limits[i].take(now, n) {
			refund(limits[:i], n)
			return limits[i].reason
		}
	}
	return allowed
}

// cost returns how long n bytes take at the rate, in nanoseconds. It is rounded up, so that
// nothing is free at a high rate.
func (l limit) cost(n int64) int64 {
	return (max(n, l.least)*8*int64(time.Second) + l.bits - 1) / l.bits
}

// refund returns n bytes that were taken from each of the limits.
func refund(limits []limit, n int64) {
	for _, l := range limits {
		if !l.none() {
			l.bucket.full.Add(-l.cost(n))
		}
	}
}

// address has the rates of an IPv4 address, an IPv6 /64 or an IPv6 /48.
type address struct {
	rate     bucket
	priority bucket
	flows    int
}

// addresses are the addresses that have flows, or had some a moment ago: a bucket remains
// until it is full, so that a new flow does not bring a new burst. Quota.mu guards it.
type addresses struct {
	rates     map[netip.Prefix]*address
	lastSweep time.Duration
}

// open returns the rates of a client's address and of its network. Both are nil for an
// invalid address, and network is nil for IPv4.
func (a *addresses) open(client netip.Addr, now time.Duration) (addr, network *address) {
	if now-a.lastSweep >= sweepInterval {
		a.lastSweep = now
		a.sweep(now)
	}
	client = client.Unmap().WithZone("")
	switch {
	case client.Is4():
		return a.get(netip.PrefixFrom(client, client.BitLen())), nil
	case client.Is6():
		subnet, _ := client.Prefix(64) // fails only for more bits than the address has
		site, _ := client.Prefix(48)
		return a.get(subnet), a.get(site)
	}
	return nil, nil
}

func (a *addresses) get(prefix netip.Prefix) *address {
	addr := a.rates[prefix]
	if addr == nil {
		addr = new(address)
		a.rates[prefix] = addr
	}
	addr.flows++
	return addr
}

// close ends a flow of both.
func (a *addresses) close(addr, network *address) {
	for _, r := range [...]*address{addr, network} {
		if r != nil {
			r.flows--
		}
	}
}

func (a *addresses) sweep(now time.Duration) {
	for prefix, addr := range a.rates {
		if addr.flows == 0 && max(addr.rate.full.Load(), addr.priority.full.Load()) <= int64(now) {
			delete(a.rates, prefix)
		}
	}
}
