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
	// callTimeout bounds the whole test. On two cores it takes a sixth of that.
	callTimeout  = 60 * time.Second
	payloadBytes = 1 << 20
)

// TestPeers has a hundred pairs of peers call each other concurrently through one
// server. Each pair trickles its candidates, connects and transfers a megabyte. Every
// call must succeed.
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
		t.Errorf("got %d of %d calls failed, want none", n, pairCount)
	}
}

// call connects two peers. Both start at the same time, so the offer sometimes waits
// for the callee to claim its name.
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

// waitForPayload waits until the remote peer has received the whole payload.
func (p *peer) waitForPayload(ctx context.Context, signalingDone <-chan error) error {
	select {
	case got := <-p.payloadHash:
		if want := sha256.Sum256(p.payload); !bytes.Equal(got, want[:]) {
			return fmt.Errorf("got a payload with hash %x, want %x", got, want)
		}
		return nil
	case err := <-signalingDone:
		return fmt.Errorf("signaling ended before the payload arrived: %w", err)
	case <-ctx.Done():
		return fmt.Errorf("payload not received in connection state %s: %w", p.pc.ConnectionState(), ctx.Err())
	}
}

// checkTrickle checks that candidates were sent separately, after a description without
// candidates.
func (p *peer) checkTrickle() error {
	if sent := p.sentSignals.Load(); sent < 2 {
		return fmt.Errorf("%s: got %d signals sent, want a description and candidates", p.client.Name, sent)
	}
	return nil
}
