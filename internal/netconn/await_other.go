//go:build !linux

package netconn

// Await does nothing and reports false: connections need a goroutine each on this system.
func (c *FetchConn) Await(Awaiter) bool { return false }

func (c *FetchConn) endAwait() {}

// Awaiting returns zero.
func Awaiting() int { return 0 }
