package memstore

import (
	"testing"
	"time"
)

// TestPutDoesNotWaitForClaimedName has the name claimed after the Put did not find
// it, and before it begins to wait.
func TestPutDoesNotWaitForClaimedName(t *testing.T) {
	s := &shard{boxes: map[string]*box{"bob": {}}, claimWaiters: map[string]*claimWaiter{}}
	timeout := make(chan time.Time)
	close(timeout)
	if err := s.awaitClaim(t.Context(), "bob", timeout); err != nil {
		t.Errorf("got %v, want no wait", err)
	}
}

// TestLateClaimWaiterKeepsNewer checks that a Put that was woken does not remove the
// waiters that came to the same name since.
func TestLateClaimWaiterKeepsNewer(t *testing.T) {
	late, newer := &claimWaiter{count: 1}, &claimWaiter{count: 1}
	s := &shard{claimWaiters: map[string]*claimWaiter{"bob": newer}}
	if s.removeClaimWaiter("bob", late); s.claimWaiters["bob"] != newer {
		t.Error("the newer waiter was removed")
	}
	if s.removeClaimWaiter("bob", newer); len(s.claimWaiters) != 0 {
		t.Errorf("got waiters %v left, want none", s.claimWaiters)
	}
}
