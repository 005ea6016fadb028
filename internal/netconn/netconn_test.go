package netconn

import (
	"crypto/tls"
	"net"
	"testing"
)

type wrapper struct{ net.Conn }

func (w wrapper) NetConn() net.Conn { return w.Conn }

type namedConn struct{ wrapper }

func (namedConn) Name() string { return "named" }

func TestFindReturnsOutermostLayer(t *testing.T) {
	type named interface{ Name() string }
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	inner := namedConn{wrapper{near}}
	outer := namedConn{wrapper{wrapper{inner}}}
	for _, row := range []struct {
		name string
		conn net.Conn
		want any
	}{
		{"the connection itself", inner, inner},
		{"under TLS and a wrapper", tls.Server(wrapper{inner}, &tls.Config{}), inner},
		{"two layers", outer, outer},
		{"no layer", wrapper{near}, nil},
		{"no connection", nil, nil},
	} {
		if got, ok := Find[named](row.conn); ok != (row.want != nil) || ok && any(got) != row.want {
			t.Errorf("%s: got %v, %v, want %v", row.name, got, ok, row.want)
		}
	}
}

// scriptedListener accepts its connections and then fails.
type scriptedListener struct {
	net.Listener
	conns []net.Conn
}

func (l *scriptedListener) Accept() (net.Conn, error) {
	if len(l.conns) == 0 {
		return nil, net.ErrClosed
	}
	c := l.conns[0]
	l.conns = l.conns[1:]
	return c, nil
}

func TestWrapSkipsRefusedConnections(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	l := Wrap(&scriptedListener{conns: []net.Conn{near, far, near}}, func(c net.Conn) net.Conn {
		if c == near {
			return nil
		}
		return wrapper{c}
	})
	if c, err := l.Accept(); c != (wrapper{far}) || err != nil {
		t.Errorf("got %v, %v, want the second connection, wrapped", c, err)
	}
	if c, err := l.Accept(); c != nil || err != net.ErrClosed {
		t.Errorf("got %v, %v, want the error of the listener", c, err)
	}
}

// rawConn unwraps as a connection with a PROXY header.
type rawConn struct{ c net.Conn }

func (r rawConn) Raw() net.Conn { return r.c }

func TestFindUnwrapsRawConnections(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	inner := namedConn{wrapper{near}}
	c := struct {
		net.Conn
		rawConn
	}{far, rawConn{inner}}
	if got, ok := Find[interface{ Name() string }](c); !ok || any(got) != inner {
		t.Errorf("got %v, %v", got, ok)
	}
}
