// Package netconn finds layers in a stack of wrapped connections. A wrapper takes part by
// having a method NetConn that returns the connection underneath, as [crypto/tls.Conn] has.
package netconn

import "net"

// Find returns the outermost layer of c, c included, that is a T. T is usually an
// interface, such as [syscall.Conn].
func Find[T any](c net.Conn) (layer T, ok bool) {
	for c != nil {
		if layer, ok = c.(T); ok {
			return layer, true
		}
		wrapper, isWrapper := c.(interface{ NetConn() net.Conn })
		if !isWrapper {
			break
		}
		c = wrapper.NetConn()
	}
	return layer, false
}
