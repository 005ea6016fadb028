package buckets

import (
	"encoding/binary"
	"net/netip"
)

// Key names a client, a network or anything else that has a bucket. The zero Key is not limited.
type Key struct {
	Kind  Kind
	Value uint64
}

// Kind is what a key names. It is a whole word, so that a key is hashed and compared at once.
type Kind uint64

// The kinds of keys. Zero is none.
const (
	IPv4        Kind = iota + 1 // an address
	IPv6                        // a /64
	Network                     // a /48
	Hash                        // the hash of anything else
	IPv4Network                 // a /24, which has no bucket
	Everyone                    // all addresses
)

// NetworkFactor is the budget of an IPv6 /48, in budgets of an address.
const NetworkFactor = 16

// KeysOf returns the keys of an address and of its network. IPv4 has no network, so its
// second key is zero. Both are zero for an invalid address, as of a Unix socket.
func KeysOf(addr netip.Addr) (client, network Key) {
	addr = addr.Unmap() // on a dual-stack socket, all IPv4 clients are in ::/64 otherwise
	switch {
	case addr.Is4():
		a := addr.As4()
		client = Key{IPv4, uint64(binary.BigEndian.Uint32(a[:]))}
	case addr.Is6():
		a := addr.As16()
		prefix := binary.BigEndian.Uint64(a[:])
		client, network = Key{IPv6, prefix}, Key{Network, prefix >> 16}
	}
	return client, network
}

// factor returns how much larger the bucket of the key is than those of addresses.
func (k Key) factor() int {
	if k.Kind == Network {
		return NetworkFactor
	}
	return 1
}
