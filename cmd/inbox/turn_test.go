package main

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/stun/v4"
	pion "github.com/pion/turn/v5"

	"inbox/inbox/ice"
)

// turnServer returns the last server of GET /ice, which has credentials, and the UDP address.
func (p *program) turnServer(user string) (server ice.Server, udp string) {
	p.t.Helper()
	var answer struct{ ICEServers []ice.Server }
	got := p.want(http.StatusOK, "GET", "/ice", user, "")
	if err := json.Unmarshal([]byte(got.body), &answer); err != nil || len(answer.ICEServers) == 0 {
		p.t.Fatalf("GET /ice: got %s, %v", got.body, err)
	}
	server = answer.ICEServers[len(answer.ICEServers)-1]
	udp, _, _ = strings.Cut(strings.TrimPrefix(server.URLs[0], "turn:"), "?")
	if server.Credential == "" {
		p.t.Fatalf("GET /ice: got %s, want a TURN server", got.body)
	}
	return server, udp
}

// allocate opens a relay over a connection.
func allocate(t *testing.T, c net.PacketConn, udp string, server ice.Server) (*pion.Client, net.PacketConn, error) {
	t.Helper()
	client, err := pion.NewClient(&pion.ClientConfig{
		Conn: c, TURNServerAddr: udp, Username: server.Username, Password: server.Credential,
		LoggerFactory: &logging.DefaultLoggerFactory{Writer: io.Discard},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	if err := client.Listen(); err != nil {
		t.Fatal(err)
	}
	relay, err := client.Allocate()
	if err == nil {
		t.Cleanup(func() { relay.Close() })
	}
	return client, relay, err
}

func listenUDP(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// relayPacket sends a packet from one relay to another.
func relayPacket(t *testing.T, from, to *pion.Client, fromRelay, toRelay net.PacketConn) {
	t.Helper()
	if err := errors.Join(from.CreatePermission(toRelay.LocalAddr()), to.CreatePermission(fromRelay.LocalAddr())); err != nil {
		t.Fatal(err)
	}
	if _, err := fromRelay.WriteTo([]byte("hello"), toRelay.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	toRelay.SetReadDeadline(time.Now().Add(30 * time.Second))
	buf := make([]byte, 100)
	if n, _, err := toRelay.ReadFrom(buf); err != nil || string(buf[:n]) != "hello" {
		t.Fatalf("got %q, %v", buf[:n], err)
	}
}

// TestRelayOnTheHTTPSPort relays between a client over TLS, on the port of HTTPS, and one over
// UDP, and stops the server.
func TestRelayOnTheHTTPSPort(t *testing.T) {
	t.Parallel()
	p := start(t, "-turn", "auto", "-turn-bind", "127.0.0.1:0")
	alice, udp := p.turnServer("alice")
	bob, _ := p.turnServer("bob")
	for _, protocols := range [][]string{nil, {"stun.turn"}} {
		raw, err := tls.Dial("tcp", p.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: protocols})
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		overTLS, tlsRelay, err := allocate(t, pion.NewSTUNConn(raw), udp, alice)
		if err != nil {
			t.Fatalf("ALPN %q: %v", protocols, err)
		}
		overUDP, udpRelay, err := allocate(t, listenUDP(t), udp, bob)
		if err != nil {
			t.Fatal(err)
		}
		relayPacket(t, overTLS, overUDP, tlsRelay, udpRelay)
		relayPacket(t, overUDP, overTLS, udpRelay, tlsRelay)
	}
	if got := p.request("GET", "/healthz", "", ""); got.status != http.StatusOK {
		t.Errorf("HTTPS beside TURN: got %d", got.status)
	}
	if code := p.stop(); code != exitDone {
		t.Errorf("exit code %d:\n%s", code, p.log)
	}
}

// TestOccupiedTURNPort checks that a port of -turn-bind must be free.
func TestOccupiedTURNPort(t *testing.T) {
	occupied := listenUDP(t)
	code, _, stderr := runOnce(t, nil, "-bind", "127.0.0.1:0", "-state", t.TempDir(), "-turn-bind", occupied.LocalAddr().String())
	if code != exitFailure || !strings.Contains(stderr, "choose another port with -turn-bind") {
		t.Errorf("got code %d and %q, want 1 and a fix", code, stderr)
	}
}

// answersSTUN reports whether a UDP port answers a Binding request within the timeout.
func answersSTUN(t *testing.T, to net.Addr, timeout time.Duration) bool {
	t.Helper()
	c := listenUDP(t)
	request := stun.MustBuild(stun.TransactionID, stun.BindingRequest)
	for deadline := time.Now().Add(timeout); time.Now().Before(deadline); {
		if _, err := c.WriteTo(request.Raw, to); err != nil {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(time.Second))
		buf := make([]byte, 1500)
		n, _, err := c.ReadFrom(buf)
		answer := stun.Message{Raw: buf[:n]}
		if err == nil && answer.Decode() == nil && answer.TransactionID == request.TransactionID {
			return true
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("got %v, %v", buf[:n], err)
		}
	}
	return false
}
