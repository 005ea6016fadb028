package e2e

import (
	"fmt"
	"os"
	"strings"
)

// DocBlock returns the block of commands or configuration that follows a line ending
// with after in a documentation page, so that tests run what readers copy. page is a
// path relative to the working directory.
func DocBlock(page, after string) (string, error) {
	text, err := os.ReadFile(page)
	if err != nil {
		return "", err
	}
	_, rest, found := strings.Cut(string(text), after+"\n\n    ")
	if !found {
		return "", fmt.Errorf("%s has no block after %q", page, after)
	}
	block, _, _ := strings.Cut(rest, "\n\n")
	return strings.ReplaceAll(block, "\n    ", "\n") + "\n", nil
}
