//go:build race

package turn

// raceEnabled is set when the race detector uses memory and slows the tests down.
const raceEnabled = true
