package ratelimit

import (
	"crypto/hmac"
	"crypto/sha256"
	"net/netip"
)

// Payer returns pseudonyms for those whose quotas a request counts against: the client
// (see [Prefix]) and, for IPv6, the /48 around it. They are HMAC-SHA256 values, truncated
// to 16 bytes, so that files and stores that contain them reveal no address without the
// key. Both are empty for an invalid address, and network is empty for IPv4.
func Payer(key []byte, addr netip.Addr) (client, network string) {
	addr = addr.Unmap()
	if !addr.IsValid() {
		return "", ""
	}
	client = hashPrefix(key, Prefix(addr))
	if addr.Is6() {
		prefix, _ := addr.Prefix(48) // fails only for more bits than the address has
		network = hashPrefix(key, prefix)
	}
	return client, network
}

func hashPrefix(key []byte, prefix netip.Prefix) string {
	mac := hmac.New(sha256.New, key)
	b, _ := prefix.MarshalBinary() // cannot fail for a valid prefix
	mac.Write(b)
	return string(mac.Sum(nil)[:16])
}
