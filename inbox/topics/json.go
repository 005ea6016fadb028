package topics

import (
	"bytes"
	"encoding/json"
	"iter"
)

// The functions below read JSON that isValid has accepted. They copy and allocate nothing, and
// keep what they do not know, which json.Unmarshal into a struct would not.

const space = " \t\r\n"

// members yields the keys and values of an object, each as it is written. The keys have quotes.
func members(object []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		rest := object[1:]
		for {
			key, after := nextValue(rest)
			if key == nil {
				return
			}
			var value []byte
			if value, rest = nextValue(after); !yield(key, value) {
				return
			}
		}
	}
}

// elements yields the elements of an array, each as it is written.
func elements(array []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for value, rest := nextValue(array[1:]); value != nil; value, rest = nextValue(rest) {
			if !yield(value) {
				return
			}
		}
	}
}

// nextValue returns the next value of an object or an array, and what follows it. At the end it
// returns nil.
func nextValue(b []byte) (value, rest []byte) {
	b = bytes.TrimLeft(b, space+",:")
	if len(b) == 0 || b[0] == '}' || b[0] == ']' {
		return nil, nil
	}
	n := valueLen(b)
	return b[:n], b[n:]
}

// valueLen returns the length of the value at the beginning of b.
func valueLen(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			if i += stringLen(b[i:]) - 1; depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
			if depth < 0 {
				return i // behind a number or a literal
			}
		case ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return i
			}
		}
	}
	return len(b)
}

// stringLen returns the length of the string at the beginning of b, with its quotes.
func stringLen(b []byte) int {
	end := 1 + bytes.IndexByte(b[1:], '"')
	escape := bytes.IndexByte(b[:end], '\\')
	if escape < 0 {
		return end + 1
	}
	for i := escape; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

// unquote returns the string that a value stands for, and whether it is one.
func unquote(value []byte) (string, bool) {
	if len(value) < 2 || value[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(value, '\\') < 0 {
		return string(value[1 : len(value)-1]), true
	}
	var s string
	return s, json.Unmarshal(value, &s) == nil
}
