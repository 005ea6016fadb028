package websocket

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"inbox/internal/netconn"

	"github.com/gobwas/ws"
)

// frameBuffer is where a frame is put together, so that one write sends it.
type frameBuffer struct {
	bytes   []byte
	scratch [ws.MaxHeaderSize]byte
}

// maxPooledBytes bounds the buffers that are reused.
const maxPooledBytes = 16 << 10

var frameBuffers = sync.Pool{New: func() any { return new(frameBuffer) }}

// Write appends, for [ws.WriteHeaderBuffer].
func (b *frameBuffer) Write(p []byte) (int, error) {
	b.bytes = append(b.bytes, p...)
	return len(p), nil
}

func (b *frameBuffer) release() {
	if cap(b.bytes) <= maxPooledBytes {
		frameBuffers.Put(b)
	}
}

// add appends a frame of the parts.
func (b *frameBuffer) add(op ws.OpCode, parts ...[]byte) {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	// The buffer has room and no write to it fails.
	_ = ws.WriteHeaderBuffer(b, ws.Header{Fin: true, OpCode: op, Length: int64(n)}, b.scratch[:])
	for _, p := range parts {
		b.bytes = append(b.bytes, p...)
	}
}

// Write sends a message, a Text or a Binary, that consists of the parts. It returns when the
// kernel has accepted it, and waits for writes of other goroutines. A Text must be valid UTF-8.
// After an error, which is [ErrNotReading] if the client does not read and [ErrClosing] after
// Close, the connection ends.
func (c *Conn) Write(kind Kind, parts ...[]byte) error {
	return c.writeFrame(opOf(kind), parts...)
}

func opOf(kind Kind) ws.OpCode {
	if kind == Binary {
		return ws.OpBinary
	}
	return ws.OpText
}

// WriteAndPing sends a Text and, with the same write to the kernel, a ping, unless one of them is
// nil. It is otherwise like [Conn.Write] and [Conn.Ping].
func (c *Conn) WriteAndPing(text, ping []byte) error {
	b := frameBuffers.Get().(*frameBuffer)
	defer b.release()
	b.set(text, ping)
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.closeSent {
		return ErrClosing
	}
	return c.write(b.bytes)
}

// set makes the buffer a Text and a ping, unless one of them is nil.
func (b *frameBuffer) set(text, ping []byte) {
	b.bytes = b.bytes[:0]
	if text != nil {
		b.add(ws.OpText, text)
	}
	if ping != nil {
		b.add(ws.OpPing, ping)
	}
}

// WriteEarly is Write for [Nimble] WokenEarly, which alone can call it. It does not wait: what the
// kernel has no room for is written by another goroutine. Then hasRoom is false, and nothing more
// should be written early.
func (c *Conn) WriteEarly(kind Kind, parts ...[]byte) (hasRoom bool, err error) {
	b := frameBuffers.Get().(*frameBuffer)
	defer b.release()
	b.bytes = b.bytes[:0]
	b.add(opOf(kind), parts...)
	return c.writeEarly(b.bytes)
}

// WriteAndPingEarly is WriteAndPing for [Nimble] WokenEarly, as WriteEarly is Write.
func (c *Conn) WriteAndPingEarly(text, ping []byte) (hasRoom bool, err error) {
	b := frameBuffers.Get().(*frameBuffer)
	defer b.release()
	b.set(text, ping)
	return c.writeEarly(b.bytes)
}

func (c *Conn) writeEarly(p []byte) (hasRoom bool, err error) {
	if c.closeSent {
		return false, ErrClosing
	}
	c.socket.Defer(&c.unwritten)
	_, err = c.conn.Write(p)
	c.socket.Defer(nil)
	if err != nil {
		c.abort(err)
	}
	return len(c.unwritten) == 0, err
}

