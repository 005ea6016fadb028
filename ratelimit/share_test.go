package ratelimit

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
)

func ipv4(network, host int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(network >> 8), byte(network), byte(host)})
}

// take reserves as much as a client can get, and returns how much that is.
func take(s *Share, addr netip.Addr) (n int64) {
	for size := s.limits.Ceiling; size > 0; {
		if s.Reserve(addr, size) {
			n += size
		} else {
			size /= 2
		}
	}
	return n
}

func TestShareShrinks(t *testing.T) {
	const ceiling = 1 << 20
	for _, row := range []struct {
		name    string
		used    int64
		client  int64
		network int64
	}{
		{name: "idle", used: 0, client: ceiling / 4, network: ceiling / 4},
		{name: "a quarter used", used: ceiling / 4, client: 3 * ceiling / 16, network: 3 * ceiling / 16},
		{name: "half used", used: ceiling / 2, client: ceiling / 240, network: ceiling / 240 * 16},
		{name: "all but the reserve", used: ceiling - ceiling/16, client: ceiling / 240, network: ceiling / 240 * 16},
		{name: "part of the reserve", used: ceiling - ceiling/16 + 1, client: ceiling / 4096, network: ceiling / 256},
		{name: "full", used: ceiling, client: ceiling / 4096, network: ceiling / 256},
	} {
		limits := NewShare(ShareLimits{Ceiling: ceiling}).Limits()
		if got := limits.quota(row.used, 1); got != row.client {
			t.Errorf("%s: got a client's share of %d, want %d", row.name, got, row.client)
		}
		if got := limits.quota(row.used, networkFactor); got != row.network {
			t.Errorf("%s: got a network's share of %d, want %d", row.name, got, row.network)
		}
	}
}

// TestShareNeverGrowsWithUse checks every state of many ceilings, small ones included, where
// parts of a ceiling round to zero.
func TestShareNeverGrowsWithUse(t *testing.T) {
	for _, limits := range []ShareLimits{
		{Ceiling: 1}, {Ceiling: 2}, {Ceiling: 15}, {Ceiling: 16}, {Ceiling: 17}, {Ceiling: 100}, {Ceiling: 240}, {Ceiling: 1000},
		{Ceiling: 5000}, {Ceiling: 5000, MinPerClient: 3}, {Ceiling: 5000, MinPerClient: 400}, {Ceiling: 5000, MaxPerClient: 10},
	} {
		l := NewShare(limits).Limits()
		for _, factor := range factors {
			last := l.quota(0, factor)
			for used := range l.Ceiling + 1 {
				got := l.quota(used, factor)
				if got > last || got < 1 {
					t.Fatalf("%+v, factor %d: got a share of %d with %d used, after %d", limits, factor, got, used, last)
				}
				last = got
			}
		}
	}
}

func TestShareWithoutCeiling(t *testing.T) {
	s := NewShare(ShareLimits{})
	if !s.Reserve(ipv4(1, 1), 1<<50) {
		t.Error("a share without a ceiling refused a reservation")
	}
	s = NewShare(ShareLimits{MaxPerClient: 2})
	if !s.Reserve(ipv4(1, 1), 2) || s.Reserve(ipv4(1, 1), 1) {
		t.Error("got another maximum of a client than 2")
	}
}

func TestShareGroupsClients(t *testing.T) {
	for _, row := range []struct {
		name, a, b      string
		client, network bool // whether both count as one
	}{
		{"one address", "192.0.2.1", "192.0.2.1", true, true},
		{"one /24", "192.0.2.1", "192.0.2.2", false, true},
		{"two /24", "192.0.2.1", "192.0.3.1", false, false},
		{"mapped", "192.0.2.1", "::ffff:192.0.2.1", true, true},
		{"one /64", "2001:db8::1", "2001:db8::2", true, true},
		{"one /48", "2001:db8::1", "2001:db8:0:1::1", false, true},
		{"two /48", "2001:db8::1", "2001:db8:1::1", false, false},
		{"IPv4 and IPv6", "0.0.0.0", "::", false, false},
	} {
		a, b := shareKeys(netip.MustParseAddr(row.a)), shareKeys(netip.MustParseAddr(row.b))
		if (a[0] == b[0]) != row.client || (a[1] == b[1]) != row.network {
			t.Errorf("%s: got one client %v, one network %v; want %v, %v", row.name, a[0] == b[0], a[1] == b[1], row.client, row.network)
		}
	}
}

