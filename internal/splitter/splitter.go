// Package splitter finds the units of a stream, such as TLS records (RFC 8446) and HTTP/2 frames
// (RFC 9113). Each has a header that contains the length of what follows.
package splitter

// MaxHeaderBytes is the size of the largest header: that of an HTTP/2 frame.
const MaxHeaderBytes = 9

// Splitter finds the units of a stream. One goroutine can use it at a time.
type Splitter struct {
	// HeaderBytes is the size of a header, at most MaxHeaderBytes.
	HeaderBytes int
	// Measure returns the length of what follows a header, and whether the unit counts.
	Measure func(header []byte) (length int, counts bool)
	// Skip is the number of bytes until the next header.
	Skip int

	buf      [MaxHeaderBytes]byte
	buffered int // bytes of an incomplete header in buf
	length   int // of the current unit, without its header
}

// Count continues the stream with p and returns how many units that count began in p.
func (s *Splitter) Count(p []byte) (n int) {
	for len(p) > 0 {
		if s.Skip > 0 {
			k := min(s.Skip, len(p))
			p, s.Skip = p[k:], s.Skip-k
			continue
		}
		k := copy(s.buf[s.buffered:s.HeaderBytes], p)
		p, s.buffered = p[k:], s.buffered+k
		if s.buffered < s.HeaderBytes {
			break
		}
		length, counts := s.Measure(s.buf[:s.HeaderBytes])
		if counts {
			n++
		}
		s.buffered, s.length, s.Skip = 0, length, length
	}
	return n
}

// Incomplete returns the number of bytes of a unit that has begun and not ended.
func (s *Splitter) Incomplete() int {
	if s.Skip > 0 {
		return s.HeaderBytes + s.length - s.Skip
	}
	return s.buffered
}
