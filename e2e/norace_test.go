//go:build !race

package e2e

// pairCount is how many pairs call at once.
const pairCount = 100
