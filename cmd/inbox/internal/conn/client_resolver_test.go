package conn

import (
	"net"
	"net/http"
	"net/netip"
	"testing"

	"inbox/inbox"
	"inbox/ratelimit"
)

func TestPayer(t *testing.T) {
	clients := NewClientResolver(&ratelimit.ClientIP{}, []byte("one"))
	payer := func(host string) inbox.Payer {
		return clients.Payer(&http.Request{RemoteAddr: net.JoinHostPort(host, "4711")})
	}
	for _, tt := range []struct {
		a, b            string
		client, network bool // whether a and b are equal in it
	}{
		{"192.0.2.1", "192.0.2.1", true, true},
		{"192.0.2.1", "192.0.2.2", false, true}, // IPv4 has no network
		{"192.0.2.1", "::ffff:192.0.2.1", true, true},
		{"::ffff:192.0.2.1", "::ffff:192.0.2.2", false, true},
		{"2001:db8::1", "2001:db8::ffff:2", true, true},
		{"2001:db8::1", "2001:db8:0:1::1", false, true},
		{"2001:db8::1", "2001:db8:1::1", false, false},
		{"192.0.2.1", "2001:db8::1", false, false},
		{"fe80::1%eth0", "fe80::2%eth1", true, true},
	} {
		a, b := payer(tt.a), payer(tt.b)
		if (a.Client == b.Client) != tt.client || (a.Network == b.Network) != tt.network {
			t.Errorf("%s and %s: same client %v, same network %v; want %v, %v", tt.a, tt.b,
				a.Client == b.Client, a.Network == b.Network, tt.client, tt.network)
		}
	}
	if payer("192.0.2.1").Network != "" {
		t.Error("an IPv4 address has a network")
	}
	if payer("192.0.2.1") == NewClientResolver(&ratelimit.ClientIP{}, []byte("two")).Payer(&http.Request{RemoteAddr: "192.0.2.1:4711"}) {
		t.Error("two secrets yield the same payer, so a payer reveals its address")
	}
	if got := clients.Payer(&http.Request{RemoteAddr: "@"}); got != (inbox.Payer{}) {
		t.Errorf("payer of a Unix socket: got %q, want none", got)
	}
}

// TestClientIsResolvedOncePerConnection checks that the first request determines the client
// of a connection, whose buckets it remembers, except on a connection from a proxy, which serves
// many clients.
func TestClientIsResolvedOncePerConnection(t *testing.T) {
	clients := NewClientResolver(&ratelimit.ClientIP{Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, []byte("one"))
	server, client := net.Pipe()
	defer server.Close()
	defer client.Close()
	for _, row := range []struct{ peer, first, second string }{
		{"192.0.2.1:1", "192.0.2.1", "192.0.2.1"},
		{"10.0.0.1:1", "198.51.100.1", "198.51.100.2"},
	} {
		r := (&http.Request{}).WithContext(WithInfo(t.Context(), server))
		r.RemoteAddr = row.peer
		for i, want := range []string{row.first, row.second} {
			r.Header = http.Header{"X-Forwarded-For": {[]string{"198.51.100.1", "198.51.100.2"}[i]}}
			if got := clients.Addr(r).String(); got != want {
				t.Errorf("request %d from %s: got %s, want %s", i+1, row.peer, got, want)
			}
			if got, want := clients.Client(r), row.first == row.second; (got != nil) != want || got != clients.Client(r) || want && got.Addr().String() != row.first {
				t.Errorf("request %d from %s: got the client %v, want one: %v", i+1, row.peer, got, want)
			}
			if clients.Payer(r) == (inbox.Payer{}) {
				t.Errorf("request %d from %s has no payer", i+1, row.peer)
			}
		}
	}
}
