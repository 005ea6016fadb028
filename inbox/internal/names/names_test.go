package names

import (
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// TestCharactersOfNames checks that invisible characters, and those that make one
// name look like another, are refused, and others allowed.
func TestCharactersOfNames(t *testing.T) {
	for _, c := range []rune{0, '\n', 0x1f, ':', 0x7f, 0x80, 0x9f, 0xad, 0x34f, 0x61c, 0x115f, 0x17b5, 0x180b, 0x180e, 0x200b, 0x200c,
		0x200d, 0x200e, 0x200f, 0x2028, 0x2029, 0x202a, 0x202c, 0x202e, 0x2060, 0x2065, 0x2066, 0x2069, 0x206a, 0x3164, 0xe000,
		0xfdd0, 0xfe0f, 0xfeff, 0xffa0, 0xfff9, 0xffff, 0x1bca0, 0x1d173, 0xe0001, 0xe0041, 0xe0100, 0xe0fff, 0xf0000, 0x10ffff, 0x378} {
		for _, name := range []string{"a" + string(c) + "b", string(c), "a" + string(c), string(c) + "b"} {
			if _, err := Parse(name); err == nil {
				t.Errorf("%+q is allowed", name)
			}
		}
	}
	for _, c := range []rune{' ', '!', '%', '~', 0xa0, 'é', 0x600, 0x202f, 0x2800, 0xfffd, '世', '🐇', 0x1f3fd} {
		name := "a" + string(c) + "b"
		if got, err := Parse(name); err != nil || got != name {
			t.Errorf("%+q: got %+q, %v, want it unchanged", name, got, err)
		}
	}
}

// TestDefaultIgnorablesAreRefused compares the tables with the ranges that Unicode 15
// lists as Default_Ignorable_Code_Point in DerivedCoreProperties.txt.
func TestDefaultIgnorablesAreRefused(t *testing.T) {
	for _, r := range [][2]rune{
		{0xad, 0xad}, {0x34f, 0x34f}, {0x61c, 0x61c}, {0x115f, 0x1160}, {0x17b4, 0x17b5}, {0x180b, 0x180f}, {0x200b, 0x200f},
		{0x202a, 0x202e}, {0x2060, 0x206f}, {0x3164, 0x3164}, {0xfe00, 0xfe0f}, {0xfeff, 0xfeff}, {0xffa0, 0xffa0},
		{0xfff0, 0xfff8}, {0x1bca0, 0x1bca3}, {0x1d173, 0x1d17a}, {0xe0000, 0xe0fff},
	} {
		for c := r[0]; c <= r[1]; c++ {
			if checkCharacter(c) == nil {
				t.Errorf("%U is allowed", c)
			}
		}
	}
}

func TestEdgesOfNames(t *testing.T) {
	for _, space := range []string{" ", "\u00a0", "\u2003", "\u3000", "\u2800"} {
		for _, name := range []string{space, space + "bob", "bob" + space} {
			if _, err := Parse(name); err == nil || !strings.Contains(err.Error(), "space") {
				t.Errorf("%+q: got %v, want an error about a space", name, err)
			}
		}
	}
}

// TestRefusalOfANameSaysWhy checks the reasons that a client cannot see in the name.
func TestRefusalOfANameSaysWhy(t *testing.T) {
	for _, row := range []struct{ name, why string }{
		{"", "empty"},
		{strings.Repeat("x", 257), "256 bytes"},
		{"Zo\xeb", "not UTF-8"},
		{"\xed\xa0\x80", "not UTF-8"}, // a surrogate
		{"a:b", "colon"},
		{"a\x00", "control character"},
		{"👩\u200d👩\u200d👧", "U+200D, as some emoji"},
		{"❤\ufe0f", "U+FE0F, as some emoji"},
		{"a\u2028b", "U+2028"},
		{"a\ue000b", "U+E000"},
		{strings.Repeat("\U0001d160", 64), "NFC"},
		{"a" + strings.Repeat("\u0301", 31), "combining marks"},
	} {
		if _, err := Parse(row.name); err == nil || !strings.Contains(err.Error(), row.why) {
			t.Errorf("%+q: got %v, want an error with %q", row.name, err, row.why)
		}
	}
}

func TestNamesAreComposed(t *testing.T) {
	for _, row := range []struct{ name, want string }{
		{"Zoe\u0308", "Zoë"}, {"Zoë", "Zoë"}, {"\u212b", "Å"}, {"e\u0323\u0302", "ệ"}, {"\u1112\u1161\u11ab", "한"},
		{"ﬁ", "ﬁ"}, // a ligature has another meaning to NFC
	} {
		if got, err := Parse(row.name); err != nil || got != row.want {
			t.Errorf("%+q: got %+q, %v, want %+q", row.name, got, err, row.want)
		}
	}
}

// FuzzName checks that an accepted name is in NFC, within its bounds, and stands for
// itself: a store or another server sees the same name.
func FuzzName(f *testing.F) {
	for _, seed := range []string{"", "bob", " bob", "Zoe\u0308", "a\u200db", "a:b", "\xff", "\u037e", "\u2000x", "a\u0301\u0301", "\U0001d160", "\u0344"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, sent string) {
		name, err := Parse(sent)
		if err != nil {
			return
		}
		if name == "" || len(name) > MaxBytes || !utf8.ValidString(name) || !norm.NFC.IsNormalString(name) || strings.Contains(name, ":") {
			t.Errorf("%+q: got %+q", sent, name)
		}
		if again, err := Parse(name); err != nil || again != name {
			t.Errorf("%+q became %+q, which became %+q, %v", sent, name, again, err)
		}
	})
}
