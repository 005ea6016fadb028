package ratelimit

import (
	"bytes"
	"log/slog"
	"net"
	"net/http/httptest"
	"net/netip"
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
		{"a stranger's field is ignored", "", "192.0.2.1:1234", []string{"198.51.100.1"}, "192.0.2.1"},
		{"a proxy", "", "10.0.0.1:1234", []string{"198.51.100.1"}, "198.51.100.1"},
		{"a proxy that says nothing", "", "10.0.0.1:1234", nil, "10.0.0.1"},
		{"what the client wrote stays left", "", "10.0.0.1:1", []string{"1.1.1.1, 198.51.100.1"}, "198.51.100.1"},
		{"two proxies", "", "10.0.0.1:1", []string{"1.1.1.1, 198.51.100.1, 10.0.0.2"}, "198.51.100.1"},
		{"two lines", "", "10.0.0.1:1", []string{"1.1.1.1", "198.51.100.1"}, "198.51.100.1"},
		{"all trusted", "", "10.0.0.1:1", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"junk", "", "10.0.0.1:1", []string{"198.51.100.1, unknown"}, "10.0.0.1"},
		{"junk behind a proxy", "", "10.0.0.1:1", []string{"unknown, 10.0.0.2"}, "10.0.0.2"},
		{"empty entry", "", "10.0.0.1:1", []string{"198.51.100.1,"}, "10.0.0.1"},
		{"with ports", "", "10.0.0.1:1", []string{"198.51.100.1:443"}, "198.51.100.1"},
		{"IPv6", "", "[fd00::1]:1", []string{"2001:db8::1"}, "2001:db8::1"},
		{"IPv6 in brackets", "", "[fd00::1]:1", []string{"[2001:db8::1]:443"}, "2001:db8::1"},
		{"mapped peer", "", "[::ffff:10.0.0.1]:1", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		{"zone", "", "[fe80::1%eth0]:1", nil, "fe80::1"},
		{"Unix socket", "", "@", []string{"198.51.100.1"}, "198.51.100.1"},
		{"Unix socket of a client with a name", "", "/run/proxy.sock", []string{"198.51.100.1"}, "198.51.100.1"},
		{"a peer that is no address", "", "pipe", []string{"198.51.100.1"}, "invalid IP"},
		{"Unix socket that says nothing", "", "", nil, "invalid IP"},
		{"another field", "X-Real-IP", "10.0.0.1:1", []string{"198.51.100.1"}, "198.51.100.1"},
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

// TestConnAddr: as the kernel tells it of a socket for both families,
// an IPv4 address is mapped, and would be no trusted proxy.
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

func TestUntrustedProxyIsLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	c := ClientIP{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	silent := httptest.NewRequest("GET", "/", nil)
	silent.RemoteAddr = "10.0.0.2:1"
	if c.Addr(silent); log.Len() > 0 {
		t.Error("a private address that does not send the field was warned of")
	}
	for _, peer := range []string{"192.0.2.1:1", "10.0.0.1:1", "10.0.0.1:1", "127.0.0.1:1"} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = peer
		r.Header.Set("X-Forwarded-For", "198.51.100.1")
		c.Addr(r)
		if peer[0] == '1' && peer[1] == '9' && log.Len() > 0 {
			t.Error("a public address was warned of")
		}
	}
	if n := strings.Count(log.String(), "-trusted-proxies"); n != 1 || strings.Contains(log.String(), "198.51") {
		t.Errorf("got log %q, want one warning without the address", log.String())
	}
}

// FuzzClientAddress sends any field through a trusted proxy: the answer is the
// proxy's address or one that stands in the field, and never a trusted one
// while an untrusted one stands to its right.
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
			t.Errorf("%q: got %v, want a plain address", field, got)
		}
		if got.String() != "10.0.0.1" && got.Is4() && !strings.Contains(field, got.String()) {
			t.Errorf("%q: got %v, which is nowhere in it", field, got)
		}
	})
}
