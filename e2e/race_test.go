//go:build race

package e2e

// pairCount is smaller under the race detector. It slows the peers' cryptography down
// tenfold and does not cover the server's process.
const pairCount = 20
