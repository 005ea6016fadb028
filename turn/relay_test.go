package turn

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/stun/v4"
)

// callers is two clients of a server in a bubble of synctest. Alice has channel 0x4000 to Bob.
type callers struct {
	*Server
	alice, bob   *rawClient
	aliceR, bobR netip.AddrPort
}

func newCallers(t *testing.T, change func(*Config)) *callers {
	t.Helper()
	c := &callers{Server: newPipeServer(t, change)}
	c.alice, _ = c.rawPipe(t, "alice")
	c.bob, _ = c.rawPipe(t, "bob")
	c.aliceR, c.bobR = c.alice.allocate(), c.bob.allocate()
	c.refresh()
	return c
}

// refresh renews what expires.
func (c *callers) refresh() {
	for _, client := range []*rawClient{c.alice, c.bob} {
		client.nonce = nil // pion's nonces last an hour
		client.expect(0, stun.MethodRefresh, lifetimeHour)
	}
	c.alice.expect(0, stun.MethodChannelBind, channelNumberAttr(0x4000), peer(c.bobR))
	c.bob.expect(0, stun.MethodCreatePermission, peer(c.aliceR))
}

var lifetimeHour = attribute(stun.AttrLifetime, 0, 0, 3599>>8, 3599&0xff)

// sendToBob relays a packet, and reports whether it arrived.
func (c *callers) sendToBob(t *testing.T) bool {
	t.Helper()
	before := c.State().TLS.RelayedPackets
	c.alice.send(channelData(0x4000, "data"))
	c.alice.ask(stun.MethodBinding) // the packet was handled
	if c.State().TLS.RelayedPackets == before {
		return false
	}
	checkDataIndication(t, c.bob.receive(), c.aliceR, "data")
	return true
}

func TestPermissionsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCallers(t, nil)
		time.Sleep(permissionLifetime - time.Second)
		if !c.sendToBob(t) {
			t.Error("a permission expired early")
		}
		c.alice.expect(0, stun.MethodCreatePermission, peer(c.bobR))
		time.Sleep(time.Second)
		if c.sendToBob(t) || c.State().Dropped["peer-permission"] != 1 {
			t.Errorf("the permission of the receiver did not expire: %v", c.State().Dropped)
		}
		c.bob.expect(0, stun.MethodCreatePermission, peer(c.aliceR))
		if !c.sendToBob(t) {
			t.Error("the permission was not renewed")
		}
		time.Sleep(permissionLifetime - time.Second)
		if c.sendToBob(t) || c.State().Dropped["no-permission"] != 1 {
			t.Errorf("the permission of the sender did not expire: %v", c.State().Dropped)
		}
	})
}

func TestChannelsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCallers(t, nil)
		for range 2 {
			time.Sleep(permissionLifetime - time.Second)
			c.alice.expect(0, stun.MethodCreatePermission, peer(c.bobR))
			c.bob.expect(0, stun.MethodCreatePermission, peer(c.aliceR))
			if !c.sendToBob(t) {
				t.Error("the channel expired early")
			}
		}
		time.Sleep(2 * time.Second)
		if c.sendToBob(t) || c.State().Dropped["no-channel"] != 1 {
			t.Errorf("the channel did not expire: %v", c.State().Dropped)
		}
		c.alice.expect(0, stun.MethodChannelBind, channelNumberAttr(0x4000), peer(c.bobR))
		if !c.sendToBob(t) {
			t.Error("the channel was not bound again")
		}
	})
}

// TestIdleAllocationsEnd refreshes allocations without data, and then sends data in one
// direction, which keeps both.
func TestIdleAllocationsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCallers(t, nil)
		for range 10 {
			time.Sleep(4 * time.Minute)
			c.refresh()
			if !c.sendToBob(t) {
				t.Fatal("an allocation with data ended")
			}
		}
		for range 2 {
			time.Sleep(4 * time.Minute)
			c.refresh()
		}
		time.Sleep(maxIdle - 8*time.Minute - time.Second)
		if got := c.State().TLS.Allocations; got != 2 {
			t.Errorf("got %d allocations before the end", got)
		}
		time.Sleep(sweepInterval + time.Second)
		if got := c.State().TLS.Allocations; got != 0 {
			t.Errorf("got %d idle allocations", got)
		}
	})
}

func TestMaximumLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCallers(t, nil)
		start := time.Now()
		for time.Since(start) < MaxAllocationLifetime-4*time.Minute {
			time.Sleep(4*time.Minute - time.Second)
			c.refresh()
			if !c.sendToBob(t) {
				t.Fatalf("no data after %v", time.Since(start))
			}
		}
		time.Sleep(MaxAllocationLifetime - time.Since(start) + sweepInterval)
		if got := c.State().TLS.Allocations; got != 0 {
			t.Errorf("got %d allocations after %v", got, time.Since(start))
		}
	})
}

// TestLifetime lets an allocation expire that its client does not refresh.
func TestLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPipeServer(t, nil)
		c, served := s.rawPipe(t, "alice")
		c.expect(0, stun.MethodAllocate, udpTransport, lifetime(60))
		time.Sleep(59 * time.Second)
		if got := s.State().TLS.Allocations; got != 1 {
			t.Errorf("got %d allocations", got)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := s.State().TLS.Allocations; got != 0 {
			t.Errorf("got %d allocations after the lifetime", got)
		}
		<-served
	})
}

func TestRevoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCallers(t, nil)
		c.Revoke("alice")
		if got := c.State().TLS.Allocations; got != 1 || c.relays.get(c.aliceR) != nil {
			t.Errorf("got %d allocations, want only Bob's", got)
		}
		c.alice.expect(stun.CodeAllocMismatch, stun.MethodRefresh)
		c.alice.expect(stun.CodeUnauthorized, stun.MethodAllocate, udpTransport)
		time.Sleep(time.Second)
		c.alice.creds = c.Credentials("alice", Payer{})
		c.alice.allocate()
	})
}

// TestRevokeCredentials checks that allocations stay, and that no new one opens.
func TestRevokeCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCallers(t, nil)
		again, _ := c.rawPipe(t, "alice")
		c.RevokeCredentials("alice")
		c.RevokeCredentialsID(c.issuer.OwnerID("bob"), time.Now())
		again.expect(stun.CodeUnauthorized, stun.MethodAllocate, udpTransport)
		c.refresh()
		if got := c.State().TLS.Allocations; got != 2 {
			t.Errorf("got %d allocations, want both", got)
		}
		time.Sleep(time.Second)
		again.creds = c.Credentials("alice", Payer{})
		again.allocate()
	})
}

// TestRevokeDuringAllocate revokes an owner after the credentials were checked.
func TestRevokeDuringAllocate(t *testing.T) {
	p := newPair(t)
	id, refused := p.identify(p.Credentials("carol", Payer{}).Username, stun.MethodAllocate)
	if refused != notRefused {
		t.Fatalf("refused: %s", refusalTable[refused].name)
	}
	p.Revoke("carol")
	c := &fakeClient{from: netip.MustParseAddrPort("198.51.100.4:4000")}
	if _, refused := p.openAllocation(&request{client: c, identity: id}, 0); refused != refusedExpired || c.current != nil {
		t.Errorf("got refusal %d, allocation %v", refused, c.current)
	}
	if got := p.State().UDP.Allocations; got != 2 {
		t.Errorf("got %d allocations, want those of the pair", got)
	}
}

func TestWithPermissions(t *testing.T) {
	a, b := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:1")
	p := (&peers{}).withPermissions([]netip.AddrPort{a, a, b}, 0)
	if len(p.permissions) != 2 {
		t.Errorf("got %v", p.permissions)
	}
	next := p.withPermissions([]netip.AddrPort{b}, time.Minute)
	if !next.permit(a.Addr(), permissionLifetime-1) || next.permit(a.Addr(), permissionLifetime) {
		t.Errorf("got %v", next.permissions)
	}
	if !next.permit(b.Addr(), permissionLifetime+time.Minute-1) || p.permit(b.Addr(), permissionLifetime) {
		t.Errorf("got %v and %v", next.permissions, p.permissions)
	}
	if last := next.withPermissions(nil, permissionLifetime); len(last.permissions) != 1 {
		t.Errorf("got %v, want no expired permission", last.permissions)
	}
}

func TestWithChannel(t *testing.T) {
	a, b := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:1")
	p := (&peers{}).withChannel(0x4000, a, 0).withChannel(0x4001, b, 0).withChannel(0x4000, a, time.Minute)
	if len(p.channels) != 2 || len(p.permissions) != 2 {
		t.Fatalf("got %+v", p)
	}
	if got, bound := p.peerOf(0x4000, channelLifetime); !bound || got != a {
		t.Errorf("got %v, %v", got, bound)
	}
	if got, bound := p.channelOf(b, channelLifetime-1); !bound || got != 0x4001 {
		t.Errorf("got %v, %v", got, bound)
	}
	if _, bound := p.channelOf(b, channelLifetime); bound {
		t.Error("the channel did not expire")
	}
	if _, bound := p.peerOf(0x4002, 0); bound {
		t.Error("an unbound channel has a peer")
	}
}

func TestRelayAddresses(t *testing.T) {
	for _, text := range []string{"192.0.2.0/24", "198.51.100.7/32", "203.0.113.0/31", "203.0.113.128/25"} {
		prefix := netip.MustParsePrefix(text)
		r := newRelays(prefix)
		addrs := map[netip.Addr]bool{}
		for port := range 1 << 16 {
			addr := r.addrOf(uint16(port))
			if !prefix.Contains(addr.Addr()) || addr.Port() != uint16(port) || addr.Addr() != r.addrOf(uint16(port)^1).Addr() {
				t.Fatalf("%s: got %v for port %d", text, addr, port)
			}
			addrs[addr.Addr()] = true
		}
		if want := max(1, 1<<(32-prefix.Bits())-2); len(addrs) != want {
			t.Errorf("%s: got %d addresses, want %d", text, len(addrs), want)
		}
	}
}

func TestRelayTableIsBounded(t *testing.T) {
	r := newRelays(netip.MustParsePrefix("192.0.2.0/24"))
	var last *allocation
	for range maxRelays {
		last = &allocation{}
		if !r.add(last, 0) {
			t.Fatalf("refused with %d relays", len(r.byPort))
		}
	}
	if r.add(&allocation{}, 0) {
		t.Error("the table accepts more than its bound")
	}
	if r.get(last.relay) != last || r.get(netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 3, 1}), last.relay.Port())) != nil {
		t.Error("a relay is not found, or found by its port alone")
	}
	if !r.remove(last) || r.remove(last) || r.get(last.relay) != nil {
		t.Error("a relay is not removed once")
	}
	next := &allocation{}
	if r.add(&allocation{}, firstRelayPort-1) || !r.add(next, last.relay.Port()) || next.relay != last.relay {
		t.Error("a requested port is not used")
	}
	r.remove(next)
	if r.add(&allocation{}, r.addrOf(last.relay.Port()^1).Port()) && r.add(&allocation{}, last.relay.Port()^1) {
		t.Error("a port is given twice")
	}
}
