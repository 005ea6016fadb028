package main

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
)

// FuzzProxyHeader sends arbitrary bytes in place of a PROXY header. Data must be readable
// only after a valid header, and the address must be valid.
func FuzzProxyHeader(f *testing.F) {
	v2 := "\r\n\r\n\x00\r\nQUIT\n"
	for _, seed := range []string{"", "GET / HTTP/1.1\r\n\r\n", "PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\nhello", "PROXY UNKNOWN\r\nhello", "PROXY TCP6 ::1 ::1 1 2\r\n",
		"PROXY TCP4 192.0.2.1", v2 + "\x21\x11\x00\x0c\xc6\x33\x64\x09\x7f\x00\x00\x01\x04\xd2\x0b\xb8hello", v2 + "\x20\x00\x00\x00hello", v2 + "\x21\x21\xff\xff"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		client, server := net.Pipe()
		defer server.Close()
		go func() {
			client.Write(sent)
			client.Close()
		}()
		inner := proxyproto.NewConn(server, proxyproto.WithPolicy(proxyproto.REQUIRE), proxyproto.SetReadHeaderTimeout(time.Second))
		c := newLazyConn(inner)
		got, err := io.ReadAll(c)
		isHeader := bytes.HasPrefix(sent, []byte("PROXY ")) || bytes.HasPrefix(sent, []byte(v2))
		if len(got) > 0 && (!isHeader || !bytes.HasSuffix(sent, got) || len(got) == len(sent)) {
			t.Errorf("%q: read %q without a valid header (%v)", sent, got, err)
		}
		if a, ok := c.RemoteAddr().(*net.TCPAddr); ok && !a.AddrPort().IsValid() {
			t.Errorf("%q: got invalid address %v", sent, a)
		}
	})
}

// FuzzTrustedProxies parses arbitrary lists. Accepted entries must be networks that the
// list contains.
func FuzzTrustedProxies(f *testing.F) {
	for _, seed := range []string{"", "127.0.0.1", "10.0.0.0/8, ::1", "10.1.2.3/8", "::ffff:10.0.0.0/104", "0.0.0.0/0", "a", ",", "fe80::1%eth0", "10.0.0.0/33"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, list string) {
		c, err := parse([]string{"-https=false", "-trusted-proxies", list}, nil)
		if err != nil {
			return
		}
		for _, p := range c.proxies {
			if !p.IsValid() || p.Addr().Zone() != "" {
				t.Errorf("%q: accepted %v", list, p)
			}
			if p.Bits() == 0 && !bytes.Contains([]byte(list), []byte("/0")) {
				t.Errorf("%q: trusts every address with %v", list, p)
			}
			if p.Addr() != netip.MustParsePrefix(p.String()).Addr() {
				t.Errorf("%q: %v does not round-trip", list, p)
			}
		}
	})
}
