package topics

import (
	"bytes"
	"strconv"
)

// kind is the type of a frame.
type kind int

const (
	other kind = iota // neither of the following: it is ignored
	subscribe
	unsubscribe
	publish
	ping
	numKinds
)

var kindNames = [numKinds]string{"other", "subscribe", "unsubscribe", "publish", "ping"}

// frame is a frame of a client. Its bytes are those that were received.
type frame struct {
	kind   kind
	text   []byte // the object
	topic  []byte // a JSON string; nil without one
	topics []byte // a JSON array; nil without one
	// payload is what a client of Trystero publishes; nil without one.
	payload    []byte
	hasData    bool // y-webrtc publishes it as data
	hasClients bool
}

// parseFrame reads a frame of either protocol. What is no such frame has the kind other. Of a key
// that occurs twice, the last one counts, as in browsers.
func parseFrame(text []byte) (f frame) {
	text = bytes.Trim(text, space)
	if len(text) == 0 || text[0] != '{' || !isValid(text) {
		return frame{}
	}
	f.text = text
	for key, value := range members(text) {
		f.set(key, value)
	}
	return f
}

// set notes a member of the object.
func (f *frame) set(key, value []byte) {
	switch string(plain(key)) {
	case `"type"`:
		f.kind = kindOf(value)
	case `"topic"`:
		f.topic = ifKind(value, '"')
	case `"topics"`:
		f.topics = ifKind(value, '[')
	case `"payload"`:
		f.payload = value
	case `"data"`:
		f.hasData = true
	case `"clients"`:
		f.hasClients = true
	}
}

// plain returns a string in quotes without escape sequences, so that it can be compared.
func plain(value []byte) []byte {
	if bytes.IndexByte(value, '\\') < 0 {
		return value
	}
	s, _ := unquote(value)
	return []byte(`"` + s + `"`)
}

// ifKind returns a value that begins with first, or nil.
func ifKind(value []byte, first byte) []byte {
	if value[0] != first {
		return nil
	}
	return value
}

func kindOf(value []byte) kind {
	switch string(plain(value)) {
	case `"subscribe"`:
		return subscribe
	case `"unsubscribe"`:
		return unsubscribe
	case `"publish"`:
		return publish
	case `"ping"`:
		return ping
	}
	return other
}

// protocol returns the protocol of a frame on a connection that has not subscribed.
func (f *frame) protocol() Protocol {
	switch {
	case f.kind == publish && f.payload != nil && !f.hasData:
		return Trystero
	case f.kind == publish, f.topics != nil:
		return YWebRTC
	case f.topic != nil:
		return Trystero
	}
	return Unknown
}

// withClients returns the frame as y-webrtc delivers it: as it was published, with the number of
// members.
func (f *frame) withClients(n int) []byte {
	const room = len(`,"clients":}`) + 20
	b := make([]byte, 0, len(f.text)+room)
	if f.hasClients {
		b = f.appendWithoutClients(b)
	} else {
		b = append(b, bytes.TrimRight(f.text[:len(f.text)-1], space)...)
	}
	b = strconv.AppendInt(append(b, `,"clients":`...), int64(n), 10)
	return append(b, '}')
}

// appendWithoutClients appends the object without its end and its number of members.
func (f *frame) appendWithoutClients(b []byte) []byte {
	next := byte('{')
	for key, value := range members(f.text) {
		if name, _ := unquote(key); name == "clients" {
			continue
		}
		b = append(append(append(append(b, next), key...), ':'), value...)
		next = ','
	}
	return b
}

// withoutType returns the frame as Trystero delivers it.
func (f *frame) withoutType() []byte {
	const syntax = len(`{"topic":,"payload":}`)
	b := make([]byte, 0, len(f.topic)+len(f.payload)+syntax)
	b = append(append(b, `{"topic":`...), f.topic...)
	b = append(append(b, `,"payload":`...), f.payload...)
	return append(b, '}')
}

var (
	pingText = []byte(`{"type":"ping"}`)
	pongText = []byte(`{"type":"pong"}`)
)
