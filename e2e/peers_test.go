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
	callTimeout = 60 * time.Second
	cargoSize   = 1 << 20
)

// TestPeers lets a hundred pairs of peers call each other at once through one
// server. Each pair trickles its candidates, connects, and passes a megabyte. Not
// one may fail.
func TestPeers(t *testing.T) {
	server := "https://" + startInbox(t).Addr
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	cargo := make([]byte, cargoSize)
	rand.Read(cargo)
	var failed atomic.Int32
	var wg sync.WaitGroup
	for i := range pairCount {
		wg.Go(func() {
			if err := call(ctx, server, i, cargo); err != nil {
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
func call(ctx context.Context, server string, pair int, cargo []byte) error {
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
	caller.cargo = cargo
	signaling, hangUp := context.WithCancel(ctx)
	defer hangUp()
	ended := make(chan error, 2)
	go func() { ended <- callee.signal(signaling) }()
	go func() { ended <- errors.Join(caller.offer(), caller.signal(signaling)) }()
	if err := caller.wait(ctx, ended); err != nil {
		return err
	}
	hangUp()
	return errors.Join(<-ended, <-ended, caller.trickled(), callee.trickled(),
		caller.client.Close(ctx), callee.client.Close(ctx))
}

// wait returns when the other side has the peer's cargo, whole.
func (p *peer) wait(ctx context.Context, ended <-chan error) error {
	select {
	case got := <-p.receipt:
		if want := sha256.Sum256(p.cargo); !bytes.Equal(got, want[:]) {
			return fmt.Errorf("the cargo arrived as %x, want %x", got, want)
		}
		return nil
	case err := <-ended:
		return fmt.Errorf("signaling ended before the cargo arrived: %w", err)
	case <-ctx.Done():
		return fmt.Errorf("no cargo, the connection is %s: %w", p.pc.ConnectionState(), ctx.Err())
	}
}

// trickled makes sure that candidates went by themselves, after a description
// that had none.
func (p *peer) trickled() error {
	if sent := p.sent.Load(); sent < 2 {
		return fmt.Errorf("%s sent %d signals, want a description and candidates", p.client.Name, sent)
	}
	return nil
}
