package quota

import (
	"net/netip"
	"testing"
	"time"
)

// bytesIn returns what a rate sends in a duration, with its burst.
func bytesIn(bits int64, d, burst time.Duration) int64 {
	return bits / 8 * int64(d+burst) / int64(time.Second)
}

func openAt(t testing.TB, q *Quota, addr string) *Flow {
	t.Helper()
	f, err := q.Open(netip.MustParseAddr(addr), Payer{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func sum(values []int64) (total int64) {
	for _, v := range values {
		total += v
	}
	return total
}

func TestRates(t *testing.T) {
	const d = 20 * time.Second
	rows := []struct {
		name      string
		rate      int64
		addresses []string // one flow each
		want      int64
	}{
		{"one flow", 0, []string{"192.0.2.1"}, FlowBits},
		{"one address", 0, []string{"192.0.2.1", "192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1"}, AddressBits},
		{"two addresses", 0, []string{"192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"}, AddressBits + FlowBits},
		{"one /64", 0, []string{"2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4", "2001:db8::5", "2001:db8::6"}, AddressBits},
		{"one /48", 0, manySubnets("2001:db8:1:"), NetworkBits},
		{"two /48", 0, append(manySubnets("2001:db8:1:"), manySubnets("2001:db8:2:")...), 2 * NetworkBits},
		{"whole server", 20_000_000, []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"}, 20_000_000},
		{"server above the flow", 100_000_000, []string{"192.0.2.1"}, FlowBits},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			q, c := newTestQuota(t, row.rate, 0)
			var flows []*Flow
			for _, addr := range row.addresses {
				flows = append(flows, openAt(t, q, addr))
			}
			got := sum(sendFor(c, d, 1200, flows...))
			if want := bytesIn(row.want, d, burst); !within(got, want) {
				t.Errorf("got %d bytes, want %d", got, want)
			}
		})
	}
}

// manySubnets returns an address in each of 20 /64 of a /48.
func manySubnets(network string) (addresses []string) {
	for i := range 20 {
		addresses = append(addresses, network+string(rune('a'+i%6))+string(rune('0'+i/6))+"::1")
	}
	return addresses
}

func TestReopeningBringsNoBurst(t *testing.T) {
	q, c := newTestQuota(t, 0, 0)
	const d = 10 * time.Second
	var sent int64
	for range d / (10 * time.Millisecond) {
		for range 10 {
			f := openAt(t, q, "192.0.2.1")
			for f.Allow(1200) {
				sent += 1200 + HeaderBytes
			}
			f.Close()
		}
		c.advance(10 * time.Millisecond)
	}
	if want := bytesIn(AddressBits, d, burst); !within(sent, want) {
		t.Errorf("got %d bytes, want %d", sent, want)
	}
}

func TestAddressesAreForgotten(t *testing.T) {
	q, c := newTestQuota(t, 0, 0)
	for i := range 1000 {
		addr, _ := client(i)
		f, err := q.Open(addr, Payer{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		f.Allow(1200)
		f.Close()
		f.Close()
	}
	c.advance(2 * time.Second)
	f := openAt(t, q, "2001:db8::1")
	if got := len(q.addresses.rates); got != 2 {
		t.Errorf("got %d addresses, want the /64 and the /48 of the open flow", got)
	}
	f.Close()
	if got := q.State().Flows; got != 0 {
		t.Errorf("got %d flows, want 0", got)
	}
}

// TestQuietBesideGreedy has eight addresses that use all they get of the server's rate, and
// one that sends 300 kbit/s: less than a sixteenth of that rate.
func TestQuietBesideGreedy(t *testing.T) {
	q, c := newTestQuota(t, 10_000_000, 0)
	var greedy []*Flow
	for i := range 8 {
		addr, _ := client(i)
		for range 4 {
			f, err := q.Open(addr, Payer{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			greedy = append(greedy, f)
		}
	}
	sendFor(c, 5*time.Second, 1200, greedy...)
	quiet := openAt(t, q, "192.0.2.1")
	lost := 0
	for range 300 {
		sendFor(c, 20*time.Millisecond, 1200, greedy...)
		if !quiet.Allow(750) {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("lost %d of 300 packets of a quiet address", lost)
	}
}

func TestSmallPackets(t *testing.T) {
	q, c := newTestQuota(t, 0, 0)
	const d = 10 * time.Second
	sent := sum(sendFor(c, d, 1, openAt(t, q, "192.0.2.1"))) / (1 + HeaderBytes)
	if want := bytesIn(FlowBits, d, burst) / leastBytes; !within(sent, want) {
		t.Errorf("got %d packets of one byte, want %d", sent, want)
	}
}

func TestRefusedPacketIsNotCharged(t *testing.T) {
	q, c := newTestQuota(t, 1_000_000, 0)
	f := openAt(t, q, "2001:db8::1")
	sendFor(c, time.Second, 1200, f)
	charges := func() [4]int64 {
		return [...]int64{f.rate.full.Load(), f.address.rate.full.Load(), f.network.rate.full.Load(), q.server.full.Load()}
	}
	for f.Allow(1200) {
	}
	before := charges()
	if f.Allow(1200) || q.State().DroppedServerRate == 0 {
		t.Fatal("got no packet over the server's rate")
	}
	if after := charges(); after != before {
		t.Errorf("charged %v, want %v", after, before)
	}
}

// TestEmptyPackets sends packets without payload: they count with their headers.
func TestEmptyPackets(t *testing.T) {
	const d = 10 * time.Second
	q, c := newTestQuota(t, 1_000_000, 0)
	sent := sum(sendFor(c, d, 0, openAt(t, q, "192.0.2.1")))
	if want := bytesIn(1_000_000, d, burst); sent > want || sent < want*9/10 {
		t.Errorf("got %d bytes with headers at the server's rate, want %d", sent, want)
	}
	if got := q.State().MonthBytes; got != sent {
		t.Errorf("the month counts %d bytes, want %d", got, sent)
	}
	q, c = newTestQuota(t, 0, gigabyte)
	f := openAt(t, q, "192.0.2.1")
	useUpTo(q, gigabyte-gigabyte/100)
	sent = sum(sendFor(c, d, 0, f))
	if want := bytesIn(SlowFlowBits, d, slowBurst); !within(sent, want) {
		t.Errorf("got %d bytes with headers from 99 %% on, want %d", sent, want)
	}
	useUpTo(q, gigabyte)
	c.advance(d)
	if f.Allow(0) || !f.ended.Load() {
		t.Error("an empty packet passed at 100 %")
	}
}

// TestHighRateCostsSomething uses the highest -turn-rate.
func TestHighRateCostsSomething(t *testing.T) {
	if got := (limit{bucket: new(bucket), bits: 1e12}).cost(HeaderBytes); got <= 0 {
		t.Errorf("an empty packet costs %d ns", got)
	}
}

// TestNetworkPriority has a /48 that sends from many /64, and an IPv4 address with one call.
func TestNetworkPriority(t *testing.T) {
	q, c := newTestQuota(t, 100_000_000, 0)
	quiet := openAt(t, q, "192.0.2.1")
	var greedy []*Flow
	for i := range 64 {
		addr := netip.MustParseAddr("2001:db8:1::1").As16()
		addr[7] = byte(i)
		greedy = append(greedy, openAt(t, q, netip.AddrFrom16(addr).String()))
	}
	lost := 0
	for range 1000 {
		sendFor(c, 10*time.Millisecond, 1000, greedy...)
		for range 2 {
			if !quiet.Allow(1000) {
				lost++
			}
		}
	}
	if lost > 0 {
		t.Errorf("lost %d of 2000 packets of a quiet address", lost)
	}
}

func TestRefund(t *testing.T) {
	q, _ := newTestQuota(t, 1_000_000, gigabyte)
	f, err := q.Open(netip.MustParseAddr("2001:db8::1"), Payer{hashOf(1), hashOf(2)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 400 { // more than the server's rate
		if !f.Allow(1000) {
			t.Fatal("a packet that was not sent used up the server's rate")
		}
		f.Refund(1000)
	}
	if got := q.State().MonthBytes; got != 0 {
		t.Errorf("the month counts %d bytes that were not sent", got)
	}
	for i, a := range f.accounts {
		if got := a.used.Load(); got != 0 {
			t.Errorf("account %d has %d bytes that were not sent", i, got)
		}
	}
	if got, want := f.rate.full.Load(), 400*(limit{bits: FlowBits}).cost(1000+HeaderBytes); got != want {
		t.Errorf("the flow's rate was charged %d ns, want %d", got, want)
	}
}
