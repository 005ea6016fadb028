package ratelimit

import "encoding/binary"

// Formats of RFC 8446 (TLS records) and RFC 9113 (HTTP/2 frames).
const (
	recordHeaderBytes = 5
	frameHeaderBytes  = 9
	prefaceBytes      = 24 // "PRI * HTTP/2.0…"
	frameData         = 0

	recordApplicationData = 23
)

// splitter finds the units of a stream: TLS records or HTTP/2 frames. Each has a header
// that contains the length of what follows.
type splitter struct {
	headerBytes int
	measure     func(header []byte) (length int, counts bool)

	buf      [frameHeaderBytes]byte
	buffered int // bytes of an incomplete header in buf
	length   int // of the current unit, without its header
	skip     int // bytes until the next header
}

// count continues the stream with p and returns how many units that count began in p.
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
		s.buffered, s.length, s.skip = 0, length, length
	}
	return n
}

// incomplete returns the number of bytes of a unit that has begun and not ended.
func (s *splitter) incomplete() int {
	if s.skip > 0 {
		return s.headerBytes + s.length - s.skip
	}
	return s.buffered
}

func measureRecord(header []byte) (length int, counts bool) {
	length = int(binary.BigEndian.Uint16(header[3:]))
	return length, length < smallRecordBytes
}

func measureFrame(header []byte) (length int, counts bool) {
	length = int(header[0])<<16 | int(header[1])<<8 | int(header[2])
	return length, header[3] != frameData || length < smallDataBytes
}

const (
	// smallRecordBytes is the payload below which a TLS record counts. Most requests are
	// larger; a KeyUpdate without padding is 22 bytes.
	smallRecordBytes = 128
	// smallDataBytes is the payload below which a DATA frame counts.
	smallDataBytes = 1 << 10
)
