//go:build !linux

package host

// systemMemory is unknown on other systems.
func systemMemory() int64 { return 0 }
