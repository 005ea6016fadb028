package websocket

import (
	"bytes"
	"errors"
	"sync"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// parser splits what a client sends into frames and assembles messages. It validates everything
// but the content of close frames. Messages that are whole in what is parsed are not copied.
type parser struct {
	maxBytes int64 // of a message

	state   ws.State
	inFrame bool // the header of the current frame is complete
	isText  bool
	rawLen  uint8
	raw     [ws.MaxHeaderSize]byte
	header  ws.Header
	parsed  int64 // bytes of the payload

	message   []byte // of fragments, and of a frame that is not complete
	validText int    // bytes of message that are valid UTF-8
	control   []byte // payload of a control frame that is not complete
}

// frame is a complete frame. The payload is that of the whole message, or of a control frame, and
// is part of what was parsed or of the parser: it is valid until the next call. A zero kind is no
// frame.
type frame struct {
	kind    Kind
	payload []byte
}

// next parses b until a frame is complete and returns the rest. Without a frame, b is parsed
// completely. It changes b. After an error, the parser cannot be used.
func (p *parser) next(b []byte) (f frame, rest []byte, err error) {
	if !p.inFrame {
		if b, err = p.parseHeader(b); err != nil || !p.inFrame {
			return f, b, err
		}
	}
	n := int(min(int64(len(b)), p.header.Length-p.parsed))
	chunk, rest := b[:n], b[n:]
	ws.Cipher(chunk, p.header.Mask, int(p.parsed%4))
	p.parsed += int64(n)
	if p.header.OpCode.IsControl() {
		return p.addControl(chunk), rest, nil
	}
	f, err = p.addData(chunk)
	return f, rest, err
}

// idle reports whether no message and no frame has begun.
func (p *parser) idle() bool {
	return !p.inFrame && p.rawLen == 0 && !p.state.Fragmented()
}

// parseHeader continues the header of a frame, and validates it when it is complete.
func (p *parser) parseHeader(b []byte) (rest []byte, err error) {
	for p.rawLen < 2 || int(p.rawLen) < headerBytes(p.raw[1]) {
		if len(b) == 0 {
			return nil, nil
		}
		p.raw[p.rawLen] = b[0]
		p.rawLen++
		b = b[1:]
	}
	if p.header, err = readHeader(p.raw[:p.rawLen]); err != nil {
		return nil, fault(ProtocolError, err.Error())
	}
	if err := p.checkHeader(); err != nil {
		return nil, err
	}
	p.inFrame, p.rawLen, p.parsed = true, 0, 0
	return b, nil
}

// headerBytes returns the size of a header by its second byte.
func headerBytes(second byte) int {
	n := 2
	switch second & 0x7f {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	if second&0x80 != 0 {
		n += 4
	}
	return n
}

// headerReader is what parsing a header needs.
type headerReader struct {
	bytes.Reader
	scratch [ws.MaxHeaderSize]byte
}

var headerReaders = sync.Pool{New: func() any { return new(headerReader) }}

func readHeader(raw []byte) (ws.Header, error) {
	r := headerReaders.Get().(*headerReader)
	defer headerReaders.Put(r)
	r.Reset(raw)
	return ws.ReadHeaderBuffer(r, r.scratch[:])
}

var errLongLength = errors.New("the length of a frame is not in its shortest form")

func (p *parser) checkHeader() error {
	h := p.header
	if err := ws.CheckHeader(h, p.state.Set(ws.StateServerSide)); err != nil {
		return fault(ProtocolError, err.Error())
	}
	if int(p.rawLen) != ws.HeaderSize(h) {
		return fault(ProtocolError, errLongLength.Error())
	}
	if h.OpCode.IsData() && h.Length > p.maxBytes-int64(len(p.message)) {
		return fault(MessageTooBig, "the message is too large")
	}
	if h.OpCode == ws.OpText || h.OpCode == ws.OpBinary {
		p.isText = h.OpCode == ws.OpText
	}
	return nil
}

// addControl continues the payload of a control frame.
func (p *parser) addControl(chunk []byte) (f frame) {
	if int64(len(chunk)) != p.header.Length {
		p.control = append(p.control, chunk...)
		chunk = p.control
	}
	if p.parsed < p.header.Length {
		return frame{}
	}
	p.inFrame, p.control = false, nil
	switch p.header.OpCode {
	case ws.OpPing:
		return frame{Ping, chunk}
	case ws.OpPong:
		return frame{Pong, chunk}
	}
	return frame{Close, chunk}
}

// addData continues a message.
func (p *parser) addData(chunk []byte) (f frame, err error) {
	h := &p.header
	complete := p.parsed == h.Length
	if complete && h.Fin && h.OpCode != ws.OpContinuation && int64(len(chunk)) == h.Length {
		if p.isText && !utf8.Valid(chunk) {
			return frame{}, errInvalidText
		}
		p.inFrame = false
		return frame{p.messageKind(), chunk}, nil
	}
	p.makeRoom(len(chunk))
	p.message = append(p.message, chunk...)
	if err := p.checkText(complete && h.Fin); err != nil || !complete {
		return frame{}, err
	}
	p.inFrame = false
	if !h.Fin {
		p.state = p.state.Set(ws.StateFragmented)
		return frame{kind: Fragment}, nil
	}
	p.state = p.state.Clear(ws.StateFragmented)
	f = frame{p.messageKind(), p.message}
	p.message, p.validText = nil, 0
	return f, nil
}

// makeRoom makes room for n bytes that have arrived, and for as many as the message has already, but
// not for more than it will have. append would make room for a quarter more, and copy a message of
// 60 KB a dozen times.
func (p *parser) makeRoom(n int) {
	need := len(p.message) + n
	if need <= cap(p.message) {
		return
	}
	most := int64(need) + p.header.Length - p.parsed
	if !p.header.Fin {
		most = max(most, p.maxBytes)
	}
	p.message = append(make([]byte, 0, min(int64(max(need, 2*cap(p.message))), most)), p.message...)
}

func (p *parser) messageKind() Kind {
	if p.isText {
		return Text
	}
	return Binary
}

var errInvalidText = fault(InvalidPayload, "a text is not valid UTF-8")

// checkText checks what has been added to a text. A character can be incomplete unless the message
// is complete.
func (p *parser) checkText(complete bool) error {
	if !p.isText {
		return nil
	}
	p.validText += validPrefix(p.message[p.validText:])
	rest := p.message[p.validText:]
	if len(rest) > 0 && (complete || utf8.FullRune(rest)) {
		return errInvalidText
	}
	return nil
}

// validPrefix returns how many bytes are complete characters of UTF-8 until the first that is not.
func validPrefix(b []byte) (n int) {
	if utf8.Valid(b) {
		return len(b) // as usual, and faster
	}
	for n < len(b) {
		r, size := utf8.DecodeRune(b[n:])
		if r == utf8.RuneError && size <= 1 {
			break
		}
		n += size
	}
	return n
}
