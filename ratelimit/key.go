package ratelimit

import (
	"hash/maphash"
	"net/netip"
)

// key names one bucket in nine bytes: what kind it is of, and which. The zero
// key is limited by nothing.
type key [9]byte

const (
	kindIPv4    = '4' // a whole address
	kindIPv6    = '6' // a /64
	kindNetwork = 'n' // a /48
	kindHash    = 'h' // anything else, by its hash
)

// keysOf returns the keys of an address, the zero key where it has no second,
// and of none at all for a peer without one, as behind a Unix socket.
func keysOf(addr netip.Addr) [2]key {
	addr = addr.Unmap() // on a dual-stack socket all of IPv4 else has one /64
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

// hash is keyed, so that nobody can tell which keys meet.
func (k key) hash(seed maphash.Seed) uint64 { return maphash.Bytes(seed, k[:]) }

// Prefix returns the part of an address that counts as one client: the /32 of
// IPv4, mapped or not, the /64 of IPv6. It is invalid for an invalid address.
func Prefix(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap()
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	p, _ := addr.Prefix(bits)
	return p
}
