package ratelimit

import (
	"net/netip"

	"inbox/ratelimit/internal/buckets"
)

// key is the key of a client, a network or anything else that is limited.
type key = buckets.Key

// networkFactor is the budget of an IPv6 /48, in budgets of an address.
const networkFactor = buckets.NetworkFactor

// keysOf returns the keys of an address and of its network.
func keysOf(addr netip.Addr) (keys [2]key) {
	keys[0], keys[1] = buckets.KeysOf(addr)
	return keys
}

func hashKey(hash uint64) key { return key{Kind: buckets.Hash, Value: hash} }

// Prefix returns the part of an address that counts as one client: the /32 of an IPv4
// address, mapped or not, or the /64 of an IPv6 address. The prefix of an invalid address
// is invalid.
func Prefix(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap()
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	p, _ := addr.Prefix(bits) // fails only for more bits than the address has
	return p
}
