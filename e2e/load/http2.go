package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// http2Conn is a connection of HTTP/2 without the checks of a client. One goroutine can read while
// others begin requests.
type http2Conn struct {
	conn    net.Conn
	framer  *http2.Framer
	decoder *hpack.Decoder
	header  header // of the last response

	mu      sync.Mutex // of what follows, and of writes
	encoder *hpack.Encoder
	block   bytes.Buffer
	next    uint32
}

// header has what the tool needs of a response.
type header struct{ status, id string }

// windowBytes is the flow-control window that the tool grants, enough for a run.
const windowBytes = 1<<31 - 1

func dialHTTP2(ctx context.Context, t target, source net.IP) (*http2Conn, error) {
	conn, err := t.dial(ctx, source, "h2")
	if err != nil {
		return nil, err
	}
	c := &http2Conn{conn: conn, framer: http2.NewFramer(conn, bufio.NewReaderSize(conn, 2048)), next: 1}
	c.framer.SetReuseFrames()
	c.encoder = hpack.NewEncoder(&c.block)
	c.decoder = hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		switch f.Name {
		case ":status":
			c.header.status = f.Value
		case "x-message-id":
			c.header.id = f.Value
		}
	})
	if _, err = io.WriteString(conn, http2.ClientPreface); err == nil {
		err = c.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: windowBytes})
	}
	if err == nil {
		err = c.framer.WriteWindowUpdate(0, windowBytes-65535)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// begin sends a request and returns its stream.
func (c *http2Conn) begin(method, path, name string, body []byte, fields ...hpack.HeaderField) (uint32, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.block.Reset()
	fields = append([]hpack.HeaderField{
		{Name: ":method", Value: method}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "127.0.0.1"},
		{Name: ":path", Value: path}, {Name: "user-agent", Value: "load"}, {Name: "authorization", Value: basic(name)},
	}, fields...)
	if body != nil {
		fields = append(fields, hpack.HeaderField{Name: "content-type", Value: "application/sdp"},
			hpack.HeaderField{Name: "content-length", Value: strconv.Itoa(len(body))})
	}
	for _, f := range fields {
		_ = c.encoder.WriteField(f) // into memory: cannot fail
	}
	stream := c.next
	c.next += 2
	err := c.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, BlockFragment: c.block.Bytes(), EndHeaders: true, EndStream: len(body) == 0})
	if err == nil && len(body) > 0 {
		err = c.framer.WriteData(stream, true, body)
	}
	return stream, err
}

// read returns the next part of the response on a stream, and whether it is the last. The part is
// valid until the next call. It answers SETTINGS and PING, and ignores other streams.
func (c *http2Conn) read(stream uint32) (data []byte, end bool, err error) {
	for {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			return nil, false, err
		}
		switch f := frame.(type) {
		case *http2.HeadersFrame:
			if _, err := c.decoder.Write(f.HeaderBlockFragment()); err != nil {
				return nil, false, err
			}
			if f.StreamID == stream {
				return nil, f.StreamEnded(), nil
			}
		case *http2.DataFrame:
			if f.StreamID == stream {
				return f.Data(), f.StreamEnded(), nil
			}
		case *http2.RSTStreamFrame:
			return nil, false, fmt.Errorf("stream %d was reset: %v", f.StreamID, f.ErrCode)
		case *http2.GoAwayFrame:
			return nil, false, fmt.Errorf("got GOAWAY: %v", f.ErrCode)
		default:
			err = c.answer(frame)
		}
		if err != nil {
			return nil, false, err
		}
	}
}

func (c *http2Conn) answer(frame http2.Frame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch f := frame.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			return c.framer.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			return c.framer.WritePing(true, f.Data)
		}
	}
	return nil
}

// roundTrip sends a request and appends the body of the response to into.
func (c *http2Conn) roundTrip(method, path, name string, body, into []byte) (header, []byte, error) {
	c.header = header{}
	stream, err := c.begin(method, path, name, body)
	for end := false; err == nil && !end; {
		var data []byte
		data, end, err = c.read(stream)
		into = append(into, data...)
	}
	return c.header, into, err
}

// streamBody is the body of a response, for an event stream.
type streamBody struct {
	conn   *http2Conn
	stream uint32
	rest   []byte
	ended  bool
}

// Read implements [io.Reader].
func (b *streamBody) Read(p []byte) (int, error) {
	for len(b.rest) == 0 {
		if b.ended {
			return 0, io.EOF
		}
		var err error
		if b.rest, b.ended, err = b.conn.read(b.stream); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (c *http2Conn) close() { _ = c.conn.Close() }
