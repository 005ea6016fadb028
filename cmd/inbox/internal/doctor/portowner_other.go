//go:build !linux

package doctor

// findPortOwner is implemented on Linux only.
func findPortOwner(network, port string) (portOwner, bool) { return portOwner{}, false }
