// Package nearest finds the name that a misspelled one means.
package nearest

import (
	"iter"
	"slices"
)

// maxLength bounds the names that are compared. No option is nearly as long.
const maxLength = 64

// Name returns the candidate that is most similar to a misspelled name, or "" if none is
// similar: a third of its letters can differ, three at most.
func Name(name string, candidates iter.Seq[string]) string {
	if name == "" || len(name) > maxLength {
		return ""
	}
	best, bestDistance := "", min(3, (len(name)+1)/3)+1
	for candidate := range candidates {
		if d := Distance(name, candidate); d < bestDistance {
			best, bestDistance = candidate, d
		}
	}
	return best
}

// Of is [Name] with a list of candidates.
func Of(name string, candidates ...string) string { return Name(name, slices.Values(candidates)) }

// Distance returns the number of bytes to insert, delete, replace, or swap with their
// neighbor to turn a into b (optimal string alignment).
func Distance(a, b string) int {
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
