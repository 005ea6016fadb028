package config

import (
	"flag"
	"strings"
)

// maxNameLength bounds the names that are compared. No option is nearly as long.
const maxNameLength = 64

// nearestOption returns the option whose name is most similar to a misspelled one, or ""
// if none is similar. Case, and the choice between dash and underscore, do not count.
func (o *Options) nearestOption(name string) string {
	name = strings.Trim(strings.ToLower(strings.ReplaceAll(name, "_", "-")), "-:=")
	if name == "" || len(name) > maxNameLength {
		return ""
	}
	if o.settable("inbox-" + name) { // INBOX_TIMEOUT for INBOX_INBOX_TIMEOUT
		return "inbox-" + name
	}
	best, bestDistance := "", min(3, (len(name)+1)/3)+1
	o.flags.VisitAll(func(f *flag.Flag) {
		if !o.settable(f.Name) {
			return
		}
		if d := editDistance(name, f.Name); d < bestDistance {
			best, bestDistance = f.Name, d
		}
	})
	return best
}

// editDistance returns the number of bytes to insert, delete, replace, or swap with their
// neighbor to turn a into b (optimal string alignment).
func editDistance(a, b string) int {
	var beforeLast []int
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			substitution := 1
			if a[i] == b[j] {
				substitution = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+substitution)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], beforeLast[j-1]+1)
			}
		}
		beforeLast, last = last, row
	}
	return last[len(b)]
}

// variableOf returns the environment variable that sets an option.
func variableOf(option string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(option, "-", "_"))
}
