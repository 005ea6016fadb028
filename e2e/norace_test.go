//go:build !race

package e2e

// pairCount is the number of concurrent calls.
const pairCount = 100
