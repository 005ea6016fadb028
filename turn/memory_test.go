package turn

import (
	"net/netip"
	"runtime"
	"testing"

	"github.com/pion/stun/v4"
)

// TestMemoryOfAllocations opens many allocations with a channel each. TLS adds about 10 KB
// to a stream.
func TestMemoryOfAllocations(t *testing.T) {
	const allocations = 300
	for _, row := range []struct {
		name                 string
		open                 func(*testing.T, *socketPair, int)
		goroutines, maxBytes int
	}{
		{"UDP", openUDPAllocation, 1, 12 << 10},
		{"stream", openStreamAllocation, 2, 20 << 10},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := newSocketPair(t)
			row.open(t, p, 0)
			before, goroutines := memoryInUse(), runtime.NumGoroutine()
			for i := range allocations {
				row.open(t, p, i+1)
			}
			if more := runtime.NumGoroutine() - goroutines; more > allocations*row.goroutines+5 {
				t.Errorf("got %d goroutines, want %d per allocation", more, row.goroutines)
			}
			bytes := (memoryInUse() - before) / allocations
			for range 10 { // each collection halves the stacks that are not used any more
				bytes = min(bytes, (memoryInUse()-before)/allocations)
			}
			if bytes > row.maxBytes && !raceEnabled {
				t.Errorf("got %d bytes per allocation, want at most %d", bytes, row.maxBytes)
			}
			t.Logf("%d bytes per allocation", bytes)
		})
	}
}

func memoryInUse() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}

// openUDPAllocation passes the requests of a client to the socket. The answers are lost.
func openUDPAllocation(t *testing.T, p *socketPair, i int) {
	var nonce stun.Nonce
	challenged := &fakeClient{from: somePeer}
	p.serveRequest(challenged, nil, stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest)).Raw)
	answer := stun.Message{Raw: challenged.sent[0]}
	if answer.Decode() != nil || nonce.GetFrom(&answer) != nil {
		t.Fatalf("got %x", answer.Raw)
	}
	creds := p.Credentials("alice", Payer{})
	realm := p.issuer.realm(netip.MustParseAddr("127.0.0.1"), p.config.Now())
	request := func(method stun.Method, attrs ...stun.Setter) {
		attrs = append([]stun.Setter{stun.TransactionID, stun.NewType(method, stun.ClassRequest)}, attrs...)
		m := stun.MustBuild(append(attrs, stun.NewUsername(creds.Username), stun.NewRealm(realm), nonce,
			stun.NewLongTermIntegrity(creds.Username, realm, creds.Password))...)
		source := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(10000+i))
		p.socket.handle(testMessage(m.Raw), fiveTuple{source, netip.MustParseAddr("127.0.0.1")})
	}
	before := p.State().UDP.Allocations
	request(stun.MethodAllocate, udpTransport)
	request(stun.MethodChannelBind, channelNumberAttr(0x4000), peer(somePeer))
	if got := p.State(); got.UDP.Allocations != before+1 || got.Refused["no-allocation"] != 0 {
		t.Fatalf("got %+v", got)
	}
}

func openStreamAllocation(t *testing.T, p *socketPair, _ int) {
	c, _ := p.rawPipe(t, "alice")
	c.allocate()
	c.expect(0, stun.MethodChannelBind, channelNumberAttr(0x4000), peer(somePeer))
}
