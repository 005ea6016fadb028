package conn

import (
	"bytes"
	"net"
	"strings"
	"testing"
	"time"
)

// writtenConn keeps what is written.
type writtenConn struct {
	net.Conn
	written bytes.Buffer
}

func (c *writtenConn) Write(p []byte) (int, error) { return c.written.Write(p) }
func (c *writtenConn) SetDeadline(time.Time) error { return nil }

// FuzzPriorKnowledge sends arbitrary bytes after the first line of an HTTP/2 connection. The
// answer stays small.
func FuzzPriorKnowledge(f *testing.F) {
	const settings, headers = "\x00\x00\x00\x04\x00\x00\x00\x00\x00", "\x00\x00\x00\x01\x05\x00\x00\x00\x01"
	for _, seed := range []string{"", "SM\r\n\r\n", "SM\r\n\r\n" + settings, "SM\r\n\r\n" + settings + headers, "SM\r\n\r\n" + strings.Repeat(settings, 40)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		c := &writtenConn{}
		refuseHTTP2(c, bytes.NewReader(sent))
		if got := c.written.Len(); got > 2000 {
			t.Errorf("%q: got an answer of %d bytes, want at most 2000", sent, got)
		}
	})
}
