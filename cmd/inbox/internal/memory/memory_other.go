//go:build !linux

package memory

// systemMemory is unknown on other systems.
func systemMemory() int64 { return 0 }
