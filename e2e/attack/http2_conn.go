package attack

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// http2Conn is an HTTP/2 connection without the checks of a client. Only one goroutine can
// write. Received frames are counted.
type http2Conn struct {
	net.Conn
	*http2.Framer
	headerBlock  bytes.Buffer
	encoder      *hpack.Encoder
	nextStreamID uint32

	responses, resets, acks  atomic.Int64
	closed                   chan struct{} // closed when the server closes the connection
	goAway                   atomic.Int64  // error code of GOAWAY plus one; 0: none
	connWindow, streamWindow atomic.Int64  // flow-control windows in bytes
}

// dialHTTP2 connects and sends the client preface with the settings.
func (s *scenario) dialHTTP2(ctx context.Context, from string, settings ...http2.Setting) (*http2Conn, error) {
	c, err := s.dial(ctx, from, "h2")
	if err != nil {
		return nil, err
	}
	return startHTTP2(c, settings...)
}

// startHTTP2 sends the client preface.
func startHTTP2(c net.Conn, settings ...http2.Setting) (*http2Conn, error) {
	f := &http2Conn{Conn: c, Framer: http2.NewFramer(c, c), nextStreamID: 1, closed: make(chan struct{})}
	f.encoder = hpack.NewEncoder(&f.headerBlock)
	f.connWindow.Store(1<<16 - 1) // the initial windows of RFC 9113
	f.streamWindow.Store(1<<16 - 1)
	f.SetWriteDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		c.Close()
		return nil, err
	}
	return f, f.WriteSettings(settings...)
}

// readFrames reads frames until the server closes the connection.
func (f *http2Conn) readFrames() {
	defer close(f.closed)
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		switch frame := frame.(type) {
		case *http2.HeadersFrame:
			f.responses.Add(1)
		case *http2.RSTStreamFrame:
			f.resets.Add(1)
		case *http2.GoAwayFrame:
			f.goAway.Store(int64(frame.ErrCode) + 1)
		case *http2.PingFrame:
			f.acks.Add(1)
		case *http2.SettingsFrame:
			if size, ok := frame.Value(http2.SettingInitialWindowSize); ok {
				f.streamWindow.Store(int64(size))
			}
		case *http2.WindowUpdateFrame:
			if frame.StreamID == 0 {
				f.connWindow.Add(int64(frame.Increment))
			}
		}
	}
}

// openStream sends the header of a request and returns the ID of its stream.
func (f *http2Conn) openStream(method, path, name string, endStream bool, extra ...hpack.HeaderField) (uint32, error) {
	f.headerBlock.Reset()
	fields := append([]hpack.HeaderField{
		{Name: ":method", Value: method}, {Name: ":scheme", Value: "https"},
		{Name: ":authority", Value: "inbox"}, {Name: ":path", Value: path},
		{Name: "authorization", Value: basic(name)},
	}, extra...)
	for _, field := range fields {
		_ = f.encoder.WriteField(field) // into memory: cannot fail
	}
	id := f.nextStreamID
	f.nextStreamID += 2
	const maxFrameBytes = 16 << 10
	block := f.headerBlock.Bytes()
	first := block[:min(maxFrameBytes, len(block))]
	rest := block[len(first):]
	err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: first, EndStream: endStream, EndHeaders: len(rest) == 0})
	for err == nil && len(rest) > 0 {
		part := rest[:min(maxFrameBytes, len(rest))]
		rest = rest[len(part):]
		err = f.WriteContinuation(id, len(rest) == 0, part)
	}
	return id, err
}

// closeAll closes the connections that are not nil, and returns the total of received
// responses and resets.
func closeAll(h2conns []*http2Conn) (responses, resets int64) {
	for _, f := range h2conns {
		if f != nil {
			responses += f.responses.Load()
			resets += f.resets.Load()
			f.Close()
		}
	}
	return responses, resets
}

// fillerFields returns header fields of about size bytes, with the overhead that HTTP/2
// counts. They are sent without compression.
func fillerFields(size int) []hpack.HeaderField {
	value := string(bytes.Repeat([]byte("x"), 1000))
	var fields []hpack.HeaderField
	for ; size > 1100; size -= 1032 + len("x-filler") {
		fields = append(fields, hpack.HeaderField{Name: "x-filler", Value: value, Sensitive: true})
	}
	return fields
}