// endEarlyWrites allows other writes, if need be after what WriteEarly has not written.
func (c *Conn) endEarlyWrites() {
	if len(c.unwritten) == 0 {
		c.writing.Unlock()
		return
	}
	go func() {
		defer c.writing.Unlock()
		rest, layer := c.unwritten, c.conn
		c.unwritten = nil
		if over, ok := netconn.Find[*tls.Conn](c.conn); ok {
			layer = over.NetConn() // the rest is encrypted
		}
		_ = c.writeTo(layer, rest) // an error ends the connection
	}()
}

// Ping sends a ping with a payload of 125 bytes or less, whose pong [Handler] Pong is called with.
// Pings of the server itself have no payload.
func (c *Conn) Ping(payload []byte) error {
	if len(payload) > ws.MaxControlFramePayloadSize {
		return errors.New("websocket: the payload of a ping is too large")
	}
	return c.writeFrame(ws.OpPing, payload)
}

// Close sends a close frame, unless one was sent, and returns. The connection is closed when the
// client has sent its own, or after [Config.CloseTimeout]. What arrives until then is dropped. The
// reason is cut to 123 bytes.
func (c *Conn) Close(code uint16, reason string) {
	c.begin(&CloseError{Code: code, Reason: reason})
	c.sendClose(code, reason)
}

// fail closes a connection whose client broke the protocol. What follows is not parsed, so the end
// of the stream tells the client to close, as the answer to its close frame otherwise does.
func (c *Conn) fail(broken *CloseError) {
	c.dropping = true
	c.parser.message = nil
	c.begin(broken)
	c.sendClose(broken.Code, broken.Reason)
	if half, ok := netconn.Find[interface{ CloseWrite() error }](c.conn); ok {
		_ = half.CloseWrite() // an error is that of a closed connection
	}
}

// sendClose sends a close frame, unless one was sent, and sets the deadline of the client's.
func (c *Conn) sendClose(code uint16, reason string) {
	c.limitClosing()
	var payload []byte
	if code != NoStatus {
		payload = binary.BigEndian.AppendUint16(nil, code)
		payload = append(payload, cutReason(reason)...)
	}
	_ = c.writeFrame(ws.OpClose, payload) // an error ends the connection
}

// cutReason returns as much of a reason as fits into a close frame.
func cutReason(reason string) string {
	const most = ws.MaxControlFramePayloadSize - 2
	if len(reason) <= most {
		return reason
	}
	return strings.ToValidUTF8(reason[:most], "")
}

// limitClosing sets when the connection is closed at the latest.
func (c *Conn) limitClosing() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closeBy != 0 {
		return
	}
	c.closeBy = c.now() + c.config.CloseTimeout
	if c.deadline > 0 && c.deadline <= c.closeBy {
		return
	}
	c.deadline = c.closeBy
	_ = c.reading().SetReadDeadline(c.began.Add(c.closeBy)) // fails on a closed connection
}

// writeFrame sends one frame with one write.
func (c *Conn) writeFrame(op ws.OpCode, parts ...[]byte) error {
	b := frameBuffers.Get().(*frameBuffer)
	defer b.release()
	b.bytes = b.bytes[:0]
	b.add(op, parts...)
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.closeSent {
		return ErrClosing
	}
	c.closeSent = op == ws.OpClose
	return c.write(b.bytes)
}

func (c *Conn) write(p []byte) error { return c.writeTo(c.conn, p) }

// writeTo writes to a layer of the connection.
func (c *Conn) writeTo(layer net.Conn, p []byte) error {
	if c.config.WriteTimeout > 0 {
		_ = layer.SetWriteDeadline(time.Now().Add(c.config.WriteTimeout)) // fails on a closed connection, as the write will
	}
	_, err := layer.Write(p)
	if err == nil {
		if c.config.WriteTimeout > 0 {
			_ = layer.SetWriteDeadline(time.Time{})
		}
		return nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = ErrNotReading
	}
	c.abort(err)
	return err
}
