package ratelimit

import "encoding/binary"

// The shapes of RFC 8446 and RFC 9113.
const (
	recordHeaderBytes = 5
	frameHeaderBytes  = 9
	prefaceBytes      = 24 // "PRI * HTTP/2.0…"
	frameData         = 0
)

// splitter finds pieces in a stream: each is a head that says how much follows.
type splitter struct {
	headerBytes int // bytes
	measure     func(head []byte) (length int, counts bool)

	buf      [frameHeaderBytes]byte
	buffered int // bytes of the head in buf
	skip     int // bytes that are no head
}

// count goes on through the stream and returns how many pieces that count
// began in p.
func (s *splitter) count(p []byte) (n int) {
	for len(p) > 0 {
		if s.skip > 0 {
			k := min(s.skip, len(p))
			p, s.skip = p[k:], s.skip-k
			continue
		}
		k := copy(s.buf[s.buffered:s.headerBytes], p)
		p, s.buffered = p[k:], s.buffered+k
		if s.buffered < s.headerBytes {
			break
		}
		length, counts := s.measure(s.buf[:s.headerBytes])
		if counts {
			n++
		}
		s.buffered, s.skip = 0, length
	}
	return n
}

func measureRecord(header []byte) (length int, counts bool) {
	length = int(binary.BigEndian.Uint16(header[3:]))
	return length, length < smallRecordBytes
}

func measureFrame(header []byte) (length int, counts bool) {
	length = int(header[0])<<16 | int(header[1])<<8 | int(header[2])
	return length, header[3] != frameData || length < smallDataBytes
}
