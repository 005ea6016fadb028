package setup

import "strings"

// Assignment is a line of the environment file: INBOX_NAME=value.
type Assignment struct{ Variable, Value string }

func (a Assignment) String() string { return a.Variable + "=" + a.Value }

// Assign returns the text of an environment file in which the assignments hold. It replaces the
// last assignment of a variable, or else its first line that is commented out, or else appends a
// line. All other lines stay as they are.
func Assign(text string, assignments []Assignment) string {
	var lines []string
	if text = strings.TrimSuffix(text, "\n"); text != "" {
		lines = strings.Split(text, "\n")
	}
	for _, a := range assignments {
		if i := findLine(lines, a.Variable); i >= 0 {
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

// findLine returns the index of the line to replace, or -1.
func findLine(lines []string, variable string) int {
	for i := len(lines) - 1; i >= 0; i-- {
		if strings.HasPrefix(strings.TrimSpace(lines[i]), variable+"=") {
			return i
		}
	}
	for i, line := range lines {
		if strings.HasPrefix(strings.TrimSpace(line), "#"+variable+"=") {
			return i
		}
	}
	return -1
}

// valueOf returns the value of a variable in the text of an environment file, or "". The last
// assignment counts, as for systemd.
func valueOf(text, variable string) (value string) {
	for line := range strings.Lines(text) {
		if v, found := strings.CutPrefix(strings.TrimSpace(line), variable+"="); found {
			value = strings.Trim(strings.TrimSpace(v), `"'`)
		}
	}
	return value
}

// changedLines returns the lines of after that before does not have.
func changedLines(before, after string) (changed []string) {
	had := map[string]bool{}
	for line := range strings.Lines(before) {
		had[strings.TrimSuffix(line, "\n")] = true
	}
	for line := range strings.Lines(after) {
		if line = strings.TrimSuffix(line, "\n"); !had[line] {
			changed = append(changed, line)
		}
	}
	return changed
}
