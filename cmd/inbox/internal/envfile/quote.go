package envfile

import (
	"errors"
	"strings"
)

var (
	errBackslash = errors.New("the value ends with a backslash; write it in one line")
	errUnclosed  = errors.New("the closing quotation mark is missing, so systemd takes the next lines as a part of the value")
)

// escaped has the characters before which a backslash disappears between double quotation marks.
const escaped = "\"\\`$"

// unquote returns what systemd makes of a value: it removes pairs of quotation marks at the
// beginning, and backslashes.
func unquote(text string) (string, error) {
	var b strings.Builder
	for text != "" && (text[0] == '"' || text[0] == '\'') {
		value, rest, err := cutQuoted(text[1:], text[0])
		if err != nil {
			return "", err
		}
		b.WriteString(value)
		text = strings.TrimLeft(rest, " \t")
	}
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' {
			i++
		}
		if i == len(text) {
			return "", errBackslash
		}
		b.WriteByte(text[i])
	}
	return b.String(), nil
}

// cutQuoted returns the value up to the closing quotation mark, and the rest after it.
func cutQuoted(text string, mark byte) (value, rest string, err error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == mark:
			return b.String(), text[i+1:], nil
		case c == '\\' && mark == '"' && i+1 < len(text) && strings.IndexByte(escaped, text[i+1]) >= 0:
			i++
		}
		b.WriteByte(text[i])
	}
	return "", "", errUnclosed
}

// quote returns a value such that unquote returns it.
func quote(value string) string {
	if !strings.Contains(value, `\`) && strings.TrimSpace(value) == value && !strings.HasPrefix(value, `"`) && !strings.HasPrefix(value, "'") {
		return value
	}
	var b strings.Builder
	for i := range len(value) {
		if strings.IndexByte(escaped, value[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(value[i])
	}
	return `"` + b.String() + `"`
}
