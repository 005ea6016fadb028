package ratelimit

import (
	"net/netip"
	"testing"
)

// TestNetworkHasSixteenTimesTheConnections: whoever has a /48 has 65536
// clients.
func TestNetworkHasSixteenTimesTheConnections(t *testing.T) {
	c := newCounter()
	client := func(subnet, network byte) [2]key {
		return keysOf(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, network, 0, subnet}))
	}
	const limit = 3
	for i := range byte(networkFactor) {
		for range limit {
			if c.enter(client(i, 0), limit) {
				t.Fatalf("client %d of the network was refused", i)
			}
		}
	}
	if !c.enter(client(99, 0), limit) || !c.enter(client(1, 0), limit) || c.enter(client(99, 1), limit) {
		t.Error("want the next of the network refused, and another network served")
	}
	for _, keys := range [][2]key{client(99, 0), client(1, 0), client(0, 0), client(99, 1)} {
		c.leave(keys)
	}
	if c.enter(client(99, 0), limit) || c.enter(keysOf(addr("192.0.2.1")), 1) || !c.enter(keysOf(addr("192.0.2.1")), 1) {
		t.Error("want room after one left, and one address of IPv4 for itself")
	}
	c.leave(client(99, 0))
	for i := range byte(networkFactor) {
		for range limit {
			c.leave(client(i, 0))
		}
	}
	if len(c.count) != 1 {
		t.Errorf("%d entries are left, want that of 192.0.2.1", len(c.count))
	}
}
