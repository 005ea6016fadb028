package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

var (
	codeBlock  = regexp.MustCompile("(?ms)^```.*?^```|^    [^\n]*$")
	inlineCode = regexp.MustCompile("`[^`\n]*`")
	link       = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading    = regexp.MustCompile(`(?m)^#{1,6} (.+)$`)
	markup     = regexp.MustCompile("\\[([^\\]]*)\\]\\([^)]*\\)|[`*]")
)

// TestLinks checks that the files and the headings exist to which the documentation links.
func TestLinks(t *testing.T) {
	for _, page := range markdownPages(t) {
		text := inlineCode.ReplaceAllString(codeBlock.ReplaceAllString(readPage(t, page), ""), "")
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, ":") {
				continue // another site
			}
			path := page
			if target != "" {
				path = filepath.Join(filepath.Dir(page), target)
			}
			if _, err := os.Stat(filepath.Join(repository, path)); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
			} else if anchor != "" && !anchors(readPage(t, path))[anchor] {
				t.Errorf("%s links to %s: no heading has this anchor", page, m[1])
			}
		}
	}
}

// TestIndex checks that docs/README.md links to each page, and that README.md links to it.
func TestIndex(t *testing.T) {
	index := readPage(t, "docs/README.md")
	for _, page := range markdownPages(t) {
		name, below := strings.CutPrefix(page, "docs/")
		if below && name != "README.md" && !strings.Contains(index, "]("+name) {
			t.Errorf("docs/README.md does not link to %s", name)
		}
	}
	if !strings.Contains(readPage(t, "README.md"), "](docs/README.md)") {
		t.Error("README.md does not link to docs/README.md")
	}
}

// markdownPages returns the paths of the pages in the root directory and in docs.
func markdownPages(t *testing.T) (pages []string) {
	t.Helper()
	root, err := filepath.Glob(filepath.Join(repository, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range root {
		pages = append(pages, filepath.Base(path))
	}
	err = fs.WalkDir(os.DirFS(repository), "docs", func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".md") {
			pages = append(pages, path)
		}
		return err
	})
	if err != nil || len(pages) < 10 {
		t.Fatalf("got %d pages, %v", len(pages), err)
	}
	return pages
}

func readPage(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, page))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// anchors returns the anchors of the headings of a page, as GitHub and GitLab make them: in lower
// case, with hyphens for spaces, without punctuation.
func anchors(text string) map[string]bool {
	all := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(codeBlock.ReplaceAllString(text, ""), -1) {
		title := markup.ReplaceAllString(m[1], "$1")
		all[strings.Map(anchorRune, strings.ToLower(title))] = true
	}
	return all
}

func anchorRune(r rune) rune {
	switch {
	case r == ' ':
		return '-'
	case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
		return r
	}
	return -1
}
