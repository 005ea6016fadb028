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

// http2Conn is a connection with HTTP/2 on it that follows no rule. One goroutine
// may write; what comes back is counted.
type http2Conn struct {
	net.Conn
	*http2.Framer
	headerBlock  bytes.Buffer
	encoder      *hpack.Encoder
	nextStreamID uint32

	responses, resets, acks  atomic.Int64
	closed                   chan struct{} // closed when the server has closed
	goAway                   atomic.Int64  // the code, plus one
	connWindow, streamWindow atomic.Int64  // bytes of body that the server grants
}

// dialHTTP2 connects and says so; the settings come first.
func (s *scenario) dialHTTP2(ctx context.Context, from string, settings ...http2.Setting) (*http2Conn, error) {
	c, err := s.dial(ctx, from, "h2")
	if err != nil {
		return nil, err
	}
	return startHTTP2(c, settings...)
}

// startHTTP2 says the first words of HTTP/2.
func startHTTP2(c net.Conn, settings ...http2.Setting) (*http2Conn, error) {
	f := &http2Conn{Conn: c, Framer: http2.NewFramer(c, c), nextStreamID: 1, closed: make(chan struct{})}
	f.encoder = hpack.NewEncoder(&f.headerBlock)
	f.connWindow.Store(1<<16 - 1) // what RFC 9113 grants from the start
	f.streamWindow.Store(1<<16 - 1)
	f.SetWriteDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		c.Close()
		return nil, err
	}
	return f, f.WriteSettings(settings...)
}

// readFrames reads what the server sends until it closes.
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

// openStream begins a request and returns its stream.
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

// closeAll closes connections, of which some may never have been made, and sums
// up what came back.
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

// fillerFields is header fields of about that many bytes as HTTP/2 counts them,
// each stored by the server, none compressed.
func fillerFields(size int) []hpack.HeaderField {
	value := string(bytes.Repeat([]byte("x"), 1000))
	var fields []hpack.HeaderField
	for ; size > 1100; size -= 1032 + len("x-filler") {
		fields = append(fields, hpack.HeaderField{Name: "x-filler", Value: value, Sensitive: true})
	}
	return fields
}
