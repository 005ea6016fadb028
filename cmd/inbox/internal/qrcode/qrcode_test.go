package qrcode

import (
	"image"
	"image/color"
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
		text := Text(url, 80)
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
		if Text(url, width) != text || Text(url, width-1) != "" || Text(url, 0) != "" {
			t.Errorf("%s: want a code in %d columns and none in less", url, width)
		}
	}
	if got := Text(strings.Repeat("x", 5000), 1000); got != "" {
		t.Errorf("a text that is too long: got %q", got)
	}
}
