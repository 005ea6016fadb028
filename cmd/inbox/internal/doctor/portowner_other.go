//go:build !linux

package doctor

// findPortOwner is implemented on Linux only.
func findPortOwner(string) (portOwner, bool) { return portOwner{}, false }
