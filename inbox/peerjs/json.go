package peerjs

import "bytes"

// maxDepth bounds the nesting of a frame. Those of clients have a few levels.
const maxDepth = 200

// jsonScanner splits JSON (RFC 8259) while it validates it. Payloads are kilobytes of text, and
// encoding/json takes several times as long. It does not validate UTF-8.
type jsonScanner struct {
	text []byte
	at   int
}

// peek returns the byte at hand, 0 at the end.
func (s *jsonScanner) peek() byte {
	if s.at < len(s.text) {
		return s.text[s.at]
	}
	return 0
}

func (s *jsonScanner) skipSpace() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\t', '\r', '\n':
			s.at++
		default:
			return
		}
	}
}

// accept skips white space and the byte c, and reports whether it is there.
func (s *jsonScanner) accept(c byte) bool {
	if s.skipSpace(); s.peek() != c {
		return false
	}
	s.at++
	return true
}

// value skips a value, and reports whether it is valid.
func (s *jsonScanner) value(depth int) bool {
	s.skipSpace()
	switch c := s.peek(); c {
	case '"':
		return s.str()
	case '{':
		return s.members(depth, func([]byte, []byte) {})
	case '[':
		return s.elements(depth)
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	}
	return s.number()
}

// members skips an object, and calls do with the JSON of the name and the value of each member.
func (s *jsonScanner) members(depth int, do func(name, value []byte)) bool {
	if depth >= maxDepth || !s.accept('{') {
		return false
	}
	if s.accept('}') {
		return true
	}
	for {
		s.skipSpace()
		from := s.at
		if !s.str() {
			return false
		}
		name := s.text[from:s.at]
		if !s.accept(':') {
			return false
		}
		s.skipSpace()
		from = s.at
		if !s.value(depth + 1) {
			return false
		}
		do(name, s.text[from:s.at])
		if !s.accept(',') {
			return s.accept('}')
		}
	}
}

// elements skips an array.
func (s *jsonScanner) elements(depth int) bool {
	if depth >= maxDepth || !s.accept('[') {
		return false
	}
	if s.accept(']') {
		return true
	}
	for s.value(depth + 1) {
		if !s.accept(',') {
			return s.accept(']')
		}
	}
	return false
}

func (s *jsonScanner) literal(text string) bool {
	if !bytes.HasPrefix(s.text[s.at:], []byte(text)) {
		return false
	}
	s.at += len(text)
	return true
}

// plain are the bytes that stand for themselves in a string.
var plain = func() (is [256]bool) {
	for c := range is {
		is[c] = c >= ' ' && c != '"' && c != '\\'
	}
	return is
}()

// escaped are the bytes that can follow a backslash, besides u.
var escaped = [256]bool{'"': true, '\\': true, '/': true, 'b': true, 'f': true, 'n': true, 'r': true, 't': true}

// str skips a string. The order of the tests matters: this takes most of the time of a frame.
func (s *jsonScanner) str() bool {
	if s.peek() != '"' {
		return false
	}
	text := s.text
	for i := s.at + 1; i < len(text); i++ {
		if plain[text[i]] {
			continue
		}
		switch text[i] {
		case '"':
			s.at = i + 1
			return true
		case '\\':
			if i++; i < len(text) && escaped[text[i]] {
				continue
			}
			if i >= len(text) || text[i] != 'u' || !isHex(text[i+1:]) {
				return false
			}
			i += 4
		default:
			return false
		}
	}
	return false
}

// isHex reports whether four hexadecimal digits follow.
func isHex(text []byte) bool {
	if len(text) < 4 {
		return false
	}
	for _, c := range text[:4] {
		if !('0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f') {
			return false
		}
	}
	return true
}

// number skips a number.
func (s *jsonScanner) number() bool {
	if s.peek() == '-' {
		s.at++
	}
	if s.peek() == '0' {
		s.at++
	} else if !s.digits() {
		return false
	}
	if s.peek() == '.' {
		if s.at++; !s.digits() {
			return false
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.at++
		if c := s.peek(); c == '+' || c == '-' {
			s.at++
		}
		return s.digits()
	}
	return true
}

// digits skips one digit or more.
func (s *jsonScanner) digits() bool {
	from := s.at
	for c := s.peek(); '0' <= c && c <= '9'; c = s.peek() {
		s.at++
	}
	return s.at > from
}
