// Package names checks the names of mailboxes: text that people can distinguish.
package names

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// MaxBytes bounds names and passwords, in bytes.
const MaxBytes = 256

// Parse returns the form in which a name is compared and passed on, Unicode's NFC,
// or what is wrong with it. A name must be text that people can distinguish from
// another, and fit into the credentials of HTTP Basic.
func Parse(name string) (string, error) {
	switch {
	case name == "":
		return "", errors.New("is empty")
	case len(name) > MaxBytes:
		return "", fmt.Errorf("is longer than %d bytes", MaxBytes)
	case !utf8.ValidString(name):
		return "", ErrNotUTF8
	}
	if err := checkCharacters(name); err != nil {
		return "", err
	}
	return compose(name)
}

// ErrNotUTF8 says what is wrong with a name, or a password, that is not text.
var ErrNotUTF8 = errors.New("is not UTF-8: encode the name and the password as UTF-8")

func checkCharacters(name string) error {
	first, _ := utf8.DecodeRuneInString(name)
	last, _ := utf8.DecodeLastRuneInString(name)
	if isBlank(first) || isBlank(last) {
		return errors.New("begins or ends with a space")
	}
	for _, c := range name {
		if err := checkCharacter(c); err != nil {
			return err
		}
	}
	return nil
}

// compose returns the NFC of a name, which can be longer. NFC separates more than
// thirty combining marks by an invisible character.
func compose(name string) (string, error) {
	composed := norm.NFC.String(name)
	switch {
	case len(composed) > MaxBytes:
		return "", fmt.Errorf("is longer than %d bytes in Unicode's NFC", MaxBytes)
	case strings.ContainsRune(composed, combiningGraphemeJoiner):
		return "", errors.New("has too many combining marks in a row")
	}
	return composed, nil
}

const (
	combiningGraphemeJoiner = 0x034f
	brailleBlank            = 0x2800 // a symbol to Unicode, a space to the eye
)

// isBlank reports characters that show nothing at the edge of a name.
func isBlank(c rune) bool { return unicode.IsSpace(c) || c == brailleBlank }

// invisible is Unicode's Default_Ignorable_Code_Point, together with format (below), and
// unassigned.
var invisible = []*unicode.RangeTable{unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector}

func checkCharacter(c rune) error {
	switch {
	case c == ':', unicode.IsControl(c):
		return errors.New("has a colon or a control character")
	case c < utf8.RuneSelf:
	case unicode.In(c, unicode.Zl, unicode.Zp):
		return fmt.Errorf("has the line separator %U", c)
	case isFormat(c), unicode.In(c, invisible...):
		return fmt.Errorf("has the invisible character %U, as some emoji have", c)
	case unicode.In(c, unicode.Co, unicode.Cn):
		return fmt.Errorf("has %U, which is not an assigned character", c)
	}
	return nil
}

// isFormat reports controls of layout, such as those that change the direction of text.
// A few characters of that category are visible signs.
func isFormat(c rune) bool {
	return unicode.Is(unicode.Cf, c) && !unicode.Is(unicode.Prepended_Concatenation_Mark, c)
}

// Escape percent-encodes the percent sign and every byte that is not visible
// ASCII, so that the name fits into a header field.
func Escape(name string) string {
	n := 0
	for i := range len(name) {
		if mustEscape(name[i]) {
			n++
		}
	}
	if n == 0 {
		return name
	}
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	b.Grow(len(name) + 2*n)
	for i := range len(name) {
		if c := name[i]; mustEscape(c) {
			b.Write([]byte{'%', digits[c>>4], digits[c&15]})
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func mustEscape(c byte) bool { return c < 0x21 || c > 0x7e || c == '%' }
