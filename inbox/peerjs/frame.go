package peerjs

import (
	"bytes"
	"encoding/json"
)

// frameType is the type of a frame.
type frameType uint8

const (
	other frameType = iota // of no known type, or no frame
	heartbeat
	offer
	answer
	candidate
	leave
	expire
	numFrameTypes
)

// String returns the type as it is in frames.
func (t frameType) String() string {
	return [...]string{"OTHER", "HEARTBEAT", "OFFER", "ANSWER", "CANDIDATE", "LEAVE", "EXPIRE"}[t]
}

// waits reports whether a frame of the type waits for a recipient that is absent.
func (t frameType) waits() bool { return t == offer || t == answer || t == candidate }

// answerType is a type of frame of the server itself.
type answerType uint8

const (
	opened answerType = iota
	refusedTaken
	refusedError
	refusedKey
	expired
	numAnswers
)

// String returns the type in lower case.
func (a answerType) String() string {
	return [...]string{"open", "id-taken", "error", "invalid-key", "expire"}[a]
}

// Frames of the server itself. The texts are those of PeerServer.
var (
	openFrame     = []byte(`{"type":"OPEN"}`)
	idTakenFrame  = []byte(`{"type":"ID-TAKEN","payload":{"msg":"ID is taken"}}`)
	heartbeatText = []byte(`{"type":"HEARTBEAT"}`)
)

// invalidKeyPrefix begins the frame that refuses the key of a client.
const invalidKeyPrefix = `{"type":"INVALID-KEY","payload":{"msg":`

const (
	errNothing   = "No id, token, or key supplied to websocket server"
	errInvalid   = "The id or the token is too long, or contains control characters"
	errFull      = "Server has reached its concurrent user limit"
	errPayerFull = "Your address has reached its limit of ids"
	errTooMany   = "Your address has claimed many ids lately"
	errStore     = "The server cannot reach its store"
)

func errorFrame(text string) []byte {
	return []byte(`{"type":"ERROR","payload":{"msg":"` + text + `"}}`)
}

// frame is a frame of a client. Its parts refer to what was parsed.
type frame struct {
	kind    frameType
	dst     string
	dstText []byte // dst as JSON; valid with dst
	payload []byte // JSON; nil if there is none
}

// isHeartbeat reports whether a frame is a heartbeat, as the client writes it.
func isHeartbeat(text []byte) bool { return bytes.Equal(text, heartbeatText) }

// parseFrame parses a text of valid UTF-8, which is a frame if it is a JSON object of type, dst and
// payload; other members do not matter. The type is other if it is none.
func parseFrame(text []byte) (f frame) {
	if isHeartbeat(text) {
		return frame{kind: heartbeat}
	}
	s := jsonScanner{text: text}
	isObject := s.members(0, func(name, value []byte) { f.set(name, value) })
	if s.skipSpace(); !isObject || s.at != len(text) {
		return frame{}
	}
	return f
}

// set sets a member. The last one counts, as in JavaScript.
func (f *frame) set(name, value []byte) {
	switch string(name) {
	case `"type"`:
		f.kind = kinds[string(value)]
	case `"dst"`:
		f.dst, f.dstText = "", value
		switch {
		case value[0] != '"':
		case bytes.IndexByte(value, '\\') < 0:
			f.dst = string(value[1 : len(value)-1])
		default:
			_ = json.Unmarshal(value, &f.dst) // it is a string
		}
	case `"payload"`:
		f.payload = value
	}
}

// kinds are the types by their JSON.
var kinds = func() map[string]frameType {
	all := make(map[string]frameType, numFrameTypes)
	for t := heartbeat; t < numFrameTypes; t++ {
		all[`"`+t.String()+`"`] = t
	}
	return all
}()

// quote returns a text as JSON.
func quote(text string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(text) // a string
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// typePrefix begins a frame that the server writes.
const typePrefix = `{"type":"`

// appendFrame appends a frame. Source and destination are JSON.
func appendFrame(b []byte, t frameType, src string, dst, payload []byte) []byte {
	b = append(append(b, typePrefix...), t.String()...)
	b = append(append(b, `","src":`...), src...)
	b = append(append(b, `,"dst":`...), dst...)
	if payload != nil {
		b = append(append(b, `,"payload":`...), payload...)
	}
	return append(b, '}')
}

// typeOf returns the type of a frame that appendFrame made, other if it is none.
func typeOf(body []byte) frameType {
	rest, found := bytes.CutPrefix(body, []byte(typePrefix))
	if !found {
		return other
	}
	kind, _, _ := bytes.Cut(rest, []byte{'"'})
	for t := heartbeat; t < numFrameTypes; t++ {
		if string(kind) == t.String() {
			return t
		}
	}
	return other
}
