// Package qrcode draws QR codes on a terminal.
package qrcode

import (
	"strings"

	qr "github.com/piglig/go-qr"
)

const (
	// qrMargin is the light border in modules. ISO/IEC 18004 asks for 4; phones read codes with 2,
	// and a window has 24 lines.
	qrMargin = 2
	// qrIndent precedes each line, as it does the links.
	qrIndent = "  "
	// qrColors is black on white in the color cube, which themes of terminals do not change. With
	// both colors set, the code is readable on dark and light terminals.
	qrColors = "\x1b[38;5;16;48;5;231m"
	qrReset  = "\x1b[0m"
	// qrDark is a dark background. A full block would leave light gaps between the lines of some
	// terminals.
	qrDark = "\x1b[7m \x1b[27m"
)

// Text returns a QR code of the text for a terminal, or "" if the terminal is too narrow. A
// character shows two modules, one above the other.
func Text(text string, columns int) string {
	code, err := qr.EncodeText(text, qr.Low)
	if err != nil || len(qrIndent)+code.Size()+2*qrMargin > columns {
		return ""
	}
	var s strings.Builder
	end := code.Size() + qrMargin
	for y := -qrMargin; y < end; y += 2 {
		s.WriteString(qrIndent + qrColors)
		for x := -qrMargin; x < end; x++ {
			s.WriteString(halfBlock(code.Module(x, y), code.Module(x, y+1)))
		}
		s.WriteString(qrReset + "\n")
	}
	return s.String()
}

func halfBlock(upper, lower bool) string {
	switch {
	case upper && lower:
		return qrDark
	case upper:
		return "▀"
	case lower:
		return "▄"
	}
	return " "
}
