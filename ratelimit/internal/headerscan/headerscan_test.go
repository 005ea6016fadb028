package headerscan

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestHeaderScanner(t *testing.T) {
	const get, post = "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\n"
	const chunks = "Transfer-Encoding: chunked\r\n\r\n3\r\na\nb\r\n2;x=y\r\n\n\n\r\n0\r\n"
	for _, row := range []struct {
		name, stream string
		lines        int64
		unfinished   string // the end of the stream
	}{
		{"nothing", "", 0, ""},
		{"a request", get, 0, ""},
		{"two requests", get + get, 0, ""},
		{"a request line", "GET / HT", 0, "GET / HT"},
		{"a header without its end", "GET / HTTP/1.1\r\nHost: a\r\nA:", 2, "GET / HTTP/1.1\r\nHost: a\r\nA:"},
		{"bare line feeds", "GET / HTTP/1.1\nHost: a\n\nGET / HTTP/1.1\na:\nb:\n", 3, "GET / HTTP/1.1\na:\nb:\n"},
		{"empty lines first", "\r\n\r\nGET", 0, "\r\n\r\nGET"},
		{"a body", post + "Content-Length: 9\r\n\r\na\nb\n\n\nc\n\n" + "GET / HT", 0, "GET / HT"},
		{"a body without its end", post + "content-length:  90 \r\n\r\na\nb\n\n\nc\n\n", 0, ""},
		{"an empty body", post + "Content-Length: 0\r\n\r\n" + "GET / HT", 0, "GET / HT"},
		{"chunks", post + chunks + "\r\n" + "GET / HT", 0, "GET / HT"},
		{"a length that chunks replace", post + "Content-Length: 900\r\n" + chunks + "\r\nGET / HT", 0, "GET / HT"},
		{"chunks in HTTP/1.0, which has none", "POST / HTTP/1.0\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\nGET / HT", 0, "GET / HT"},
		{"trailers", post + chunks + "A: b\r\nC: d\r\n\r\n" + "GET / HT", 0, "GET / HT"},
		{"trailers without their end", post + chunks + "A: b\r\nC: d\r\n", 2, "A: b\r\nC: d\r\n"},
		{"a field that looks like a length", post + " Content-Length: 900\r\nX-Content-Length: 900\r\n\r\nGET / HT", 0, "GET / HT"},
		{"a length behind many spaces", post + "Content-Length:" + strings.Repeat(" ", 40) + "900\r\n\r\nGET / HT", 0, "GET / HT"},
	} {
		for _, size := range []int{1, 2, 3, 7, 4096} { // of reads
			var s Scanner
			for rest := []byte(row.stream); len(rest) > 0; {
				n := min(size, len(rest))
				s.Add(rest[:n])
				rest = rest[n:]
			}
			if s.Lines != row.lines || s.Bytes != int64(len(row.unfinished)) {
				t.Errorf("%s, %d bytes at once: got %d lines and %d bytes, want %d and %d",
					row.name, size, s.Lines, s.Bytes, row.lines, len(row.unfinished))
			}
		}
	}
}

// unfinishedHeader returns how much of a stream net/http reads as a header without an end. It
// is not known if net/http rejects the stream or the stream ends in a body.
func unfinishedHeader(stream []byte) (n int, known bool) {
	unread := bytes.NewReader(stream)
	r := bufio.NewReader(unread)
	for {
		n := unread.Len() + r.Buffered()
		req, err := http.ReadRequest(r)
		if err != nil {
			return n, errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return 0, false
		}
	}
}

// FuzzHeaderScanner compares the scanner with net/http: an unfinished header must not be
// taken for something else, because it would cost nothing.
func FuzzHeaderScanner(f *testing.F) {
	for _, seed := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nA: b\r\nC",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na\nbGET / HTTP/1.1\nA:b\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length:3\r\n\r\na\nbPOST / HTTP/1.0\nA:b\n",
		"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;a\r\na\nb\r\n0\r\nA: b\r\n\r\nGET / HTTP/1.1\nA:b\n",
		"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\nabGET / HTTP/1.1\nA:b\n",
		"GET / HTTP/1.1\nTransfer-Encoding: chunked\nContent-Length: 99\n\n0\n\nGET / HTTP/1.1\nA:b\n",
		"GET / HTTP/1.1\nContent-Length: \n 5\n\n\n\n\n\n\nGET / HTTP/1.1\n",
	} {
		f.Add([]byte(seed), 3)
		f.Add([]byte(seed), 4096)
	}
	f.Fuzz(func(t *testing.T, stream []byte, size int) {
		var s Scanner
		size = max(1, size)
		for rest := stream; len(rest) > 0; {
			n := min(size, len(rest))
			s.Add(rest[:n])
			rest = rest[n:]
			if s.Bytes < 0 || s.Lines < 0 || s.skip < 0 || s.Bytes > int64(len(stream)) {
				t.Fatalf("%q: got %d bytes and %d lines", stream, s.Bytes, s.Lines)
			}
		}
		if want, known := unfinishedHeader(stream); known && s.Bytes < int64(want) {
			t.Fatalf("%q: got an unfinished header of %d bytes, want %d", stream, s.Bytes, want)
		}
	})
}
