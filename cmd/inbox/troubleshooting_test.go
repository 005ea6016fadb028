package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestTroubleshootingQuotesLogLines checks that the program can log each line that
// docs/troubleshooting.md explains. Variable parts are written as … or as an example.
func TestTroubleshootingQuotesLogLines(t *testing.T) {
	text, err := os.ReadFile("../../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "| log message |")
	messages, rows := stringLiterals(t, ".", "../../internal", "../../tlsmgr", "../../tlsmgr/acme", "../../ratelimit", "../../inbox", "../../public", "../../turn"), 0
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(table, -1) {
		rows++
		if !containsMessage(messages, row[1]) {
			t.Errorf("docs/troubleshooting.md explains %q, which the program never logs", row[1])
		}
	}
	if want := strings.Count(table, "\n| ") - 1; rows < 15 || rows != want {
		t.Errorf("%d of %d rows were found", rows, want)
	}
	if containsMessage(messages, "another program listens on … at last") {
		t.Error("anything is found")
	}
}

// containsMessage looks for a text that has these parts in this order.
func containsMessage(messages []string, line string) bool {
	parts := regexp.MustCompile(`…|:443|X-Forwarded-For`).Split(line, -1)
	for i, part := range parts {
		parts[i] = regexp.QuoteMeta(strings.TrimSpace(part))
	}
	pattern := regexp.MustCompile(strings.Join(parts, ".*"))
	for _, text := range messages {
		if pattern.MatchString(text) {
			return true
		}
	}
	return false
}

// stringLiterals returns the string literals in the source below the directories;
// literals joined with + count as one.
func stringLiterals(t *testing.T, dirs ...string) (all []string) {
	t.Helper()
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
				return err
			}
			tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(tree, func(n ast.Node) bool {
				if e, ok := n.(ast.Expr); ok {
					if text := literalText(e); text != "" {
						all = append(all, text)
						return false
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatalf("read the source in %s: %v", dir, err)
		}
	}
	return all
}

// literalText is the text of a literal, or of several added together.
func literalText(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); err == nil && e.Kind == token.STRING {
			return text
		}
	case *ast.BinaryExpr:
		return literalText(e.X) + literalText(e.Y)
	}
	return ""
}
