package server

import (
	"net/netip"
	"strings"
	"testing"

	"inbox/cmd/inbox/internal/qrcode"
)

// TestBannerCode checks which address the code of the banner opens.
func TestBannerCode(t *testing.T) {
	network := []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")}
	for _, row := range []struct {
		name        string
		bind        string
		names       []string
		inContainer bool
		columns     int
		want        string
	}{
		{"all addresses", "[::]:3000", nil, false, 80, "https://192.0.2.7:3000"},
		{"one address", "192.0.2.8:3000", nil, false, 80, "https://192.0.2.8:3000"},
		{"a name", "[::]:443", []string{"a.example", "b.example"}, false, 80, "https://a.example"},
		{"a name in a container", "[::]:8443", []string{"a.example"}, true, 80, "https://a.example"},
		{"a container", "[::]:3000", nil, true, 80, "https://192.0.2.7:3000"},
		{"loopback", "127.0.0.1:3000", nil, false, 80, ""},
		{"no terminal", "[::]:3000", nil, false, 0, ""},
		{"a narrow terminal", "[::]:3000", nil, false, 30, ""},
	} {
		b := banner{
			site:    site{scheme: "https", addr: netip.MustParseAddrPort(row.bind), names: row.names, inContainer: row.inContainer},
			network: network, columns: row.columns,
		}
		text := b.String()
		if has := strings.Contains(text, "\x1b"); has != (row.want != "") || has != strings.Contains(text, "scan") {
			t.Errorf("%s: got a code: %v, want %q:\n%s", row.name, has, row.want, text)
			continue
		}
		if row.want != "" && !strings.Contains(text, "open "+row.want+"\n\n"+qrcode.Text(row.want, row.columns)) {
			t.Errorf("%s: got no code of %s:\n%s", row.name, row.want, text)
		}
	}
}
