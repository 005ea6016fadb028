//go:build !(linux || darwin || dragonfly || freebsd || netbsd || openbsd)

package inbox

// socketAlive cannot peek at a socket on this system. A closed connection is
// noticed when the request's context ends.
func socketAlive(uintptr) bool { return true }
