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

// frames is a connection with HTTP/2 on it that follows no rule. One goroutine
// may write; what comes back is counted.
type frames struct {
	net.Conn
	*http2.Framer
	block  bytes.Buffer
	encode *hpack.Encoder
	next   uint32

	answers, resets, acks atomic.Int64
	gone                  chan struct{} // closed when the server has closed
	goAway                atomic.Int64  // the code, plus one
	conn, stream          atomic.Int64  // bytes of body that the server grants
}

// dialHTTP2 connects and says so; the settings come first.
func (s *scene) dialHTTP2(ctx context.Context, from string, settings ...http2.Setting) (*frames, error) {
	c, err := s.dial(ctx, from, "h2")
	if err != nil {
		return nil, err
	}
	return begin(c, settings...)
}

// begin says the first words of HTTP/2.
func begin(c net.Conn, settings ...http2.Setting) (*frames, error) {
	f := &frames{Conn: c, Framer: http2.NewFramer(c, c), next: 1, gone: make(chan struct{})}
	f.encode = hpack.NewEncoder(&f.block)
	f.conn.Store(1<<16 - 1) // what RFC 9113 grants from the start
	f.stream.Store(1<<16 - 1)
	f.SetWriteDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		c.Close()
		return nil, err
	}
	return f, f.WriteSettings(settings...)
}

// count reads what the server sends until it closes.
func (f *frames) count() {
	defer close(f.gone)
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		switch frame := frame.(type) {
		case *http2.HeadersFrame:
			f.answers.Add(1)
		case *http2.RSTStreamFrame:
			f.resets.Add(1)
		case *http2.GoAwayFrame:
			f.goAway.Store(int64(frame.ErrCode) + 1)
		case *http2.PingFrame:
			f.acks.Add(1)
		case *http2.SettingsFrame:
			if size, ok := frame.Value(http2.SettingInitialWindowSize); ok {
				f.stream.Store(int64(size))
			}
		case *http2.WindowUpdateFrame:
			if frame.StreamID == 0 {
				f.conn.Add(int64(frame.Increment))
			}
		}
	}
}

// open begins a request and returns its stream.
func (f *frames) open(method, path, name string, ends bool, more ...hpack.HeaderField) (uint32, error) {
	f.block.Reset()
	fields := append([]hpack.HeaderField{
		{Name: ":method", Value: method}, {Name: ":scheme", Value: "https"},
		{Name: ":authority", Value: "inbox"}, {Name: ":path", Value: path},
		{Name: "authorization", Value: basic(name)},
	}, more...)
	for _, field := range fields {
		_ = f.encode.WriteField(field) // into memory: cannot fail
	}
	id := f.next
	f.next += 2
	const most = 16 << 10
	block := f.block.Bytes()
	first := block[:min(most, len(block))]
	rest := block[len(first):]
	err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: first, EndStream: ends, EndHeaders: len(rest) == 0})
	for err == nil && len(rest) > 0 {
		part := rest[:min(most, len(rest))]
		rest = rest[len(part):]
		err = f.WriteContinuation(id, len(rest) == 0, part)
	}
	return id, err
}

// hangUp closes connections, of which some may never have been made, and sums
// up what came back.
func hangUp(lines []*frames) (answers, resets int64) {
	for _, f := range lines {
		if f != nil {
			answers += f.answers.Load()
			resets += f.resets.Load()
			f.Close()
		}
	}
	return answers, resets
}

// filler is header fields of about that many bytes as HTTP/2 counts them,
// each stored by the server, none compressed.
func filler(size int) []hpack.HeaderField {
	value := string(bytes.Repeat([]byte("x"), 1000))
	var fields []hpack.HeaderField
	for ; size > 1100; size -= 1032 + len("x-filler") {
		fields = append(fields, hpack.HeaderField{Name: "x-filler", Value: value, Sensitive: true})
	}
	return fields
}
