package e2e

import (
	"fmt"
	"os"
	"strings"
)

// DocBlock returns the block of commands or configuration that follows a line ending
// with after in a documentation page, so that tests run what readers copy. page is a
// path relative to the working directory.
func DocBlock(page, after string) (string, error) { return DocBlockIn(page, "", after) }

// DocBlockIn is [DocBlock] within a section, which is named by its heading. The section
// ends at the next heading.
func DocBlockIn(page, section, after string) (string, error) {
	raw, err := os.ReadFile(page)
	if err != nil {
		return "", err
	}
	text := string(raw)
	if section != "" {
		_, text, _ = strings.Cut(text, "\n## "+section+"\n")
		text, _, _ = strings.Cut(text, "\n## ")
	}
	_, rest, found := strings.Cut(text, after+"\n\n    ")
	if !found {
		return "", fmt.Errorf("%s has no block after %q in section %q", page, after, section)
	}
	return unindent("    " + rest), nil
}

// unindent returns the lines up to the first one that is not indented, without their
// indentation.
func unindent(text string) string {
	var block strings.Builder
	for line := range strings.Lines(text) {
		code, indented := strings.CutPrefix(line, "    ")
		if !indented && strings.TrimSpace(line) != "" {
			break
		}
		block.WriteString(code)
	}
	return strings.TrimRight(block.String(), "\n") + "\n"
}
