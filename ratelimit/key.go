package ratelimit

import (
	"hash/maphash"
	"net/netip"
)

// key names one bucket in nine bytes: a kind and a value. The zero key is not limited.
type key [9]byte

const (
	kindIPv4    = '4' // an address
	kindIPv6    = '6' // a /64
	kindNetwork = 'n' // a /48
	kindHash    = 'h' // the hash of anything else

	kindIPv4Network = 'N' // a /24, which only a Share counts
	kindEveryone    = 'e' // all addresses
)

// keysOf returns the keys of an address and of its network. IPv4 has no network, so its
// second key is zero. Both are zero for an invalid address, as of a Unix socket.
func keysOf(addr netip.Addr) [2]key {
	addr = addr.Unmap() // on a dual-stack socket, all IPv4 clients are in ::/64 otherwise
	var keys [2]key
	switch {
	case addr.Is4():
		a := addr.As4()
		keys[0][0] = kindIPv4
		copy(keys[0][1:], a[:])
	case addr.Is6():
		a := addr.As16()
		keys[0][0], keys[1][0] = kindIPv6, kindNetwork
		copy(keys[0][1:], a[:8])
		copy(keys[1][1:], a[:6])
	}
	return keys
}

func hashKey(hash uint64) (k key) {
	k[0] = kindHash
	for i := range 8 {
		k[1+i] = byte(hash >> (8 * i))
	}
	return k
}

func (k key) isNetwork() bool { return k[0] == kindNetwork }

// hash is keyed, so that a client cannot predict which keys collide.
func (k key) hash(seed maphash.Seed) uint64 { return maphash.Bytes(seed, k[:]) }

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
