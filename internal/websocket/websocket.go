// Package websocket is the server side of WebSocket (RFC 6455) on connections that net/http has
// accepted. It is for servers with many connections that are mostly idle: a connection that waits
// has no buffer, over plain TCP and over TLS, and soon no goroutine either.
//
// [Upgrade] performs the opening handshake and hijacks the connection. [Conn.Start] then reads
// frames in goroutines of its own, one at a time, and calls a [Handler]; the HTTP handler returns.
// The package answers pings, validates what arrives, and closes connections that break the protocol,
// that stop in the middle of a message, that do not read, or that do not answer pings. It has no
// queue: a write returns when the kernel has accepted the frame. It negotiates no extensions, and
// speaks HTTP/1.1 only, not RFC 8441.
//
// The headers of frames, masks and the key of the handshake are those of github.com/gobwas/ws. For
// waiting so, the listener must be a [inbox/internal/netconn.FetchListener] at its bottom;
// otherwise a connection holds a goroutine and 4 KiB while it waits.
package websocket

import (
	"fmt"
	"time"

	"github.com/gobwas/ws"
)

// Kind is a kind of frame or message.
type Kind uint8

// The kinds. A message is Text or Binary. Fragment is a frame of a message that is not its last.
const (
	Text Kind = iota + 1
	Binary
	Fragment
	Ping
	Pong
	Close
)

// Handler handles what arrives on a connection. Its methods are called by a goroutine of the
// connection, one at a time, so they need no lock among them, and nothing is read while one runs.
// They can write. Payloads are valid until the method returns. As in net/http, a panic ends the
// connection only, and is logged unless it is http.ErrAbortHandler.
type Handler interface {
	// Allow is called with each frame that has arrived, before it is handled. It returns how long
	// to wait before the frame is handled, or with again, before Allow is called once more. Nothing
	// is read meanwhile, but Woken is called. A message of several fragments is a Fragment without
	// a payload for each but the last, and then Text or Binary with the whole message.
	Allow(kind Kind, payload []byte) (wait time.Duration, again bool)
	// Message is called with each message. A Text is valid UTF-8.
	Message(kind Kind, payload []byte)
	// Pong is called with the payload of each pong, which repeats that of a ping.
	Pong(payload []byte)
	// Woken is called after [Conn.Wake], once for several calls, and at the time of [Conn.WakeAt].
	Woken()
	// Closed is called once, last, when the connection is closed: with a [CloseError] if either
	// side sent a close frame, [ErrNotReading], [ErrNoPong], or the error of the connection.
	Closed(err error)
}

// Buffering is a [Handler] that accounts for the memory of incomplete messages. Messages that
// arrive in one piece of 4 KiB or less use none.
type Buffering interface {
	// Buffer reports whether a message can use more bytes. If not, the connection is closed with
	// [TryAgainLater]. With a negative number it releases bytes, and the result does not matter.
	Buffer(more int) bool
}

// Nimble is a [Handler] that can do with little what Woken does.
type Nimble interface {
	// WokenEarly is called by [Conn.TryWake], while no method of the handler runs. It must not
	// wait, and writes with [Conn.WriteEarly] and [Conn.WriteAndPingEarly] only. It reports whether
	// everything is done; otherwise Woken follows.
	WokenEarly() bool
}

// Config has what all connections of a kind share. It must not change after the first use.
type Config struct {
	// Protocols are the subprotocols of the server. The first that a client offers of them is
	// selected. A client that offers none of them, or none at all, is served too.
	Protocols []string
	// MaxMessageBytes bounds a message. It must be above zero.
	MaxMessageBytes int
	// MessageTimeout bounds the time from the first byte of a message, or of a frame, to its last.
	// Zero is no limit.
	MessageTimeout time.Duration
	// WriteTimeout bounds a write, after which the connection is closed. Zero is no limit.
	WriteTimeout time.Duration
	// CloseTimeout bounds the wait for the client's close frame after the server has sent one.
	CloseTimeout time.Duration
	// PingInterval is the time between two pings. A connection on which nothing arrives after two
	// of them is closed. Zero sends none.
	PingInterval time.Duration
	// OnDelay, if not nil, is called with how long a frame has waited until it was allowed.
	OnDelay func(time.Duration)
	// Conns, if not nil, tracks the connections.
	Conns *Conns

	restAfter time.Duration // of tests; zero is the constant
}

// Status codes of close frames (RFC 6455, section 7.4.1, and its registry of IANA).
const (
	NormalClosure   = uint16(ws.StatusNormalClosure)
	GoingAway       = uint16(ws.StatusGoingAway)
	ProtocolError   = uint16(ws.StatusProtocolError)
	UnsupportedData = uint16(ws.StatusUnsupportedData)
	NoStatus        = uint16(ws.StatusNoStatusRcvd) // a close frame without a code
	InvalidPayload  = uint16(ws.StatusInvalidFramePayloadData)
	PolicyViolation = uint16(ws.StatusPolicyViolation)
	MessageTooBig   = uint16(ws.StatusMessageTooBig)
	InternalError   = uint16(ws.StatusInternalServerError)
	ServiceRestart  = uint16(1012)
	TryAgainLater   = uint16(1013)

	badGateway    = 1014
	maxStatusCode = 4999
)

// CloseError is the end of a connection by a close frame.
type CloseError struct {
	Code   uint16
	Reason string
	// Remote reports whether the client sent its close frame first.
	Remote bool
}

func (e *CloseError) Error() string {
	side := "server"
	if e.Remote {
		side = "client"
	}
	return fmt.Sprintf("websocket: closed by the %s with %d %q", side, e.Code, e.Reason)
}

// fault is the error of a frame that breaks the protocol.
func fault(code uint16, reason string) *CloseError { return &CloseError{Code: code, Reason: reason} }