func TestShareOfUnknownClients(t *testing.T) {
	s := NewShare(ShareLimits{Ceiling: 100})
	if !s.Reserve(netip.Addr{}, 100) {
		t.Error("a reservation without an address is refused below the ceiling")
	}
	if s.Reserve(netip.Addr{}, 1) {
		t.Error("a reservation without an address is granted above the ceiling")
	}
}

// TestShareHasRoomForNewcomers is the contract of a Share: whatever other clients hold, and in
// whatever order they reserve and release, a newcomer gets its minimum.
func TestShareHasRoomForNewcomers(t *testing.T) {
	for _, row := range []struct {
		name   string
		others int
		addr   func(i int) netip.Addr
	}{
		{"1 client", 1, func(int) netip.Addr { return ipv4(1, 1) }},
		{"4 clients", 4, func(i int) netip.Addr { return ipv4(i, 1) }},
		{"256 clients of one network", 256, func(i int) netip.Addr { return ipv4(1, i) }},
		{"100 networks", 100, func(i int) netip.Addr { return ipv4(i, 1) }},
		{"255 networks", 255, func(i int) netip.Addr { return ipv4(i, 1) }},
		{"7 networks of 36 clients", 252, func(i int) netip.Addr { return ipv4(i%7, i/7) }},
	} {
		for _, ceiling := range []int64{4096, 100_000, 1 << 26} {
			t.Run(fmt.Sprint(row.name, ", ", ceiling), func(t *testing.T) {
				s := NewShare(ShareLimits{Ceiling: ceiling})
				for i := range row.others {
					take(s, row.addr(i))
				}
				for i := range row.others { // again, in case of a share that has grown
					take(s, row.addr(i))
				}
				if !s.Reserve(ipv4(1000, 1), s.Limits().MinPerClient) {
					t.Errorf("the newcomer is refused with %d of %d used", s.Used(), ceiling)
				}
			})
		}
	}
}

// TestShareFitsManyFullClients checks that a hundred clients that take all they can, each
// from its own network, leave a useful share to the last one.
func TestShareFitsManyFullClients(t *testing.T) {
	const ceiling = 1 << 26
	s := NewShare(ShareLimits{Ceiling: ceiling})
	for i := range 100 {
		if got := take(s, ipv4(i, 1)); got < ceiling/240 {
			t.Fatalf("client %d: got %d, want at least %d", i, got, ceiling/240)
		}
	}
}

func TestShareDryRun(t *testing.T) {
	s := NewShare(ShareLimits{Ceiling: 10, DryRun: true})
	if !s.Reserve(ipv4(1, 1), 10) || s.Refused() != 1 || s.Used() != 10 {
		t.Errorf("over the share: got %d used and %d refusals, want 10 and 1", s.Used(), s.Refused())
	}
	if s.Reserve(ipv4(2, 1), 1) || s.Refused() != 2 || s.Used() != 10 {
		t.Errorf("over the ceiling: got %d used and %d refusals, want 10 and 2", s.Used(), s.Refused())
	}
}

func TestShareTableIsBounded(t *testing.T) {
	s := NewShare(ShareLimits{Ceiling: 1 << 40})
	for i := range DefaultTableSize {
		s.Reserve(netip.AddrFrom4([4]byte{byte(i >> 16), byte(i >> 8), byte(i), 1}), 1)
	}
	if len(s.held) > DefaultTableSize+1 {
		t.Errorf("got %d entries, want at most %d", len(s.held), DefaultTableSize+1)
	}
	if !s.Reserve(netip.AddrFrom4([4]byte{0, 0, 1, 1}), 1) {
		t.Error("a client with an entry is refused")
	}
}

