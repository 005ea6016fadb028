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
				sent += 1200
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
	sent := sum(sendFor(c, d, 1, openAt(t, q, "192.0.2.1")))
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
