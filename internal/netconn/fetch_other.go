//go:build !unix

package netconn

// initReceive does nothing: a Fetch reads from the connection, with a buffer.
func (c *FetchConn) initReceive() {}

// CanDefer reports whether Defer works for the connection: never on this system.
func (c *FetchConn) CanDefer() bool { return false }

// Defer does nothing.
func (c *FetchConn) Defer(*[]byte) {}
