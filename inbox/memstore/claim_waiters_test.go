package memstore

import (
	"testing"
	"time"
)

// TestPutDoesNotWaitForClaimedName: it was claimed after the Put had found
// nobody, and before it began to wait.
func TestPutDoesNotWaitForClaimedName(t *testing.T) {
	s := &shard{boxes: map[string]*box{"bob": {}}, claimWaiters: map[string]*claimWaiter{}}
	timeout := make(chan time.Time)
	close(timeout)
	if err := s.awaitClaim(t.Context(), "bob", timeout); err != nil {
		t.Errorf("got %v, want no wait", err)
	}
}

// TestLateClaimWaiterKeepsNewer: a Put that was let in, and only now goes on, leaves
// alone who knocks at the same name since.
func TestLateClaimWaiterKeepsNewer(t *testing.T) {
	late, newer := &claimWaiter{count: 1}, &claimWaiter{count: 1}
	s := &shard{claimWaiters: map[string]*claimWaiter{"bob": newer}}
	if s.removeClaimWaiter("bob", late); s.claimWaiters["bob"] != newer {
		t.Error("the newer knock is forgotten, and would not be told of a claim")
	}
	if s.removeClaimWaiter("bob", newer); len(s.claimWaiters) != 0 {
		t.Errorf("got knocks %v left, want none", s.claimWaiters)
	}
}
