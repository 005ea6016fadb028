package conn

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"inbox/internal/netconn"
	"inbox/internal/problem"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// HTTP2Refuser refuses HTTP/2 with prior knowledge, which is HTTP/2 without TLS (RFC 9113,
// section 3.3). Serving it would bypass the limits on frames. The refusal is an HTTP/2
// response, because these clients understand nothing else. The zero value is ready to use.
type HTTP2Refuser struct{ refused atomic.Int64 }

var http2Refusal = problem.New(http.StatusHTTPVersionNotSupported, "http-version", "HTTP/2 requires TLS",
	"Without TLS, this server speaks HTTP/1.1 only.")

// Bounds of a refusal. A client sends a few frames before its request, and can then send
// the beginning of a body.
const (
	priorKnowledgeTimeout       = 5 * time.Second
	priorKnowledgeMaxFrames     = 32
	priorKnowledgeMaxFrameBytes = 16 << 10 // the default of the protocol
	priorKnowledgeMaxBytes      = 256 << 10
)

// Refused returns how many connections were refused.
func (h *HTTP2Refuser) Refused() int64 { return h.refused.Load() }

// Handler returns next for all other requests. net/http passes the beginning of such a
// connection, "PRI * HTTP/2.0", to the handler.
func (h *HTTP2Refuser) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "PRI" || r.ProtoMajor < 2 {
			next.ServeHTTP(w, r)
			return
		}
		h.refused.Add(1)
		c, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil { // a real HTTP/2 request, or a test's recorder
			http2Refusal.Write(w)
			return
		}
		defer c.Close()
		if c.SetDeadline(time.Now().Add(priorKnowledgeTimeout)) != nil {
			return
		}
		refuseHTTP2(c, io.LimitReader(buffered, priorKnowledgeMaxBytes))
	})
}

// refuseHTTP2 answers the first request of a connection and closes it. Errors mean that
// the client is gone, or sends something else.
func refuseHTTP2(c net.Conn, r io.Reader) {
	const restOfPreface = "SM\r\n\r\n"
	preface := make([]byte, len(restOfPreface))
	if _, err := io.ReadFull(r, preface); err != nil || string(preface) != restOfPreface {
		return
	}
	framer := http2.NewFramer(c, r)
	framer.SetMaxReadFrameSize(priorKnowledgeMaxFrameBytes)
	if framer.WriteSettings() != nil {
		return
	}
	stream := firstStream(framer)
	if stream != 0 && writeRefusal(framer, stream) != nil {
		return
	}
	if framer.WriteGoAway(stream, http2.ErrCodeHTTP11Required, []byte(http2Refusal.Detail)) != nil {
		return
	}
	// Closing with unread data would reset the connection and lose the response.
	if half, ok := netconn.Find[interface{ CloseWrite() error }](c); ok && half.CloseWrite() == nil {
		_, _ = io.Copy(io.Discard, r)
	}
}

// firstStream returns the stream of the first request, or 0 if the client sends none.
func firstStream(framer *http2.Framer) uint32 {
	for range priorKnowledgeMaxFrames {
		frame, err := framer.ReadFrame()
		if err != nil {
			return 0
		}
		switch f := frame.(type) {
		case *http2.HeadersFrame:
			return f.StreamID
		case *http2.SettingsFrame:
			if !f.IsAck() && framer.WriteSettingsAck() != nil {
				return 0
			}
		}
	}
	return 0
}

func writeRefusal(framer *http2.Framer, stream uint32) error {
	response := bufferedResponse{header: http.Header{}}
	http2Refusal.Write(&response)
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	fields := []hpack.HeaderField{{Name: ":status", Value: "505"}}
	for name, values := range response.header {
		fields = append(fields, hpack.HeaderField{Name: strings.ToLower(name), Value: values[0]})
	}
	for _, field := range fields {
		if err := encoder.WriteField(field); err != nil {
			return err
		}
	}
	err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true})
	if err != nil {
		return err
	}
	return framer.WriteData(stream, true, response.body.Bytes())
}

// bufferedResponse keeps a response.
type bufferedResponse struct {
	header http.Header
	body   bytes.Buffer
}

func (r *bufferedResponse) Header() http.Header         { return r.header }
func (r *bufferedResponse) WriteHeader(int)             {}
func (r *bufferedResponse) Write(p []byte) (int, error) { return r.body.Write(p) }
