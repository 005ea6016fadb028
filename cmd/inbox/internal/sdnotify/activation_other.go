//go:build !unix

package sdnotify

// isListening is never called: no service manager passes sockets on this system.
func isListening(uintptr) bool { return false }
