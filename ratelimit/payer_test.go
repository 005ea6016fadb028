package ratelimit

import (
	"net/netip"
	"testing"
)

func TestPayer(t *testing.T) {
	key := []byte("one")
	for _, tt := range []struct {
		a, b            string
		client, network bool // whether they are equal
	}{
		{"192.0.2.1", "192.0.2.1", true, true},
		{"192.0.2.1", "192.0.2.2", false, true}, // both empty
		{"192.0.2.1", "::ffff:192.0.2.1", true, true},
		{"::ffff:192.0.2.1", "::ffff:192.0.2.2", false, true},
		{"2001:db8::1", "2001:db8::ffff:2", true, true},
		{"2001:db8::1", "2001:db8:0:1::1", false, true},
		{"2001:db8::1", "2001:db8:1::1", false, false},
		{"192.0.2.1", "2001:db8::1", false, false},
		{"fe80::1%eth0", "fe80::2%eth1", true, true},
	} {
		aClient, aNetwork := Payer(key, addr(tt.a))
		bClient, bNetwork := Payer(key, addr(tt.b))
		if (aClient == bClient) != tt.client || (aNetwork == bNetwork) != tt.network {
			t.Errorf("%s and %s: got same client %v, same network %v, want %v, %v", tt.a, tt.b,
				aClient == bClient, aNetwork == bNetwork, tt.client, tt.network)
		}
	}
	client, network := Payer(key, addr("192.0.2.1"))
	if len(client) != 16 || network != "" {
		t.Errorf("got client %q and network %q of an IPv4 address, want 16 bytes and none", client, network)
	}
	if other, _ := Payer([]byte("two"), addr("192.0.2.1")); other == client {
		t.Error("two keys give the same pseudonym, so the address can be recovered")
	}
	if client, network := Payer(key, netip.Addr{}); client != "" || network != "" {
		t.Errorf("got %q and %q of no address, want none", client, network)
	}
}
