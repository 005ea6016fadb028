// Package headerscan follows HTTP/1.1 requests as they arrive, to measure what a client has sent
// of a header before net/http has all of it.
package headerscan

import (
	"bytes"
	"math"
)

// Scanner follows the stream of a client that sends HTTP/1.1 requests (RFC 9112), and
// counts the bytes and lines of a header that is not complete. It skips bodies, also of
// pipelined requests. A stream that net/http rejects can be counted wrongly, because the
// connection ends.
type Scanner struct {
	// Bytes and Lines of the unfinished header, the request line included; or of unfinished
	// trailers or the line with a chunk's size.
	Bytes, Lines int64

	state scanState
	skip  int64 // bytes until the body or the chunk ends

	// Of the current line:
	lineBytes int64
	start     [longestScanned]byte // its first bytes
	end       [2]byte              // its last bytes

	// Of the current header:
	http10        bool // HTTP/1.0, where net/http ignores Transfer-Encoding
	contentLength int64
	chunked       bool
}

// InHeader reports whether the stream is in a header or before one.
func (s *Scanner) InHeader() bool { return s.state == inHeader }

type scanState uint8

const (
	inHeader    scanState = iota
	inBody                // of a known length
	inChunkSize           // the line before a chunk
	inChunkEnd            // the empty line after a chunk
	inTrailer
)

// longestScanned is the length of the longest line start that is of interest: a
// Content-Length of 19 digits with some spaces.
const longestScanned = 40

// Add continues the stream with p.
func (s *Scanner) Add(p []byte) {
	for len(p) > 0 {
		if s.skip > 0 {
			n := min(s.skip, int64(len(p)))
			p = p[n:]
			if s.skip -= n; s.skip == 0 && s.state == inBody {
				s.begin(inHeader)
			}
			continue
		}
		line, rest := p, []byte(nil)
		end := bytes.IndexByte(p, '\n')
		if end >= 0 {
			line, rest = p[:end], p[end+1:]
		}
		if s.lineBytes < longestScanned {
			copy(s.start[s.lineBytes:], line)
		}
		switch n := len(line); {
		case n >= 2:
			s.end = [2]byte{line[n-2], line[n-1]}
		case n == 1:
			s.end = [2]byte{s.end[1], line[0]}
		}
		s.lineBytes += int64(len(line))
		s.Bytes += int64(len(p) - len(rest))
		if p = rest; end >= 0 {
			s.endLine()
		}
	}
}

// begin begins a part of the stream.
func (s *Scanner) begin(state scanState) {
	s.state, s.Bytes, s.Lines, s.lineBytes = state, 0, 0, 0
	if state == inHeader {
		s.http10, s.contentLength, s.chunked = false, 0, false
	}
}

func (s *Scanner) endLine() {
	line := s.start[:min(s.lineBytes, longestScanned)]
	if n := len(line); n > 0 && line[n-1] == '\r' && s.lineBytes <= longestScanned {
		line = line[:n-1]
	}
	s.lineBytes = 0
	switch s.state {
	case inHeader:
		s.headerLine(line)
	case inChunkSize:
		s.chunkSize(line)
	case inChunkEnd:
		s.begin(inChunkSize)
	case inTrailer:
		if s.Lines++; len(line) == 0 {
			s.begin(inHeader)
		}
	}
}

func (s *Scanner) headerLine(line []byte) {
	switch {
	case len(line) > 0 && s.Lines == 0:
		s.Lines++
		s.http10 = s.end[1] == '0' || s.end == [2]byte{'0', '\r'}
	case len(line) > 0:
		s.Lines++
		s.field(line)
	case s.Lines == 0: // before the request line
	case s.chunked:
		s.begin(inChunkSize)
	case s.contentLength > 0:
		s.skip = s.contentLength
		s.begin(inBody)
	default:
		s.begin(inHeader)
	}
}

// field notes the fields that give the length of the body.
func (s *Scanner) field(line []byte) {
	if first := line[0] | 0x20; first != 'c' && first != 't' {
		return // as most
	}
	name, value, ok := bytes.Cut(line, []byte{':'})
	switch {
	case !ok:
	case bytes.EqualFold(name, []byte("Transfer-Encoding")):
		s.chunked = !s.http10 // net/http knows no other encoding
	case bytes.EqualFold(name, []byte("Content-Length")):
		s.contentLength = parseDigits(bytes.Trim(value, " \t"), 10)
	}
}

// chunkSize reads the line before a chunk: a hexadecimal number, with an optional extension.
func (s *Scanner) chunkSize(line []byte) {
	digits, _, _ := bytes.Cut(line, []byte{';'})
	if s.skip = parseDigits(bytes.Trim(digits, " \t"), 16); s.skip > 0 {
		s.begin(inChunkEnd)
	} else {
		s.begin(inTrailer)
	}
}

// parseDigits returns a number, or zero if it is invalid or too large.
func parseDigits(digits []byte, base int64) (n int64) {
	for _, c := range digits {
		d := int64(base)
		switch {
		case '0' <= c && c <= '9':
			d = int64(c - '0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			d = int64(c|0x20-'a') + 10
		}
		if d >= base || n > (math.MaxInt64-d)/base {
			return 0
		}
		n = n*base + d
	}
	return n
}
