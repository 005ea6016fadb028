// Package netconn wraps connections in layers, and finds a layer in such a stack. A wrapper takes
// part by having a method NetConn that returns the connection underneath, as [crypto/tls.Conn]
// has, or Raw, as a connection with a PROXY header.
package netconn

import "net"

// Find returns the outermost layer of c, c included, that is a T. T is usually an
// interface, such as [syscall.Conn].
func Find[T any](c net.Conn) (layer T, ok bool) {
	for c != nil {
		if layer, ok = c.(T); ok {
			return layer, true
		}
		c = underneath(c)
	}
	return layer, false
}

// underneath returns the connection that c wraps, or nil.
func underneath(c net.Conn) net.Conn {
	switch wrapper := c.(type) {
	case interface{ NetConn() net.Conn }:
		return wrapper.NetConn()
	case interface{ Raw() net.Conn }:
		return wrapper.Raw()
	}
	return nil
}

// Wrap returns a listener whose connections are those of inner, wrapped. Wrap can return nil for
// a connection that it has refused and closed; Accept then waits for the next one.
func Wrap(inner net.Listener, wrap func(net.Conn) net.Conn) net.Listener {
	return listener{inner, wrap}
}

type listener struct {
	net.Listener
	wrap func(net.Conn) net.Conn
}

func (l listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if wrapped := l.wrap(c); wrapped != nil {
			return wrapped, nil
		}
	}
}
