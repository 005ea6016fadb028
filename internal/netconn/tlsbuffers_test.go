package netconn

import (
	"bytes"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"reflect"
	"sync"
	"testing"
)

// tlsPair returns the TLS layer over a FetchConn that does not wait, and its client, which writes to
// the socket through pieces.
func tlsPair(t *testing.T, version uint16) (c *FetchConn, server, client *tls.Conn, pieces *pieceConn) {
	t.Helper()
	certificate := httptest.NewTLSServer(http.NotFoundHandler())
	certificate.Close()
	c, peer := fetchPair(t)
	pieces = &pieceConn{Conn: peer}
	client = tls.Client(pieces, &tls.Config{InsecureSkipVerify: true, MaxVersion: version})
	server = tls.Server(c, certificate.TLS)
	var handshake sync.WaitGroup
	handshake.Go(func() { client.Handshake() })
	if err := server.Handshake(); err != nil {
		t.Fatal(err)
	}
	handshake.Wait()
	c.SetNonblocking()
	return c, server, client, pieces
}

func TestReleaseTLSBuffers(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		c, server, client, _ := tlsPair(t, version)
		buffers := buffersOf(server)
		if len(buffers) != 2 {
			t.Fatal("tls.Conn has other fields in this version of Go. Does it release its buffers?")
		}
		for _, size := range []int{1, 3000, 50_000, 10} {
			sent := bytes.Repeat([]byte("x"), size)
			go client.Write(sent)
			if got := readAvailable(t, c, server, size); !bytes.Equal(got, sent) {
				t.Fatalf("%s: got %d bytes that differ from the %d sent", tls.VersionName(version), len(got), size)
			}
			if _, err := server.Read(make([]byte, 1)); err != ErrWouldBlock {
				t.Fatalf("got %v, want ErrWouldBlock", err)
			}
			ReleaseTLSBuffers(wrapper{server})
			for i, b := range buffers {
				if b.Cap() != 0 {
					t.Errorf("%s: buffer %d has %d bytes after a release", tls.VersionName(version), i, b.Cap())
				}
			}
		}
	}
	near, _ := fetchPair(t)
	ReleaseTLSBuffers(near) // has no TLS
}

// TestReleaseKeepsParts checks that a record of which a part has arrived is read, when the buffers
// are released between any two of its bytes.
func TestReleaseKeepsParts(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, size := range []int{1, 2, 7, 100} {
			c, server, client, pieces := tlsPair(t, version)
			pieces.size = size
			sent := bytes.Repeat([]byte("0123456789"), 30)
			go client.Write(sent)
			var got []byte
			for b := make([]byte, 100); len(got) < len(sent); {
				n, err := server.Read(b)
				got = append(got, b[:n]...)
				if err == ErrWouldBlock {
					ReleaseTLSBuffers(server)
					err = c.Fetch()
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(got, sent) {
				t.Errorf("%s, pieces of %d bytes: got %q", tls.VersionName(version), size, got)
			}
		}
	}
}

// TestFindBuffers checks that nothing is found, and so nothing changed, in a type with other fields.
func TestFindBuffers(t *testing.T) {
	for _, row := range []struct {
		of   any
		want int
	}{
		{struct{ rawInput, hand bytes.Buffer }{}, 2},
		{struct{ rawInput bytes.Buffer }{}, 0},
		{struct {
			rawInput bytes.Buffer
			hand     *bytes.Buffer
		}{}, 0},
		{struct {
			rawInput []byte
			hand     bytes.Buffer
		}{}, 0},
	} {
		if got := findBuffers(reflect.TypeOf(row.of), "rawInput", "hand"); len(got) != row.want {
			t.Errorf("%T: got %d buffers, want %d", row.of, len(got), row.want)
		}
	}
}