func TestShareDoesNotAllocate(t *testing.T) {
	s, addr := NewShare(ShareLimits{Ceiling: 100}), ipv4(1, 1)
	s.Reserve(addr, 1)
	if n := testing.AllocsPerRun(1000, func() {
		s.Reserve(addr, 1)
		s.Release(addr, 1)
	}); n != 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}

func TestShareConcurrently(t *testing.T) {
	s := NewShare(ShareLimits{Ceiling: 1000})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 1000 {
				if s.Reserve(ipv4(i, 1), 150) {
					if used := s.Used(); used > 1000 {
						t.Errorf("got %d used, want at most 1000", used)
					}
					s.Release(ipv4(i, 1), 150)
				}
			}
		})
	}
	wg.Wait()
	if s.Used() != 0 || len(s.held) != 0 {
		t.Errorf("got %d used and %d entries after all releases", s.Used(), len(s.held))
	}
}

// shareModel is a Share that adds up all reservations each time.
type shareModel struct {
	limits ShareLimits
	held   map[netip.Addr]int64
}

func (m *shareModel) sum(count func(netip.Addr) bool) (n int64) {
	for addr, held := range m.held {
		if count(addr) {
			n += held
		}
	}
	return n
}

// allows states the contract in other words than Share: by parts of the ceiling.
func (m *shareModel) allows(addr netip.Addr, n int64) bool {
	network, _ := addr.Prefix(24)
	used := m.sum(func(netip.Addr) bool { return true }) + n
	client := m.held[addr] + n
	ofNetwork := m.sum(network.Contains) + n
	c, least := m.limits.Ceiling, m.limits.MinPerClient
	switch {
	case used > c:
		return false
	case c-used > c/2:
		return client <= max((c-used)/4, least) && ofNetwork <= max((c-used)/4, 16*least)
	case c-used >= c/16:
		return client <= max(c/240, least) && ofNetwork <= 16*max(c/240, least)
	}
	return client <= least && ofNetwork <= 16*least
}

// newcomerFits reports whether the contract promises a newcomer its minimum.
func (m *shareModel) newcomerFits() bool {
	return int64(len(m.held)+1)*m.limits.MinPerClient <= m.limits.Ceiling/16
}

// FuzzShare compares a Share with its model. Each three bytes are a client and how much it
// reserves or releases.
func FuzzShare(f *testing.F) {
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 0))
		ops := make([]byte, 3*400)
		for i := range ops {
			ops[i] = byte(r.Uint32())
		}
		f.Add(uint16(4096), ops)
		f.Add(uint16(seed), ops)
	}
	f.Fuzz(func(t *testing.T, ceiling uint16, ops []byte) {
		s := NewShare(ShareLimits{Ceiling: int64(ceiling) + 1})
		m := &shareModel{s.Limits(), map[netip.Addr]int64{}}
		for ; len(ops) >= 3; ops = ops[3:] {
			addr, n := ipv4(int(ops[0]>>5), int(ops[0]&31)), int64(ops[1])<<(ops[2]>>4)
			if ops[2]&1 == 1 {
				n = min(n, m.held[addr])
				s.Release(addr, n)
				m.held[addr] -= n
			} else {
				want := m.allows(addr, n)
				if got := s.Reserve(addr, n); got != want {
					t.Fatalf("reserve %d for %v with %d of %d used: got %v, want %v", n, addr, s.Used(), s.limits.Ceiling, got, want)
				}
				if want {
					m.held[addr] += n
				}
			}
			if m.held[addr] == 0 {
				delete(m.held, addr)
			}
			if used := m.sum(func(netip.Addr) bool { return true }); s.Used() != used || used > s.limits.Ceiling {
				t.Fatalf("got %d used, want %d and at most %d", s.Used(), used, s.limits.Ceiling)
			}
			if newcomer := ipv4(1000, 1); m.newcomerFits() {
				if !s.Reserve(newcomer, s.limits.MinPerClient) {
					t.Fatalf("the newcomer is refused with %d of %d used by %d clients", s.Used(), s.limits.Ceiling, len(m.held))
				}
				s.Release(newcomer, s.limits.MinPerClient)
			}
		}
	})
}
