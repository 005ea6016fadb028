// Package eventstream writes Server-Sent Events (HTML Standard, section 9.2) with messages as
// JSON. It takes bodies of any bytes and any size with one small buffer.
package eventstream

import (
	"encoding/base64"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// MediaType is that of a stream.
const MediaType = "text/event-stream"

// Accepted reports whether the field Accept lists the media type of streams with a weight above
// zero. A wildcard does not select it.
func Accepted(h http.Header) bool {
	for _, field := range h["Accept"] {
		for element := range strings.SplitSeq(field, ",") {
			if len(element) >= len(MediaType) && isMediaType(element) {
				return true
			}
		}
	}
	return false
}

func isMediaType(element string) bool {
	name, _, _ := strings.Cut(element, ";")
	if !strings.EqualFold(strings.TrimSpace(name), MediaType) {
		return false
	}
	_, params, err := mime.ParseMediaType(element)
	if err != nil {
		return false
	}
	weight, hasWeight := params["q"]
	if !hasWeight {
		return true
	}
	q, err := strconv.ParseFloat(weight, 64)
	return err == nil && q > 0 && q <= 1
}

// Event is a message.
type Event struct {
	ID         uint64
	From, Type string
	// IsBytes sends Body as base64, as does a body that is not UTF-8.
	IsBytes bool
	Body    []byte
}

// write writes the event: its ID, and one JSON object with from, type, and body or body64.
func (e *Event) write(w io.Writer) error {
	out := buffers.Get().(*buffer)
	out.to, out.err = w, nil
	defer func() { out.to = nil; buffers.Put(out) }()
	out.string("id: ")
	out.bytes = strconv.AppendUint(out.bytes, e.ID, 10)
	out.string("\nevent: message\ndata: {\"from\":\"")
	out.escape([]byte(e.From))
	out.string(`","type":"`)
	out.escape([]byte(e.Type))
	if !e.IsBytes && utf8.Valid(e.Body) {
		out.string(`","body":"`)
		out.escape(e.Body)
	} else {
		out.string(`","body64":"`)
		out.base64(e.Body)
	}
	out.string("\"}\n\n")
	return out.flush()
}

// writeEnd writes the event of the end of a stream. id, if not empty, is what an EventSource sends
// as Last-Event-ID when it reconnects.
func writeEnd(w io.Writer, reason, id string) error {
	text := "event: end\ndata: " + reason + "\n\n"
	if id != "" {
		text = "id: " + id + "\n" + text
	}
	_, err := io.WriteString(w, text)
	return err
}

// writeRetry writes how long an EventSource waits before it reconnects.
func writeRetry(w io.Writer, after time.Duration) error {
	_, err := io.WriteString(w, "retry: "+strconv.FormatInt(after.Milliseconds(), 10)+"\n\n")
	return err
}

func writeHeartbeat(w io.Writer) error {
	_, err := io.WriteString(w, ":\n\n")
	return err
}

// buffer collects what is written. After an error it discards.
type buffer struct {
	to    io.Writer
	err   error
	bytes []byte // its capacity is bufferBytes
}

const (
	bufferBytes = 4 << 10
	// chunkBytes of a body are encoded at a time: a multiple of 3, so that base64 has padding at
	// its end only. With escapes they become six times as many.
	chunkBytes = 510
)

var buffers = sync.Pool{New: func() any { return &buffer{bytes: make([]byte, 0, bufferBytes)} }}

func (b *buffer) flush() error {
	if b.err == nil && len(b.bytes) > 0 {
		_, b.err = b.to.Write(b.bytes)
	}
	b.bytes = b.bytes[:0]
	return b.err
}

// reserve flushes unless n more bytes have room.
func (b *buffer) reserve(n int) {
	if cap(b.bytes)-len(b.bytes) < n {
		_ = b.flush() // it stays in err
	}
}

func (b *buffer) string(s string) {
	b.reserve(len(s))
	b.bytes = append(b.bytes, s...)
}

func (b *buffer) base64(body []byte) {
	for len(body) > 0 && b.err == nil {
		chunk := body[:min(chunkBytes, len(body))]
		body = body[len(chunk):]
		b.reserve(base64.StdEncoding.EncodedLen(len(chunk)))
		b.bytes = base64.StdEncoding.AppendEncode(b.bytes, chunk)
	}
}

// escape writes the text of a JSON string. It escapes all line ends of an event stream.
func (b *buffer) escape(text []byte) {
	const digits = "0123456789abcdef"
	for len(text) > 0 && b.err == nil {
		chunk := text[:min(chunkBytes, len(text))]
		text = text[len(chunk):]
		b.reserve(6 * len(chunk))
		for _, c := range chunk {
			switch {
			case c == '"', c == '\\':
				b.bytes = append(b.bytes, '\\', c)
			case c == '\n':
				b.bytes = append(b.bytes, '\\', 'n')
			case c == '\r':
				b.bytes = append(b.bytes, '\\', 'r')
			case c < ' ':
				b.bytes = append(b.bytes, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
			default:
				b.bytes = append(b.bytes, c)
			}
		}
	}
}
