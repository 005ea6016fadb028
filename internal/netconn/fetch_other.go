//go:build !unix

package netconn

// initReceive does nothing: a Fetch reads from the connection, with a buffer.
func (c *FetchConn) initReceive() {}
