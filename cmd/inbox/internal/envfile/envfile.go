// Package envfile reads and changes environment files as EnvironmentFile= of systemd reads them,
// so that a command finds the values that the service gets. What systemd ignores, or what
// continues on another line, is an error. See systemd.exec(5).
package envfile

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// byteOrderMark begins a file of some Windows editors. systemd takes it as a part of the first
// name.
const byteOrderMark = "\ufeff"

// maxShownBytes bounds what an error repeats of a line.
const maxShownBytes = 100

// variableName matches the name of an environment variable.
var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Assignment is a line NAME=value.
type Assignment struct{ Name, Value string }

// String returns the line. The value has quotation marks if it requires them.
func (a Assignment) String() string { return a.Name + "=" + quote(a.Value) }

// Line is a line with an assignment, or with an error.
type Line struct {
	Number int // of the first line: 1
	Assignment
	Err error
}

// Lines returns the lines of a file that are neither empty nor comments, in their order.
func Lines(text string) (found []Line) {
	for i, line := range splitLines(text) {
		bare, hasMark := strings.CutPrefix(line, byteOrderMark)
		a, err := parse(bare)
		if hasMark && a.Name != "" {
			err = errors.New("the file begins with a byte order mark, so systemd ignores this line; save the file as UTF-8 without it")
		}
		if a.Name != "" || err != nil {
			found = append(found, Line{i + 1, a, err})
		}
	}
	return found
}

// Value returns the value of a variable, or "". The last assignment counts. Lines with errors are
// ignored.
func Value(text, name string) (value string) {
	for _, line := range Lines(text) {
		if line.Err == nil && line.Name == name {
			value = line.Value
		}
	}
	return value
}

// Assign returns the text of a file in which the assignments hold. It replaces the last assignment
// of a variable, or else its first line that is commented out, or else appends a line. All other
// lines stay as they are.
func Assign(text string, assignments []Assignment) string {
	lines := splitLines(text)
	for _, a := range assignments {
		if i := findLine(lines, a.Name); i >= 0 {
			lines[i] = a.String()
		} else {
			lines = append(lines, a.String())
		}
	}
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\n") + "\n"
}

func splitLines(text string) []string {
	if text = strings.TrimSuffix(text, "\n"); text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// findLine returns the index of the line to replace, or -1.
func findLine(lines []string, name string) int {
	for i := len(lines) - 1; i >= 0; i-- {
		if strings.HasPrefix(strings.TrimSpace(lines[i]), name+"=") {
			return i
		}
	}
	for i, line := range lines {
		if strings.HasPrefix(strings.TrimSpace(line), "#"+name+"=") {
			return i
		}
	}
	return -1
}

// parse splits a line into name and value. The name is empty for a comment or an empty line.
func parse(line string) (a Assignment, err error) {
	line = strings.TrimSpace(line)
	isComment := line != "" && (line[0] == '#' || line[0] == ';')
	switch {
	case strings.ContainsAny(line, "\r\x00"):
		return a, errors.New("the line contains a carriage return or a zero byte; save the file as text with line feeds")
	case isComment && strings.HasSuffix(line, `\`):
		return a, errors.New("the comment ends with a backslash, so older versions of systemd ignore the next line; remove the backslash")
	case line == "" || isComment:
		return a, nil
	}
	name, value, found := strings.Cut(line, "=")
	if err := checkName(name, found); err != nil {
		return Assignment{Name: name}, err
	}
	value, err = unquote(strings.TrimSpace(value))
	if err != nil {
		err = fmt.Errorf("%s: %w", shorten(name), err)
	}
	return Assignment{name, value}, err
}

func checkName(name string, hasValue bool) error {
	bare, isExport := strings.CutPrefix(name, "export ")
	switch {
	case !hasValue:
		return fmt.Errorf("%q has no value; write INBOX_NAME=value", shorten(name))
	case isExport:
		return fmt.Errorf("%q: write %s=value, without export", shorten(name), shorten(bare))
	case strings.TrimSpace(name) != name:
		return fmt.Errorf("%q: write %s=value, without a blank before =", shorten(name), shorten(strings.TrimSpace(name)))
	case !variableName.MatchString(name):
		return fmt.Errorf("%q is no variable name; write capitals, digits and underscores, such as INBOX_DOMAIN", shorten(name))
	}
	return nil
}

// shorten returns the beginning of a text.
func shorten(text string) string {
	if len(text) <= maxShownBytes {
		return text
	}
	return strings.ToValidUTF8(text[:maxShownBytes], "") + "…"
}

// Changed returns the lines of after that before does not have.
func Changed(before, after string) (changed []string) {
	had := map[string]bool{}
	for _, line := range splitLines(before) {
		had[line] = true
	}
	for _, line := range splitLines(after) {
		if !had[line] {
			changed = append(changed, line)
		}
	}
	return changed
}
