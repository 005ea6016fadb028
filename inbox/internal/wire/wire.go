// Package wire parses and writes the frames of the WebSocket subprotocol inbox.1. A frame is a head
// of fields, each followed by one space, and a body, which is the rest and can be anything. Names,
// passwords and recipients are percent-encoded.
package wire

import (
	"bytes"
	"errors"
	"net/url"
	"strconv"
	"strings"

	"inbox/inbox/internal/names"
)

// Protocol is the name of the subprotocol.
const Protocol = "inbox.1"

// MaxHelloBytes bounds what a client sends before it has shown its password.
const MaxHelloBytes = 1 << 10

// MaxHeadBytes bounds the head of a send: the longest recipient, percent-encoded, with a number
// and a wait.
const MaxHeadBytes = 3*names.MaxBytes + 256

// Verb is the first field of a frame.
type Verb uint8

// The verbs of clients.
const (
	Hello Verb = iota + 1 // hello NAME PASSWORD [KEY=VALUE …]
	Send                  // send REF TO[?QUERY] TYPE BODY
	Ack                   // ack ID
	Ping                  // ping
)

// Frame is a frame of a client.
type Frame struct {
	Verb Verb
	// Number is the REF of a Send or the ID of an Ack.
	Number uint64
	// Name and Password are those of a Hello, decoded.
	Name, Password string
	// To is the recipient of a Send, decoded, but not checked.
	To string
	// Query has the parameters of a Hello or a Send, in the form of a query string.
	Query string
	// Type is the short media type of a Send. Body is part of what was parsed.
	Type string
	Body []byte
}

// Errors of Parse. Each breaks the protocol, as no answer can name the frame.
var (
	errVerb     = errors.New("a frame begins with hello, send, ack or ping")
	errFields   = errors.New("a field of the frame is missing")
	errNumber   = errors.New("a number is not decimal or too large")
	errEncoding = errors.New("a field has a broken percent-encoding")
)

// Parse parses a frame of a client.
func Parse(frame []byte) (Frame, error) {
	if IsPing(frame) {
		return Frame{Verb: Ping}, nil
	}
	verb, rest, _ := bytes.Cut(frame, []byte(" "))
	switch string(verb) {
	case "hello":
		return parseHello(string(rest))
	case "send":
		return parseSend(rest)
	case "ack":
		id, err := parseNumber(rest)
		return Frame{Verb: Ack, Number: id}, err
	}
	return Frame{}, errVerb
}

// IsAck reports whether a frame is an acknowledgement.
func IsAck(frame []byte) bool { return bytes.HasPrefix(frame, []byte("ack ")) }

// Pong is the answer to a ping. A page cannot see the ping frames of RFC 6455, and a connection
// that is dead without notice carries neither.
const Pong = "pong"

// IsPing reports whether a frame asks for a Pong.
func IsPing(frame []byte) bool { return string(frame) == "ping" }

func parseHello(fields string) (f Frame, err error) {
	name, rest, _ := strings.Cut(fields, " ")
	password, params, _ := strings.Cut(rest, " ")
	if name == "" || password == "" {
		return f, errFields
	}
	f = Frame{Verb: Hello, Query: strings.ReplaceAll(params, " ", "&")}
	if f.Name, err = url.PathUnescape(name); err == nil {
		f.Password, err = url.PathUnescape(password)
	}
	if err != nil {
		return f, errEncoding
	}
	return f, nil
}

func parseSend(b []byte) (f Frame, err error) {
	f.Verb = Send
	ref, b, _ := bytes.Cut(b, []byte(" "))
	to, b, _ := bytes.Cut(b, []byte(" "))
	kind, body, found := bytes.Cut(b, []byte(" "))
	if !found || len(to) == 0 || len(kind) == 0 {
		return f, errFields
	}
	if f.Number, err = parseNumber(ref); err != nil {
		return f, err
	}
	name, query, _ := strings.Cut(string(to), "?")
	if name == "" {
		return f, errFields
	}
	if f.To, err = url.PathUnescape(name); err != nil {
		return f, errEncoding
	}
	f.Query, f.Type, f.Body = query, string(kind), body
	return f, nil
}

// parseNumber parses digits.
func parseNumber(b []byte) (uint64, error) {
	n, err := strconv.ParseUint(string(b), 10, 64)
	if err != nil {
		return 0, errNumber
	}
	return n, nil
}

// AppendWelcome appends the answer to a hello: the first ID of the claim, the size of the largest
// message, the window, and the seconds between two pings.
func AppendWelcome(b []byte, id uint64, maxBytes int64, window uint64, pingSeconds int) []byte {
	b = appendNumber(append(b, "welcome "...), id)
	b = strconv.AppendInt(append(b, ' '), maxBytes, 10)
	b = appendNumber(append(b, ' '), window)
	return strconv.AppendInt(append(b, ' '), int64(pingSeconds), 10)
}

// AppendOK appends that a message is stored.
func AppendOK(b []byte, ref uint64) []byte { return appendNumber(append(b, "ok "...), ref) }

// AppendFail appends the head of a refusal, whose body is a problem document. The number of a hello
// is 0.
func AppendFail(b []byte, ref uint64) []byte {
	return append(appendNumber(append(b, "fail "...), ref), ' ')
}

// AppendMessage appends the head of a message, without its body.
func AppendMessage(b []byte, id uint64, from, kind string) []byte {
	b = appendNumber(append(b, "msg "...), id)
	b = append(append(b, ' '), names.Escape(from)...)
	return append(append(append(b, ' '), kind...), ' ')
}

// AppendEnd appends the reason for the end of a connection.
func AppendEnd(b []byte, reason string) []byte { return append(append(b, "end "...), reason...) }

func appendNumber(b []byte, n uint64) []byte { return strconv.AppendUint(b, n, 10) }
