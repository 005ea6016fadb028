package websocket

import (
	"fmt"
	"strings"
	"testing"
)

// autobahnCase is a case of the Autobahn test suite, as its client sends it to an echo server.
type autobahnCase struct {
	id   string
	send []byte
	// chop is the size of the pieces in which send is written; 0 is one piece.
	chop int
	// want has the frames of the server before its close frame, and code that of the close frame.
	// If code is 0, the client closes with 1000 after the last frame.
	want []serverFrame
	code uint16
}

type serverFrame struct {
	first   byte
	payload string
}

func frames(parts ...[]byte) (b []byte) {
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

func text(s string) []byte { return clientFrame(fin|opText, s) }

// echoes returns the frames that an echo server sends for messages of one kind.
func echoes(op byte, payloads ...string) (want []serverFrame) {
	for _, p := range payloads {
		want = append(want, serverFrame{fin | op, p})
	}
	return want
}

func (c *autobahnCase) run(t *testing.T, s *testServer) {
	client, sent := s.dial(t), make(chan struct{})
	go func() {
		defer close(sent)
		for b := c.send; len(b) > 0; {
			n := len(b)
			if c.chop > 0 {
				n = min(c.chop, n)
			}
			if _, err := client.conn.Write(b[:n]); err != nil {
				return // the server has closed the connection
			}
			b = b[n:]
		}
	}()
	for _, f := range c.want {
		client.wantFrame(f.first, f.payload)
	}
	if t.Failed() {
		return
	}
	if c.code == 0 {
		<-sent // what follows the close frame would reset the connection
		client.send(closeFrame(NormalClosure, ""))
		client.wantClose(NormalClosure)
		return
	}
	first, payload, err := client.readFrame()
	want := closePayload(c.code, "")
	if c.code == NoStatus {
		want = ""
	}
	if err != nil || first != fin|opClose || !strings.HasPrefix(payload, want) || want == "" && payload != "" {
		t.Errorf("got %#x %q, %v; want a close frame with %d", first, cut(payload), err, c.code)
	}
}

// TestAutobahn runs the cases 1 to 7 and 10 of the Autobahn test suite. The others are about
// performance and compression.
func TestAutobahn(t *testing.T) {
	var cases []autobahnCase
	for _, group := range [][]autobahnCase{
		autobahnFraming(), autobahnPings(), autobahnReserved(), autobahnFragments(), autobahnUTF8(), autobahnClose(),
	} {
		cases = append(cases, group...)
	}
	for _, transport := range transports[:2] {
		t.Run(transport, func(t *testing.T) {
			s := newTestServer(t, transport, Config{}, echoHandler)
			for _, c := range cases {
				t.Run(c.id, func(t *testing.T) { c.run(t, s) })
			}
		})
	}
}

// autobahnFraming has the groups 1 and 10.
func autobahnFraming() (cases []autobahnCase) {
	for group, op := range []byte{opText, opBinary} {
		for i, n := range []int{0, 125, 126, 127, 128, 65535, 65536, 65536} {
			c := autobahnCase{id: fmt.Sprintf("1.%d.%d", group+1, i+1)}
			payload := strings.Repeat("*", n)
			if op == opBinary {
				payload = strings.Repeat("\xfe", n)
			}
			c.send, c.want = clientFrame(fin|op, payload), echoes(op, payload)
			if i == 7 {
				c.chop = 997
			}
			cases = append(cases, c)
		}
	}
	long := strings.Repeat("*", 65536)
	return append(cases, autobahnCase{id: "10.1.1", send: fragments(opText, long, 1300), want: echoes(opText, long)})
}

// fragments returns a message in frames of n bytes.
func fragments(op byte, message string, n int) (b []byte) {
	for len(message) > n {
		b = append(b, clientFrame(op, message[:n])...)
		message, op = message[n:], opContinuation
	}
	return append(b, clientFrame(fin|op, message)...)
}

// autobahnPings has group 2.
func autobahnPings() []autobahnCase {
	ping := func(p string) []byte { return clientFrame(fin|opPing, p) }
	pong := func(p string) []byte { return clientFrame(fin|opPong, p) }
	var ten []byte
	var tenPayloads []string
	for i := range 10 {
		p := fmt.Sprintf("payload-%d", i)
		ten, tenPayloads = append(ten, ping(p)...), append(tenPayloads, p)
	}
	long := strings.Repeat("\xfe", 125)
	return []autobahnCase{
		{id: "2.1", send: ping(""), want: echoes(opPong, "")},
		{id: "2.2", send: ping("Hello, world!"), want: echoes(opPong, "Hello, world!")},
		{id: "2.3", send: ping("\x00\xff\xfe\xfd\xfc\xfb\x00\xff"), want: echoes(opPong, "\x00\xff\xfe\xfd\xfc\xfb\x00\xff")},
		{id: "2.4", send: ping(long), want: echoes(opPong, long)},
		{id: "2.5", send: ping(long + "\xfe"), code: ProtocolError},
		{id: "2.6", send: ping(long), chop: 1, want: echoes(opPong, long)},
		{id: "2.7", send: pong("")},
		{id: "2.8", send: pong("unsolicited pong payload")},
		{id: "2.9", send: frames(pong("unsolicited pong payload"), ping("ping payload")), want: echoes(opPong, "ping payload")},
		{id: "2.10", send: ten, want: echoes(opPong, tenPayloads...)},
		{id: "2.11", send: ten, chop: 1, want: echoes(opPong, tenPayloads...)},
	}
}

// autobahnReserved has the groups 3 and 4: reserved bits and opcodes.
func autobahnReserved() []autobahnCase {
	const hello = "Hello, world!"
	rsv := func(bits, op byte, p string) []byte { return clientFrame(fin|bits<<4|op, p) }
	after := frames(text(hello), rsv(2, opText, hello), clientFrame(fin|opPing, ""))
	cases := []autobahnCase{
		{id: "3.1", send: rsv(1, opText, hello), code: ProtocolError},
		{id: "3.2", send: after, want: echoes(opText, hello), code: ProtocolError},
		{id: "3.3", send: frames(text(hello), rsv(3, opText, hello), clientFrame(fin|opPing, "")), chop: 19, want: echoes(opText, hello), code: ProtocolError},
		{id: "3.4", send: frames(text(hello), rsv(4, opText, hello), clientFrame(fin|opPing, "")), chop: 1, want: echoes(opText, hello), code: ProtocolError},
		{id: "3.5", send: rsv(5, opBinary, "\x00\xff\xfe\xfd\xfc\xfb\x00\xff"), code: ProtocolError},
		{id: "3.6", send: rsv(6, opPing, hello), code: ProtocolError},
		{id: "3.7", send: rsv(7, opClose, closePayload(NormalClosure, "")), code: ProtocolError},
	}
	for group, first := range []byte{3, 11} {
		for i := range byte(5) {
			c := autobahnCase{id: fmt.Sprintf("4.%d.%d", group+1, i+1), code: ProtocolError}
			frame := clientFrame(fin|first+i, strings.Repeat(hello, int(i%2)))
			if c.send = frame; i >= 2 {
				c.send, c.want = frames(text(hello), frame, clientFrame(fin|opPing, "")), echoes(opText, hello)
			}
			if i >= 3 {
				c.chop = 1
			}
			cases = append(cases, c)
		}
	}
	return cases
}

// autobahnFragments has group 5.
func autobahnFragments() []autobahnCase {
	f := clientFrame
	message := frames(f(opText, "fragment1"), f(fin|opContinuation, "fragment2"))
	withPing := frames(f(opText, "fragment1"), f(fin|opPing, "ping payload"), f(fin|opContinuation, "fragment2"))
	pongEcho := append(echoes(opPong, "ping payload"), echoes(opText, "fragment1fragment2")...)
	nothing := func(first byte) []byte { return frames(f(first, "non-continuation payload"), text("Hello, world!")) }
	twice := func(first byte) (b []byte) {
		for range 2 {
			b = frames(b, f(first, "fragment1"), f(opText, "fragment2"), f(fin|opContinuation, "fragment3"))
		}
		return b
	}
	five := frames(f(opText, "fragment1"), f(opContinuation, "fragment2"), f(fin|opPing, "1"), f(opContinuation, "fragment3"),
		f(opContinuation, "fragment4"), f(fin|opPing, "2"), f(fin|opContinuation, "fragment5"))
	fiveEcho := append(echoes(opPong, "1", "2"), echoes(opText, "fragment1fragment2fragment3fragment4fragment5")...)
	return []autobahnCase{
		{id: "5.1", send: frames(f(opPing, "fragment1"), f(fin|opContinuation, "fragment2")), code: ProtocolError},
		{id: "5.2", send: frames(f(opPong, "fragment1"), f(fin|opContinuation, "fragment2")), code: ProtocolError},
		{id: "5.3", send: message, want: echoes(opText, "fragment1fragment2")},
		{id: "5.4", send: message, chop: 15, want: echoes(opText, "fragment1fragment2")},
		{id: "5.5", send: message, chop: 1, want: echoes(opText, "fragment1fragment2")},
		{id: "5.6", send: withPing, want: pongEcho},
		{id: "5.7", send: withPing, chop: 15, want: pongEcho},
		{id: "5.8", send: withPing, chop: 1, want: pongEcho},
		{id: "5.9", send: nothing(fin | opContinuation), code: ProtocolError},
		{id: "5.10", send: nothing(fin | opContinuation), chop: 30, code: ProtocolError},
		{id: "5.11", send: nothing(fin | opContinuation), chop: 1, code: ProtocolError},
		{id: "5.12", send: nothing(opContinuation), code: ProtocolError},
		{id: "5.13", send: nothing(opContinuation), chop: 30, code: ProtocolError},
		{id: "5.14", send: nothing(opContinuation), chop: 1, code: ProtocolError},
		{id: "5.15", send: frames(message, f(opContinuation, "fragment3"), text("fragment4")), want: echoes(opText, "fragment1fragment2"), code: ProtocolError},
		{id: "5.16", send: twice(opContinuation), code: ProtocolError},
		{id: "5.17", send: twice(fin | opContinuation), code: ProtocolError},
		{id: "5.18", send: frames(f(opText, "fragment1"), text("fragment2")), code: ProtocolError},
		{id: "5.19", send: five, want: fiveEcho},
		{id: "5.20", send: five, chop: 1, want: fiveEcho},
	}
}

// autobahnUTF8 has group 6.
func autobahnUTF8() (cases []autobahnCase) {
	add := func(id string, send []byte, chop int, valid bool, payload string) {
		c := autobahnCase{id: id, send: send, chop: chop, code: InvalidPayload}
		if valid {
			c.want, c.code = echoes(opText, payload), 0
		}
		cases = append(cases, c)
	}
	const valid, invalid = "Hello-µ@ßöäüàá-UTF-8!!", "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80\x65\x64\x69\x74\x65\x64"
	add("6.1.1", text(""), 0, true, "")
	add("6.1.2", fragmentsOf("", "", ""), 0, true, "")
	add("6.1.3", fragmentsOf("", "middle frame payload", ""), 0, true, "middle frame payload")
	add("6.2.1", text(valid), 0, true, valid)
	add("6.2.2", fragmentsOf(valid[:12], valid[12:]), 0, true, valid)
	add("6.2.3", fragments(opText, valid, 1), 0, true, valid)
	add("6.2.4", fragments(opText, "κόσμε", 1), 0, true, "κόσμε")
	add("6.3.1", text(invalid), 0, false, "")
	add("6.3.2", fragments(opText, invalid, 1), 0, false, "")
	// The message never ends in these: an invalid character ends the connection at once.
	early := clientFrame(opText, "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80")
	add("6.4.1", early, 0, false, "")
	add("6.4.2", frames(clientFrame(opText, "κόσμε\xf4"), clientFrame(opContinuation, "\x90")), 0, false, "")
	add("6.4.3", text(invalid + strings.Repeat("x", 20))[:6+18], 0, false, "")
	add("6.4.4", text("κόσμε\xf4\x90" + strings.Repeat("x", 20))[:6+13], 1, false, "")
	for _, g := range utf8Groups() {
		for i, payload := range g.payloads {
			add(fmt.Sprintf("6.%d.%d", g.group, i+1), text(payload), 0, g.valid(i), payload)
		}
	}
	return cases
}

func fragmentsOf(parts ...string) (b []byte) {
	for i, p := range parts {
		first := byte(opContinuation)
		if i == 0 {
			first = opText
		}
		if i == len(parts)-1 {
			first |= fin
		}
		b = append(b, clientFrame(first, p)...)
	}
	return b
}

type utf8Group struct {
	group    int
	payloads []string
	valid    func(i int) bool
}

// utf8Groups has the groups 6.5 to 6.23.
func utf8Groups() []utf8Group {
	always := func(int) bool { return true }
	never := func(int) bool { return false }
	const word = "κόσμε"
	var prefixes []string
	for i := range len(word) {
		prefixes = append(prefixes, word[:i+1])
	}
	wholeCharacter := func(i int) bool { return strings.ToValidUTF8(word[:i+1], "") == word[:i+1] }
	var nonCharacters []string
	for plane := rune(0); plane <= 16; plane++ {
		nonCharacters = append(nonCharacters, string(plane<<16|0xfffe), string(plane<<16|0xffff))
	}
	continuations := "\x80\xbf\x80\xbf\x80\xbf\x80\xbf"
	all := ""
	for b := 0x80; b < 0xc0; b++ {
		all += string([]byte{byte(b)})
	}
	return []utf8Group{
		{5, []string{word, word[:2], word[2:], "Hello-µ@ßöäüàá-UTF-8!!", word + word}, always},
		{6, prefixes, wholeCharacter},
		{7, []string{"\x00", "\u0080", "\u0800", "\U00010000"}, always},
		{8, []string{"\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80"}, never},
		{9, []string{"\x7f", "\u07ff", "\uffff", "\U0010ffff"}, always},
		{10, []string{"\xf7\xbf\xbf\xbf", "\xfb\xbf\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf\xbf"}, never},
		{11, []string{"\ud7ff", "\ue000", "\ufffd", "\U0010ffff", "\xf4\x90\x80\x80"}, func(i int) bool { return i < 4 }},
		{12, []string{"\x80", "\xbf", continuations[:2], continuations[:3], continuations[:4], continuations[:5], continuations[:6], all}, never},
		{13, []string{spaced(0xc0, 0xdf), spaced(0xe0, 0xef), spaced(0xf0, 0xf7), spaced(0xf8, 0xfb), spaced(0xfc, 0xfd)}, never},
		{14, missingLast(), never},
		{15, []string{strings.Join(missingLast(), "")}, never},
		{16, []string{"\xfe", "\xff", "\xfe\xfe\xff\xff"}, never},
		{17, []string{"\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xf8\x80\x80\x80\xaf", "\xfc\x80\x80\x80\x80\xaf"}, never},
		{18, []string{"\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xf8\x87\xbf\xbf\xbf", "\xfc\x83\xbf\xbf\xbf\xbf"}, never},
		{19, []string{"\xc0\x80", "\xe0\x80\x80", "\xf0\x80\x80\x80", "\xf8\x80\x80\x80\x80", "\xfc\x80\x80\x80\x80\x80"}, never},
		{20, []string{"\xed\xa0\x80", "\xed\xad\xbf", "\xed\xae\x80", "\xed\xaf\xbf", "\xed\xb0\x80", "\xed\xbe\x80", "\xed\xbf\xbf"}, never},
		{21, surrogatePairs(), never},
		{22, nonCharacters, always},
		{23, []string{"\ufff9", "\ufffa", "\ufffb", "\ufffc", "\ufffd", "\ufffe", "\uffff"}, always},
	}
}

// spaced returns bytes, each followed by a space.
func spaced(from, to byte) (s string) {
	for b := from; b <= to; b++ {
		s += string([]byte{b, ' '})
	}
	return s
}

// missingLast returns sequences without their last byte.
func missingLast() []string {
	return []string{
		"\xc0", "\xe0\x80", "\xf0\x80\x80", "\xf8\x80\x80\x80", "\xfc\x80\x80\x80\x80",
		"\xdf", "\xef\xbf", "\xf7\xbf\xbf", "\xfb\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf",
	}
}

func surrogatePairs() (pairs []string) {
	for _, high := range []string{"\xed\xa0\x80", "\xed\xad\xbf", "\xed\xae\x80", "\xed\xaf\xbf"} {
		pairs = append(pairs, high+"\xed\xb0\x80", high+"\xed\xbf\xbf")
	}
	return pairs
}

// autobahnClose has group 7.
func autobahnClose() []autobahnCase {
	const hello = "Hello World!"
	normal := closeFrame(NormalClosure, "")
	long := strings.Repeat("*", 256<<10)
	cases := []autobahnCase{
		{id: "7.1.1", send: frames(text(hello), normal), want: echoes(opText, hello), code: NormalClosure},
		{id: "7.1.2", send: frames(normal, normal), code: NormalClosure},
		{id: "7.1.3", send: frames(normal, clientFrame(fin|opPing, "")), code: NormalClosure},
		{id: "7.1.4", send: frames(normal, text(hello)), code: NormalClosure},
		{id: "7.1.5", send: frames(clientFrame(opText, "fragment1"), normal, clientFrame(fin|opContinuation, "fragment2")), code: NormalClosure},
		{id: "7.1.6", send: frames(text(long), text(hello), normal, clientFrame(fin|opPing, "")), want: echoes(opText, long, hello), code: NormalClosure},
		{id: "7.3.1", send: clientFrame(fin|opClose, ""), code: NoStatus},
		{id: "7.3.2", send: clientFrame(fin|opClose, "a"), code: ProtocolError},
		{id: "7.3.3", send: normal, code: NormalClosure},
		{id: "7.3.4", send: closeFrame(NormalClosure, hello), code: NormalClosure},
		{id: "7.3.5", send: closeFrame(NormalClosure, strings.Repeat("*", 123)), code: NormalClosure},
		{id: "7.3.6", send: closeFrame(NormalClosure, strings.Repeat("*", 124)), code: ProtocolError},
		{id: "7.5.1", send: closeFrame(NormalClosure, "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80"), code: InvalidPayload},
	}
	for i, code := range []uint16{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999, 1012, 1013, 1014} {
		cases = append(cases, autobahnCase{id: fmt.Sprintf("7.7.%d", i+1), send: closeFrame(code, ""), code: code})
	}
	for i, code := range []uint16{0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999} {
		cases = append(cases, autobahnCase{id: fmt.Sprintf("7.9.%d", i+1), send: closeFrame(code, ""), code: ProtocolError})
	}
	for i, code := range []uint16{5000, 65535} {
		cases = append(cases, autobahnCase{id: fmt.Sprintf("7.13.%d", i+1), send: closeFrame(code, ""), code: ProtocolError})
	}
	return cases
}
