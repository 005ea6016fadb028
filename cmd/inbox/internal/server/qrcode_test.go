package server

import (
	"image"
	"image/color"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	qr "github.com/piglig/go-qr"
)

// drawTerminal draws lines of half blocks as a terminal with that background does.
func drawTerminal(t *testing.T, lines []string, background color.Gray) image.Image {
	t.Helper()
	const scale = 4
	img := image.NewGray(image.Rect(0, 0, 100*scale, 2*(len(lines)+4)*scale))
	for i := range img.Pix {
		img.Pix[i] = background.Y
	}
	module := func(x, y int, dark bool) {
		for i := range scale * scale {
			c := color.Gray{255}
			if dark {
				c.Y = 0
			}
			img.SetGray(x*scale+i%scale, y*scale+i/scale, c)
		}
	}
	for y, line := range lines {
		text, ok := strings.CutPrefix(line, qrIndent+qrColors)
		text, reset := strings.CutSuffix(text, qrReset)
		text = strings.ReplaceAll(text, qrDark, "█")
		if !ok || !reset || strings.Contains(text, "\x1b") {
			t.Fatalf("line %q does not set and reset its colors", line)
		}
		for x, r := range []rune(text) {
			module(x+2, 2*y+4, r == '█' || r == '▀')
			module(x+2, 2*y+5, r == '█' || r == '▄')
		}
	}
	return img
}

func TestQRCode(t *testing.T) {
	for _, url := range []string{
		"https://192.168.1.20:3000", "http://10.0.0.1:8080", "https://[2001:db8:1234:5678:9abc:def0:1234:5678]:3000",
		"https://a-long-name-of-a-server.department.example.org:65535",
	} {
		text := qrCode(url, 80)
		lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		for _, background := range []uint8{0, 40, 255} {
			got, err := qr.Decode(drawTerminal(t, lines, color.Gray{background}))
			if err != nil || got != url {
				t.Errorf("on gray %d: got %q, %v, want %s:\n%s", background, got, err, url, text)
			}
		}
		width := utf8.RuneCountInString(lines[0]) - len(qrColors+qrReset) // the first line is the margin
		if width > 43 || len(lines) > 21 {
			t.Errorf("%s: got %d columns and %d lines, want a small code", url, width, len(lines))
		}
		if qrCode(url, width) != text || qrCode(url, width-1) != "" || qrCode(url, 0) != "" {
			t.Errorf("%s: want a code in %d columns and none in less", url, width)
		}
	}
	if got := qrCode(strings.Repeat("x", 5000), 1000); got != "" {
		t.Errorf("a text that is too long: got %q", got)
	}
}

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
		if row.want != "" && !strings.Contains(text, "open "+row.want+"\n\n"+qrCode(row.want, row.columns)) {
			t.Errorf("%s: got no code of %s:\n%s", row.name, row.want, text)
		}
	}
}
