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
