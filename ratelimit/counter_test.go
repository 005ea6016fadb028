package ratelimit

import (
	"net/netip"
	"testing"
)

func TestNetworkCountsSixteenTimesAsMany(t *testing.T) {
	var c counter
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
		t.Error("want another client of the network refused, and another network admitted")
	}
	for _, keys := range [][2]key{client(99, 0), client(1, 0), client(0, 0), client(99, 1)} {
		c.leave(keys)
	}
	if c.enter(client(99, 0), limit) || c.enter(keysOf(addr("192.0.2.1")), 1) || !c.enter(keysOf(addr("192.0.2.1")), 1) {
		t.Error("want room after a release, and IPv4 addresses counted one by one")
	}
	c.leave(client(99, 0))
	for i := range byte(networkFactor) {
		for range limit {
			c.leave(client(i, 0))
		}
	}
	if len(c.count) != 1 {
		t.Errorf("%d entries left, want only that of 192.0.2.1", len(c.count))
	}
}
