package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	// callTimeout bounds the whole test; two cores take a sixth of it.
	callTimeout  = 60 * time.Second
	payloadBytes = 1 << 20
)

// TestPeers lets a hundred pairs of peers call each other at once through one
// server. Each pair trickles its candidates, connects, and passes a megabyte. Not
// one may fail.
func TestPeers(t *testing.T) {
	server := "https://" + startInbox(t).Addr
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	payload := make([]byte, payloadBytes)
	rand.Read(payload)
	var failed atomic.Int32
	var wg sync.WaitGroup
	for i := range pairCount {
		wg.Go(func() {
			if err := call(ctx, server, i, payload); err != nil {
				failed.Add(1)
				t.Errorf("pair %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if n := failed.Load(); n > 0 {
		t.Errorf("%d of %d pairs failed, want none", n, pairCount)
	}
}

// call connects two peers. The one who calls begins at the same time as the one
// who is called, so that it sometimes knocks and sometimes finds the inbox there.
func call(ctx context.Context, server string, pair int, payload []byte) error {
	caller, err := newPeer(server, pair, "caller", "callee")
	if err != nil {
		return err
	}
	defer caller.pc.Close()
	callee, err := newPeer(server, pair, "callee", "caller")
	if err != nil {
		return err
	}
	defer callee.pc.Close()
	caller.payload = payload
	signaling, stopSignaling := context.WithCancel(ctx)
	defer stopSignaling()
	signalingDone := make(chan error, 2)
	go func() { signalingDone <- callee.runSignaling(signaling) }()
	go func() { signalingDone <- errors.Join(caller.offer(), caller.runSignaling(signaling)) }()
	if err := caller.waitForPayload(ctx, signalingDone); err != nil {
		return err
	}
	stopSignaling()
	return errors.Join(<-signalingDone, <-signalingDone, caller.checkTrickle(), callee.checkTrickle(),
		caller.client.Close(ctx), callee.client.Close(ctx))
}

// waitForPayload returns when the other side has the peer's cargo, whole.
func (p *peer) waitForPayload(ctx context.Context, signalingDone <-chan error) error {
	select {
	case got := <-p.payloadHash:
		if want := sha256.Sum256(p.payload); !bytes.Equal(got, want[:]) {
			return fmt.Errorf("the cargo arrived as %x, want %x", got, want)
		}
		return nil
	case err := <-signalingDone:
		return fmt.Errorf("signaling ended before the cargo arrived: %w", err)
	case <-ctx.Done():
		return fmt.Errorf("no cargo, the connection is %s: %w", p.pc.ConnectionState(), ctx.Err())
	}
}

// checkTrickle makes sure that candidates went by themselves, after a description
// that had none.
func (p *peer) checkTrickle() error {
	if sent := p.sentSignals.Load(); sent < 2 {
		return fmt.Errorf("%s sent %d signals, want a description and candidates", p.client.Name, sent)
	}
	return nil
}
