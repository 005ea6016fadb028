package ratelimit

import (
	"net"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestClientAddress(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	rows := []struct {
		name, header, peer string
		lines              []string
		want               string
	}{
		{"no proxy", "", "192.0.2.1:1234", nil, "192.0.2.1"},
		{"the header of an untrusted peer", "", "192.0.2.1:1234", []string{"198.51.100.1"}, "192.0.2.1"},
		{"a proxy", "", "10.0.0.1:1234", []string{"198.51.100.1"}, "198.51.100.1"},
		{"a proxy without the header", "", "10.0.0.1:1234", nil, "10.0.0.1"},
		{"entries that the client wrote", "", "10.0.0.1:1", []string{"1.1.1.1, 198.51.100.1"}, "198.51.100.1"},
		{"two proxies", "", "10.0.0.1:1", []string{"1.1.1.1, 198.51.100.1, 10.0.0.2"}, "198.51.100.1"},
		{"two header lines", "", "10.0.0.1:1", []string{"1.1.1.1", "198.51.100.1"}, "198.51.100.1"},
		{"all trusted", "", "10.0.0.1:1", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"an invalid entry", "", "10.0.0.1:1", []string{"198.51.100.1, unknown"}, "10.0.0.1"},
		{"an invalid entry left of a proxy", "", "10.0.0.1:1", []string{"unknown, 10.0.0.2"}, "10.0.0.2"},
		{"empty entry", "", "10.0.0.1:1", []string{"198.51.100.1,"}, "10.0.0.1"},
		{"with ports", "", "10.0.0.1:1", []string{"198.51.100.1:443"}, "198.51.100.1"},
		{"IPv6", "", "[fd00::1]:1", []string{"2001:db8::1"}, "2001:db8::1"},
		{"IPv6 in brackets", "", "[fd00::1]:1", []string{"[2001:db8::1]:443"}, "2001:db8::1"},
		{"IPv4-mapped addresses", "", "[::ffff:10.0.0.1]:1", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		{"zone", "", "[fe80::1%eth0]:1", nil, "fe80::1"},
		{"Unix socket", "", "@", []string{"198.51.100.1"}, "198.51.100.1"},
		{"Unix socket of a named peer", "", "/run/proxy.sock", []string{"198.51.100.1"}, "198.51.100.1"},
		{"a peer that is not an address", "", "pipe", []string{"198.51.100.1"}, "invalid IP"},
		{"Unix socket without the header", "", "", nil, "invalid IP"},
		{"another header", "X-Real-IP", "10.0.0.1:1", []string{"198.51.100.1"}, "198.51.100.1"},
		{"Forwarded", "Forwarded", "10.0.0.1:1", []string{`for=1.1.1.1;proto=https, By=x;FOR="[2001:db8::1]:443"`}, "2001:db8::1"},
		{"Forwarded, obfuscated", "Forwarded", "10.0.0.1:1", []string{"for=_secret"}, "10.0.0.1"},
		{"Forwarded without for", "Forwarded", "10.0.0.1:1", []string{"proto=https"}, "10.0.0.1"},
	}
	for _, row := range rows {
		c := ClientIP{Trusted: trusted, Header: row.header}
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = row.peer
		for _, line := range row.lines {
			r.Header.Add(c.header(), line)
		}
		if got := c.Addr(r).String(); got != row.want {
			t.Errorf("%s: got %s, want %s", row.name, got, row.want)
		}
	}
}

// A dual-stack socket reports IPv4 peers as mapped addresses, which match no IPv4 prefix.
func TestConnAddr(t *testing.T) {
	for _, row := range []struct {
		peer net.Addr
		want string
	}{
		{&net.TCPAddr{IP: net.IP{192, 0, 2, 1}}, "192.0.2.1"},
		{&net.TCPAddr{IP: net.ParseIP("::ffff:192.0.2.1")}, "192.0.2.1"},
		{&net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0"}, "fe80::1"},
		{&net.UnixAddr{Net: "unix"}, "invalid IP"},
	} {
		if got := connAddr(peerConn{peer: row.peer}).String(); got != row.want {
			t.Errorf("%v: got %s, want %s", row.peer, got, row.want)
		}
	}
}

type peerConn struct {
	net.Conn
	peer net.Addr
}

func (c peerConn) RemoteAddr() net.Addr { return c.peer }

func TestUntrustedProxyIsReportedOnce(t *testing.T) {
	var reported []string
	c := ClientIP{OnUntrusted: func(header string) { reported = append(reported, header) }}
	silent := httptest.NewRequest("GET", "/", nil)
	silent.RemoteAddr = "10.0.0.2:1"
	if c.Addr(silent); len(reported) > 0 {
		t.Error("a private address that does not send the header was reported")
	}
	for _, peer := range []string{"192.0.2.1:1", "10.0.0.1:1", "10.0.0.1:1", "127.0.0.1:1"} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = peer
		r.Header.Set("X-Forwarded-For", "198.51.100.1")
		c.Addr(r)
		if peer == "192.0.2.1:1" && len(reported) > 0 {
			t.Error("a public address was reported")
		}
	}
	if !slices.Equal(reported, []string{"X-Forwarded-For"}) {
		t.Errorf("got %q reported, want the header once", reported)
	}
}

// FuzzClientAddress sends any header through a trusted proxy. The result must be the
// proxy's address or an address in the header.
func FuzzClientAddress(f *testing.F) {
	for _, seed := range []string{"", "1.2.3.4", "a,b", "[::1]:80", `for="[::1]"`, "1.2.3.4, 10.0.0.1", ",,,", "::ffff:1.2.3.4%x"} {
		f.Add(seed, "Forwarded")
		f.Add(seed, "X-Forwarded-For")
	}
	f.Fuzz(func(t *testing.T, field, header string) {
		if header != "Forwarded" {
			header = "X-Forwarded-For"
		}
		c := ClientIP{Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Header: header}
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = "10.0.0.1:1"
		r.Header.Set(header, field)
		got := c.Addr(r)
		if !got.IsValid() || got.Zone() != "" || got.Is4In6() {
			t.Errorf("%q: got %v, want an unmapped address without zone", field, got)
		}
		if got.String() != "10.0.0.1" && got.Is4() && !strings.Contains(field, got.String()) {
			t.Errorf("%q: got %v, which is not in it", field, got)
		}
	})
}
