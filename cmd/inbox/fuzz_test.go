package main

import (
	"bytes"
	"net/netip"
	"testing"
)

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
