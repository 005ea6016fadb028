package turn

import (
	"bytes"
	"fmt"
	"testing"
	"time"
)

var transportNames = [transports]string{"UDP", "TLS"}

// TestRelayToRelay sends data between two relays in both directions until channels are bound,
// so that indications and ChannelData both pass.
func TestRelayToRelay(t *testing.T) {
	for a := range transports {
		for b := a; b < transports; b++ {
			t.Run(transportNames[a]+"-"+transportNames[b], func(t *testing.T) {
				ts := newTestServer(t, nil)
				alice, bob := ts.allocate(t, a, "alice"), ts.allocate(t, b, "bob")
				alice.permit(t, bob)
				bob.permit(t, alice)
				for i := range 50 {
					exchange(t, alice, bob, fmt.Append(nil, "to bob ", i))
					exchange(t, bob, alice, bytes.Repeat([]byte{byte(i)}, 20*i+1))
				}
				state := ts.State()
				if got := state.UDP.Allocations + state.TLS.Allocations; got != 2 {
					t.Errorf("got %d allocations, want 2", got)
				}
				if got := state.UDP.RelayedPackets + state.TLS.RelayedPackets; got < 100 {
					t.Errorf("got %d packets, want at least 100", got)
				}
			})
		}
	}
}

// exchange sends from one relay to the other until it arrives.
func exchange(t *testing.T, from, to *relayClient, payload []byte) {
	t.Helper()
	buf := make([]byte, 2000)
	for deadline := time.Now().Add(testTimeout); time.Now().Before(deadline); {
		if _, err := from.WriteTo(payload, to.LocalAddr()); err != nil {
			t.Fatalf("send: %v", err)
		}
		to.SetReadDeadline(time.Now().Add(time.Second))
		for {
			n, addr, err := to.ReadFrom(buf)
			if err != nil {
				break
			}
			if bytes.Equal(buf[:n], payload) && addr.String() == from.LocalAddr().String() {
				return
			}
		}
	}
	t.Fatalf("no packet of %d bytes arrived", len(payload))
}
