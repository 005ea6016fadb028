package websocket

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

// parse parses a stream in pieces of the given sizes, the last of which repeats, and describes the
// frames and the error.
func parse(maxBytes int64, stream []byte, sizes ...int) (got []string) {
	p := parser{maxBytes: maxBytes}
	for i := 0; len(stream) > 0; i++ {
		n := min(max(1, sizes[min(i, len(sizes)-1)]), len(stream))
		piece := bytes.Clone(stream[:n])
		stream = stream[n:]
		for len(piece) > 0 {
			f, rest, err := p.next(piece)
			piece = rest
			if err != nil {
				return append(got, err.Error())
			}
			if f.kind != 0 {
				got = append(got, fmt.Sprintf("%d %q", f.kind, f.payload))
			}
		}
	}
	if !p.idle() {
		got = append(got, "incomplete")
	}
	return got
}

// sessions are streams with all kinds of frames.
func sessions() map[string][]byte {
	ping := clientFrame(fin|opPing, "ping")
	all := map[string][]byte{
		"control between fragments": frames(clientFrame(opText, "κόσ"[:3]), ping, clientFrame(opContinuation, "κόσ"[3:]), clientFrame(opContinuation, ""),
			clientFrame(fin|opPong, ""), clientFrame(fin|opContinuation, "με"), text("x"), closeFrame(1000, "bye")),
		"empty":            frames(text(""), clientFrame(fin|opBinary, ""), clientFrame(fin|opPing, ""), fragmentsOf("", "", "")),
		"incomplete":       frames(text("whole"), clientFrame(opText, "part")),
		"reserved bit":     frames(text("x"), clientFrame(fin|0x40|opText, "x")),
		"reserved opcode":  frames(text("x"), clientFrame(fin|5, "x")),
		"invalid text":     frames(clientFrame(opText, "ab"), clientFrame(fin|opContinuation, "c\xff")),
		"character is cut": text("a\xce"),
		"not masked":       append([]byte{fin | opText, 2}, "hi"...),
		"long control":     clientFrame(fin|opPing, strings.Repeat("x", 126)),
		"length over 2^63": {fin | opText, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0},
		"length not short": {fin | opText, 0xfe, 0, 5, 0, 0, 0, 0},
		"no message":       clientFrame(fin|opContinuation, "x"),
		"two messages":     frames(clientFrame(opText, "x"), text("y")),
	}
	for _, n := range []int{125, 126, 65535, 65536} {
		all[fmt.Sprint(n)] = frames(ping, clientFrame(fin|opBinary, strings.Repeat("\xff", n)), text(strings.Repeat("é", n/2)), ping)
	}
	return all
}

func TestParserSplitAtEveryByte(t *testing.T) {
	for name, stream := range sessions() {
		want := parse(1<<20, stream, len(stream))
		step := 1 + len(stream)/100
		for first := 1; first < len(stream); first += step {
			if got := parse(1<<20, stream, first, len(stream)); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("%s, split at %d: got %.300q, want %.300q", name, first, got, want)
			}
		}
		if got := parse(1<<20, stream, 1); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s, byte by byte: got %.300q, want %.300q", name, got, want)
		}
	}
}

func TestParserErrors(t *testing.T) {
	for name, code := range map[string]uint16{
		"reserved bit": ProtocolError, "reserved opcode": ProtocolError, "invalid text": InvalidPayload, "character is cut": InvalidPayload,
		"not masked": ProtocolError, "long control": ProtocolError, "length over 2^63": ProtocolError, "length not short": ProtocolError,
		"no message": ProtocolError, "two messages": ProtocolError, "65536": MessageTooBig,
	} {
		got := parse(65535, sessions()[name], 1<<20)
		if last := got[len(got)-1]; !strings.Contains(last, fmt.Sprintf("with %d ", code)) {
			t.Errorf("%s: got %.300q, want a close with %d", name, got, code)
		}
	}
}

func TestParserBoundsFragments(t *testing.T) {
	for _, row := range []struct {
		message string
		tooBig  bool
	}{{strings.Repeat("x", 1000), false}, {strings.Repeat("x", 1001), true}} {
		got := parse(1000, fragments(opBinary, row.message, 100), 7)
		if tooBig := strings.Contains(got[len(got)-1], "1009"); tooBig != row.tooBig {
			t.Errorf("%d bytes: got %.300q", len(row.message), got)
		}
	}
}

// TestParserMemoryFollowsBytes checks that the length that a client announces allocates nothing.
func TestParserMemoryFollowsBytes(t *testing.T) {
	p := parser{maxBytes: 1 << 30}
	stream := appendLength([]byte{fin | opBinary}, 1<<29, 0x80)
	stream = append(stream, make([]byte, 4+1000)...)
	if _, _, err := p.next(stream); err != nil || cap(p.message) > 4096 {
		t.Errorf("got %d bytes allocated, %v, after 1000 bytes", cap(p.message), err)
	}
}

