package turn

import (
	"bytes"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v4"

	"inbox/turn/internal/quota"
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
					exchange(t, bob, alice, bytes.Repeat([]byte{byte(i)}, 20*i+5)) // pion's client delays less than 5 bytes over TLS
				}
				eventually(t, "the count of 100 packets", func() bool {
					state := ts.State()
					return state.UDP.RelayedPackets+state.TLS.RelayedPackets >= 100
				})
				if state := ts.State(); state.UDP.Allocations+state.TLS.Allocations != 2 {
					t.Errorf("got %+v, want 2 allocations", state)
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

func TestInvalidConfig(t *testing.T) {
	for name, config := range map[string]Config{
		"short secret": {Secret: []byte("short")},
		"IPv6 relays":  {Secret: testSecret, Relays: netip.MustParsePrefix("2001:db8::/64")},
	} {
		if s, err := New(config); err == nil {
			s.Close()
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestCloseEndsEverything(t *testing.T) {
	share := &countingShare{max: 10}
	ts := newTestServer(t, func(c *Config) { c.Allocations = share })
	for over := range transports {
		ts.newRawClient(t, over, "alice").allocate()
	}
	silent := ts.newRawClient(t, overTLS, "bob")
	if err := ts.Close(); err != nil {
		t.Fatal(err)
	}
	if got := ts.State(); got.UDP.Allocations+got.TLS.Allocations != 0 || got.Streams != 0 || share.held.Load() != 0 {
		t.Errorf("got %+v, %d held", got, share.held.Load())
	}
	silent.conn.SetReadDeadline(time.Now().Add(testTimeout))
	if _, _, err := silent.conn.ReadFrom(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a stream is open: %v", err)
	}
	if err := ts.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestLedgerSurvivesRestart(t *testing.T) {
	change := func(c *Config) { c.MonthBytes = 1 << 30 }
	ts := newTestServer(t, change)
	alice, bob := ts.newRawClient(t, overUDP, "alice"), ts.newRawClient(t, overUDP, "bob")
	a, b := alice.allocate(), bob.allocate()
	alice.expect(0, stun.MethodChannelBind, channelNumberAttr(0x4000), peer(b))
	bob.expect(0, stun.MethodCreatePermission, peer(a))
	alice.send(channelData(0x4000, string(make([]byte, 1000))))
	bob.receive()
	ledger := ts.Ledger()
	next := newTestServer(t, func(c *Config) { change(c); c.Ledger = ledger })
	if got := next.State(); got.MonthBytes != 1000+quota.HeaderBytes || got.MonthLimit != 1<<30 {
		t.Errorf("got %d of %d bytes, want %d", got.MonthBytes, got.MonthLimit, 1000+quota.HeaderBytes)
	}
	var log bytes.Buffer
	newTestServer(t, func(c *Config) {
		change(c)
		c.Ledger, c.Logger = []byte("damaged"), slog.New(slog.NewTextHandler(&log, nil))
	})
	if !strings.Contains(log.String(), "invalid ledger") {
		t.Errorf("got log %q", log.String())
	}
}

func TestStateHasAllReasons(t *testing.T) {
	s := newPipeServer(t, nil)
	state := s.State()
	if got := len(state.Refused); got != int(refusals)-1 {
		t.Errorf("got %d reasons of refusals, want %d", got, refusals-1)
	}
	if _, unnamed := state.Dropped[""]; unnamed || len(state.Dropped) != int(dropReasons)-1+5 {
		t.Errorf("got %v", state.Dropped)
	}
	for reason := notRefused + 1; reason < refusals; reason++ {
		if row := refusalTable[reason]; row.name == "" || row.code < 400 {
			t.Errorf("reason %d: got %+v", reason, row)
		}
	}
}

// TestOnlyOneFileKnowsTheLibrary keeps pion/turn replaceable.
func TestOnlyOneFileKnowsTheLibrary(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if file == "pion.go" || strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, imported := range source.Imports {
			if strings.Contains(imported.Path.Value, "/pion/turn") {
				t.Errorf("%s imports %s", file, imported.Path.Value)
			}
		}
	}
}
