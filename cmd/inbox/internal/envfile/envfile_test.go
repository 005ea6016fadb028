package envfile

import (
	"slices"
	"strings"
	"testing"
)

// TestValuesOfSystemd has values as systemd 252 passes them to a service.
func TestValuesOfSystemd(t *testing.T) {
	for line, want := range map[string]string{
		`X=5`: "5", `X= 5 `: "5", "X=5\r": "5", " X=5": "5", `X=5 # c`: "5 # c", `X=  #c`: "#c", `X=$HOME`: "$HOME", `X=`: "", `X="" `: "",
		`X="x"y`: "xy", `X="a" 'b c' d\ e`: "ab cd e", `X="a"   b`: "ab", `X="q" "r"`: "qr", `X=x"y"z`: `x"y"z`,
		`X=a\b`: "ab", `X='a\b'`: `a\b`, `X="u\nv"`: `u\nv`, `X="\\ \$ \` + "`" + `"`: `\ $ ` + "`", `X="[{\"u\":1}]"`: `[{"u":1}]`,
		"\ufeff# c\nX=5": "5", "X=1\nX=2\n": "2",
	} {
		if got := Value(line, "X"); got != want {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
}

// TestErrors has lines that systemd ignores, or continues.
func TestErrors(t *testing.T) {
	for text, want := range map[string]string{
		"X":                      "has no value",
		"export X=5":             "without export",
		"X = 5":                  "without a blank before =",
		"X-Y=5":                  "is no variable name",
		"X=5\\":                  "ends with a backslash",
		"# c \\":                 "the comment ends with a backslash",
		"X=\"5":                  "the closing quotation mark is missing",
		"X='5\"":                 "the closing quotation mark is missing",
		"\ufeffX=5":              "byte order mark",
		"X=5\x00":                "zero byte",
		"X=1\rY=2":               "carriage return",
		strings.Repeat("x", 200): "…",
	} {
		lines := Lines("\n" + "# c\n" + text)
		if strings.HasPrefix(text, byteOrderMark) {
			lines = Lines(text)
		}
		if len(lines) != 1 || lines[0].Err == nil || !strings.Contains(lines[0].Err.Error(), want) {
			t.Errorf("%q: got %v, want an error with %q", text, lines, want)
		} else if n := lines[0].Number; n != 3 && n != 1 {
			t.Errorf("%q: got line %d", text, n)
		}
	}
}

func TestAssign(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"empty file":       {"", "INBOX_X=1\n"},
		"commented out":    {"# Text.\n#INBOX_X=0\nINBOX_Y=2\n", "# Text.\nINBOX_X=1\nINBOX_Y=2\n"},
		"set":              {"#INBOX_X=0\nINBOX_X=5\nINBOX_Y=2", "#INBOX_X=0\nINBOX_X=1\nINBOX_Y=2\n"},
		"set twice":        {"INBOX_X=5\nINBOX_X=6\n", "INBOX_X=5\nINBOX_X=1\n"},
		"a longer name":    {"INBOX_X_Y=5\n", "INBOX_X_Y=5\nINBOX_X=1\n"},
		"lines of others":  {"FOO=bar\n\n; text\n", "FOO=bar\n\n; text\nINBOX_X=1\n"},
		"already the same": {"INBOX_X=1\n", "INBOX_X=1\n"},
	} {
		got := Assign(test.text, []Assignment{{"INBOX_X", "1"}})
		if got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
		if changed := Changed(test.text, got); (test.text == got) != (len(changed) == 0) && name != "set" {
			t.Errorf("%s: got the changes %q", name, changed)
		}
	}
}

// FuzzAssign checks that an assigned value is read again, beside all other values.
func FuzzAssign(f *testing.F) {
	for _, value := range []string{"5", "", `a\b`, ` a `, `"a"`, `'a`, `a"b`, `[{"u":"$x` + "`" + `"}]`, `\`, "#5", "é\\ \t"} {
		f.Add("X=1\n#Y=2\nZ='3'\n", value)
	}
	f.Fuzz(func(t *testing.T, text, value string) {
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return // inbox setup refuses it
		}
		after := Assign(text, []Assignment{{"Y", value}})
		if got := Value(after, "Y"); got != value {
			t.Fatalf("%q in %q: got %q", value, after, got)
		}
		others := func(text string) (found []Assignment) {
			for _, line := range Lines(text) {
				if line.Err == nil && line.Name != "Y" {
					found = append(found, line.Assignment)
				}
			}
			return found
		}
		if got, want := others(after), others(text); !slices.Equal(got, want) {
			t.Errorf("%q in %q: got the other values %q, want %q", value, text, got, want)
		}
	})
}