// TestParserCopiesLargeMessagesSeldom checks that a message that arrives in pieces doubles its memory,
// up to what it needs or can have.
func TestParserCopiesLargeMessagesSeldom(t *testing.T) {
	const size, piece, maxBytes = 60_000, 4 << 10, 100_000
	for name, row := range map[string]struct {
		stream []byte
		most   int
	}{
		"one frame": {text(strings.Repeat("x", size)), size},
		"fragments": {frames(clientFrame(opText, "x"), bytes.Repeat(clientFrame(opContinuation, "x"), size)), maxBytes},
	} {
		p, grown, most := parser{maxBytes: maxBytes}, 0, 0
		for stream := row.stream; len(stream) > 0; {
			b := stream[:min(piece, len(stream))]
			stream = stream[len(b):]
			for len(b) > 0 {
				var err error
				if _, b, err = p.next(b); err != nil {
					t.Fatal(name, err)
				}
				if n := cap(p.message); n > most {
					grown, most = grown+1, n
				}
			}
		}
		if most > row.most || grown > 20 {
			t.Errorf("%s: got %d bytes in %d steps, want at most %d in 20", name, most, grown, row.most)
		}
	}
}

func TestParserDoesNotCopyWholeMessages(t *testing.T) {
	stream := text(strings.Repeat("x", 1000))
	p, b := parser{maxBytes: 1 << 20}, make([]byte, len(stream))
	allocs := testing.AllocsPerRun(100, func() {
		copy(b, stream)
		if f, _, err := p.next(b); err != nil || f.kind != Text {
			t.Fatal(f.kind, err)
		}
	})
	if allocs > 0 {
		t.Errorf("got %v allocations for a message", allocs)
	}
}

// FuzzParser compares the parser on a stream in pieces with the parser on the whole stream.
func FuzzParser(f *testing.F) {
	for _, stream := range sessions() {
		if len(stream) < 4096 {
			f.Add(stream, uint8(1), uint8(3))
		}
	}
	f.Fuzz(func(t *testing.T, stream []byte, first, other uint8) {
		const most = 600
		want := parse(most, stream, len(stream)+1)
		if got := parse(most, stream, int(first), int(other)); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// FuzzMessages checks that messages arrive as they were sent, with any mask, in fragments, with
// control frames between them.
func FuzzMessages(f *testing.F) {
	for _, n := range []int{0, 1, 125, 126, 127, 65535, 65536} {
		f.Add(strings.Repeat("µ", n/2)+strings.Repeat("x", n%2), uint32(n)*0x9e3779b9, uint16(n/3), true)
	}
	f.Fuzz(func(t *testing.T, message string, mask uint32, size uint16, isText bool) {
		op, kind := byte(opBinary), Binary
		if isText {
			op, kind = opText, Text
		}
		var stream []byte
		for rest, first := message, op; ; first = opContinuation {
			n := min(int(size)+1, len(rest))
			part := rest[:n]
			if rest = rest[n:]; rest == "" {
				first |= fin
			}
			stream = append(stream, maskedFrame(first, part, mask)...)
			stream = append(stream, maskedFrame(fin|opPing, "between", mask)...)
			if rest == "" {
				break
			}
		}
		p, found := parser{maxBytes: int64(len(message))}, false
		for len(stream) > 0 {
			f, rest, err := p.next(stream)
			stream = rest
			if err != nil {
				if !isText || utf8.ValidString(message) {
					t.Fatal(err)
				}
				return
			}
			switch f.kind {
			case Ping:
				if string(f.payload) != "between" {
					t.Fatalf("got ping %q", f.payload)
				}
			case kind:
				if found = true; string(f.payload) != message {
					t.Fatalf("got %q, want %q", f.payload, message)
				}
			}
		}
		if !found || isText && !utf8.ValidString(message) {
			t.Errorf("got a message %v, of valid UTF-8 %v", found, utf8.ValidString(message))
		}
	})
}

func maskedFrame(first byte, payload string, mask uint32) []byte {
	key := [4]byte{byte(mask), byte(mask >> 8), byte(mask >> 16), byte(mask >> 24)}
	b := append(appendLength([]byte{first}, len(payload), 0x80), key[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^key[i%4])
	}
	return b
}

// FuzzCloseFrame checks that a close frame that is accepted has a code that can be sent.
func FuzzCloseFrame(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{3, 232})
	f.Add([]byte("\x03\xe8reason \xff"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		received, err := parseClose(payload)
		switch {
		case (received == nil) == (err == nil):
			t.Fatalf("got %v, %v", received, err)
		case err != nil && err.Code != ProtocolError && err.Code != InvalidPayload:
			t.Errorf("got %v", err)
		case received != nil && received.Code != NoStatus && (!isValidCode(received.Code) || !utf8.ValidString(received.Reason)):
			t.Errorf("accepted %v", received)
		}
	})
}
