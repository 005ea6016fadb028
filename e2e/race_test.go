//go:build race

package e2e

// pairCount is smaller under the race detector, which slows the peers' own
// cryptography down tenfold and does not reach into the server's process.
const pairCount = 20
