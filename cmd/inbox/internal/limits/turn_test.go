package limits

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// TestAnswersToForgedSources checks that no network gets more answers than its budget, however
// many addresses of it ask, and that all networks together get no more than theirs.
func TestAnswersToForgedSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turn := newTURN(Config{})
		count := func(format string, n int, from int) (answered int) {
			for i := range n {
				if turn.AllowAnswer(netip.MustParseAddr(fmt.Sprintf(format, from+i))) {
					answered++
				}
			}
			return answered
		}
		for _, format := range []string{"192.0.2.%d", "::ffff:198.51.100.%d", "2001:db8:1:%x::1"} {
			if got := count(format, 250, 1); got != answerBurst {
				t.Errorf("%s: got %d answers at once, want %d", format, got, answerBurst)
			}
		}
		time.Sleep(time.Second)
		if got := count("192.0.2.%d", 250, 1); got != answerRate {
			t.Errorf("got %d answers after a second, want %d", got, answerRate)
		}
		time.Sleep(time.Minute)
		if got := count("2001:db8:%x::1", 20000, 1); got != allAnswersBurst {
			t.Errorf("got %d answers to 20000 networks, want %d", got, allAnswersBurst)
		}
		if turn.AllowAnswer(netip.Addr{}) {
			t.Error("an invalid address gets an answer")
		}
	})
}

// TestOneAddressLeavesAnswersToItsNetwork asks from one address much more than it gets.
func TestOneAddressLeavesAnswersToItsNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turn := newTURN(Config{})
		greedy, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
		for second := range 60 {
			answered := 0
			for range 500 {
				if turn.AllowAnswer(greedy) {
					answered++
				}
			}
			if answered > addressAnswerBurst || !turn.AllowAnswer(other) {
				t.Fatalf("second %d: one address got %d answers, the other one none", second, answered)
			}
			time.Sleep(time.Second)
		}
	})
}

// TestProvenAddresses checks that a proven address needs nothing of the budget of its network.
func TestProvenAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turn := newTURN(Config{})
		for i := range 250 {
			turn.AllowAnswer(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
		}
		answered := 0
		for range 2 * provenBurst {
			if turn.AllowProven(netip.MustParseAddr("192.0.2.1")) {
				answered++
			}
		}
		if answered != provenBurst || !turn.AllowProven(netip.MustParseAddr("192.0.2.2")) {
			t.Errorf("got %d answers, want %d, and one for another address", answered, provenBurst)
		}
		if turn.AllowProven(netip.Addr{}) {
			t.Error("an invalid address gets an answer")
		}
	})
}

func TestAllocationsFollowTheMemory(t *testing.T) {
	for _, row := range []struct{ memory, want int64 }{
		{0, 2184}, {768 << 20, 1638}, {1 << 20, 64},
	} {
		if got := newTURN(Config{MaxMemoryBytes: row.memory}).Allocations.Limits().Ceiling; got != row.want {
			t.Errorf("%d bytes: got %d allocations, want %d", row.memory, got, row.want)
		}
	}
	share := newTURN(Config{MaxMemoryBytes: 768 << 20}).Allocations
	greedy, quiet := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1")
	for share.Reserve(greedy, 1) {
	}
	if share.Used() > 400 || !share.Reserve(quiet, 4) {
		t.Errorf("one address got %d of 1638 allocations", share.Used())
	}
}
