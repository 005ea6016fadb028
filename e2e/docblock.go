package e2e

import (
	"fmt"
	"os"
	"strings"
)

// DocBlock is the block of commands or configuration in a page of docs/ that
// follows a line with this end, so that a test runs what people copy. The page
// is a path from the working directory.
func DocBlock(page, after string) (string, error) {
	text, err := os.ReadFile(page)
	if err != nil {
		return "", err
	}
	_, rest, found := strings.Cut(string(text), after+"\n\n    ")
	if !found {
		return "", fmt.Errorf("%s has nothing after %q", page, after)
	}
	block, _, _ := strings.Cut(rest, "\n\n")
	return strings.ReplaceAll(block, "\n    ", "\n") + "\n", nil
}
