package host

import "strings"

// Wrap breaks a paragraph into lines of at most width bytes, indent included. A
// longer word gets a line of its own. The last line has no newline.
func Wrap(paragraph, indent string, width int) string {
	var lines []string
	line := indent
	for word := range strings.FieldsSeq(paragraph) {
		switch {
		case line == indent:
			line += word
		case len(line)+1+len(word) > width:
			lines = append(lines, line)
			line = indent + word
		default:
			line += " " + word
		}
	}
	return strings.Join(append(lines, line), "\n")
}
