package public

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWithoutComments(t *testing.T) {
	for _, tt := range []struct{ name, code, want string }{
		{"no comment", "let a;\n", "let a;\n"},
		{"line", "// why\nlet a;\n", "\nlet a;\n"},
		{"block", "/**\n * why\n */\nlet a;\n", "\n\n\nlet a;\n"},
		{"block on one line", "/* why */\nlet a;\n", "\nlet a;\n"},
		{"code after a block", "/* one\n two */ let a;\n", "\nlet a;\n"},
		{"indentation", "if (a) {\n  // why\n  b();\n}\n", "if (a) {\n\nb();\n}\n"},
		{"type in a line", "const a = /** @type {Map<string, A>} */ (b);\n", "const a = (b);\n"},
		{"type at the start", "/** @type {A} */ (a).b();\n", "(a).b();\n"},
		{"type over a line", "/** @type {A} */\nlet a;\n", "\nlet a;\n"},
		{"licence", "/*! MIT */\nlet a;\n", "/*! MIT */\nlet a;\n"},
		{"address in a string", "let a = 'https://a.example';\n", "let a = 'https://a.example';\n"},
		{"comment at the end", "let a; // why\n", "let a; // why\n"},
		{"no final newline", "let a;", "let a;\n"},
		{"unfinished", "/* why\nlet a;", "\n\n"},
	} {
		if got := string(withoutComments([]byte(tt.code))); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// withoutComments depends on the form of the files, which this test checks.
func TestModulesHaveSimpleComments(t *testing.T) {
	for name, p := range loadEmbedded() {
		ext := filepath.Ext(name)
		if ext != ".js" && ext != ".css" || strings.HasPrefix(name, "third-party/") {
			continue
		}
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if lines := bytes.Count(source, []byte("\n")); bytes.Count(p.body, []byte("\n")) != lines {
			t.Errorf("%s: got %d lines, want %d", name, bytes.Count(p.body, []byte("\n")), lines)
		}
		for number, line := range strings.Split(string(p.body), "\n") {
			switch {
			case strings.Count(line, "`")%2 != 0:
				t.Errorf("%s:%d: a template literal of several lines", name, number+1)
			case ext == ".js" && (strings.Contains(line, "/**") || strings.HasPrefix(line, "*")):
				t.Errorf("%s:%d: got a comment: %s", name, number+1, line)
			}
		}
	}
}

func TestThirdPartyFilesAreUnchanged(t *testing.T) {
	source, err := os.ReadFile("third-party/uqr.js")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(loadEmbedded()["third-party/uqr.js"].body, source) {
		t.Error("uqr.js is not served as it is")
	}
}
