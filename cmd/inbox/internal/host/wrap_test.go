package host

import "testing"

func TestWrap(t *testing.T) {
	for _, tt := range []struct {
		name, paragraph, want string
		width                 int
	}{
		{"nothing", "", "> ", 10},
		{"one line", "one  line", "> one line", 10},
		{"just fits", "four four x", "> four four\n> x", 11},
		{"a long word", "a unbreakable b", "> a\n> unbreakable\n> b", 8},
	} {
		if got := Wrap(tt.paragraph, "> ", tt.width); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}
