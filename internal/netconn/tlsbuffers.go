package netconn

import (
	"bytes"
	"crypto/tls"
	"net"
	"reflect"
	"unsafe"
)

// ReleaseTLSBuffers releases the buffers of the TLS layer of c, if it has one, that have no bytes.
// A [tls.Conn] otherwise keeps buffers of the size of the ClientHello and of the largest record for
// as long as it is open, and has no method for that. They are allocated again when bytes arrive. c
// must not be read meanwhile.
func ReleaseTLSBuffers(c net.Conn) {
	layer, ok := Find[*tls.Conn](c)
	if !ok {
		return
	}
	for _, b := range buffersOf(layer) {
		if b.Len() == 0 {
			*b = bytes.Buffer{} // which is as good as an empty one
		}
	}
}

// tlsBuffers are the offsets of the buffers in a tls.Conn, for what is received and for handshake
// messages. There are none with a version of Go that has other fields.
var tlsBuffers = findBuffers(reflect.TypeFor[tls.Conn](), "rawInput", "hand")

func findBuffers(t reflect.Type, names ...string) (offsets []uintptr) {
	for _, name := range names {
		field, ok := t.FieldByName(name)
		if !ok || len(field.Index) != 1 || field.Type != reflect.TypeFor[bytes.Buffer]() {
			return nil
		}
		offsets = append(offsets, field.Offset)
	}
	return offsets
}

func buffersOf(c *tls.Conn) (buffers []*bytes.Buffer) {
	for _, offset := range tlsBuffers {
		buffers = append(buffers, (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(c), offset)))
	}
	return buffers
}
