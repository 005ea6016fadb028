package peerjs

import (
	"context"
	"testing"
)

// TestRestart has a process that begins with the mailboxes of an earlier one.
func TestRestart(t *testing.T) {
	const a, b, elsewhere = "192.0.2.1", "192.0.2.2", "192.0.2.3"
	c := testConfig()
	before := serve(t, c)
	x, y := before.open("x", "t1", a), before.open("y", "t2", b)
	before.open("z", "t3", a)
	left := before.open("left", "t4", a)
	left.leave()
	before.awaitLost("left")
	x.deaf.Store(true)
	y.message("OFFER", "x", `1`)
	y.expectNothing()
	before.Stop(1001)
	y.expectEnd()
	if code := y.code.Load(); code != 1001 {
		t.Errorf("got code %d, want 1001", code)
	}
	if resp, _ := before.get("/peerjs/id"); resp.StatusCode != 200 {
		t.Errorf("while it stops: got %s", resp.Status)
	}
	x.hangUp()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	if err := before.Wait(ctx); err != nil {
		t.Fatal(err)
	}

	after := serve(t, c)
	after.dial("x", "stranger", elsewhere).expect(string(idTakenFrame))
	x = after.open("x", "t1", elsewhere)
	x.expectFrom("OFFER", "y", `1`)
	x.expectNothing()
	after.open("z", "reloaded", a)
	after.open("left", "stranger", elsewhere)
	y = after.open("y", "t2", elsewhere)
	y.message("OFFER", "x", `2`)
	x.expectFrom("OFFER", "y", `2`)
}
