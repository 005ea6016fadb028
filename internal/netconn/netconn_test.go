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
