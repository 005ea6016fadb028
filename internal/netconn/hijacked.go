package netconn

import "net"

// Hijacked tells the layers of a connection that it no longer carries HTTP: each that has a
// method Hijacked stops what it does for HTTP. The connection must not be read meanwhile.
func Hijacked(c net.Conn) {
	for c != nil {
		if layer, ok := c.(interface{ Hijacked() }); ok {
			layer.Hijacked()
		}
		c = underneath(c)
	}
}
