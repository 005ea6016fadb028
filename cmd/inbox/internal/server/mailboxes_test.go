package server

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

func TestCleanupFreesMemory(t *testing.T) {
	t.Parallel()
	srv := newTestServer(t, "-inbox-timeout", "1")
	claim, _ := http.NewRequest("GET", "/inbox?wait=0", nil)
	claim.SetBasicAuth("alice", "secret")
	srv.handler.ServeHTTP(httptest.NewRecorder(), claim)
	if n := srv.mailboxes.stats().Inboxes; n != 1 {
		t.Fatalf("got %d inboxes after one claim, want 1", n)
	}
	var sweeping sync.WaitGroup
	defer sweeping.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sweeping.Go(func() { srv.sweep(ctx) })
	for deadline := time.Now().Add(10 * time.Second); srv.mailboxes.stats().Inboxes > 0; {
		if time.Now().After(deadline) {
			t.Fatal("the inbox was not freed")
		}
	}
}
