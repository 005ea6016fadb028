package inbox

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"inbox/inbox/internal/names"
)

// maxCharsetBytes bounds the only parameter of a media type that is passed on.
// The longest registered name of a charset has 45 bytes.
const maxCharsetBytes = 45

// initialBodyBytes is how much of a body is allocated before any of it has
// arrived, so that a large Content-Length alone costs nothing.
const initialBodyBytes = 16 << 10

// escapeName percent-encodes the percent sign and every byte that is not visible
// ASCII, so that the name fits into a header field.
func escapeName(name string) string {
	n := 0
	for i := range len(name) {
		if mustEscape(name[i]) {
			n++
		}
	}
	if n == 0 {
		return name
	}
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	b.Grow(len(name) + 2*n)
	for i := range len(name) {
		if c := name[i]; mustEscape(c) {
			b.Write([]byte{'%', digits[c>>4], digits[c&15]})
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func mustEscape(c byte) bool { return c < 0x21 || c > 0x7e || c == '%' }

// query is the parsed query string of a request.
type query struct {
	to                string
	recipients        int // how often the parameter to occurs
	wait              time.Duration
	after             uint64
	hasWait, hasAfter bool
	client            string // empty if the request has none
	resume            bool
	upTo              uint64
	hasUpTo           bool
	events            bool // an event stream
	superseded        bool // one that comes back after the end
}

// waitOr returns the parameter wait, or a default without it.
func (q *query) waitOr(other time.Duration) time.Duration {
	if q.hasWait {
		return q.wait
	}
	return other
}

// maxClientBytes is the length of the parameter client; a UUID has 36 characters.
const maxClientBytes = 64

// unidentified is the ID of all clients without the parameter client.
const unidentified = 1

// clientID returns the client that reads. Its ID is the same on all nodes of a store.
func (q *query) clientID() Client {
	if q.client == "" {
		return Client{ID: unidentified}
	}
	sum := sha256.Sum256([]byte(q.client))
	return Client{ID: max(unidentified+1, binary.BigEndian.Uint64(sum[:])), Resume: q.resume}
}

// CanWait reports whether a request to the mailbox can wait: a GET for a message,
// or a POST with the parameter wait for its recipient.
func CanWait(r *http.Request) bool {
	return r.Method == http.MethodGet || r.Method == http.MethodPost && hasWait(r.URL.RawQuery)
}

func hasWait(raw string) bool {
	for pair := range strings.SplitSeq(raw, "&") {
		if key, _, _ := strings.Cut(pair, "="); key == "wait" {
			return true
		}
	}
	return false
}

// parseQuery parses the parameters of the protocol and ignores others. It caps
// waits at the poll timeout.
func (h *Handler) parseQuery(raw string) (query, error) {
	var q query
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		key, value, _ := strings.Cut(pair, "=")
		value, err := url.QueryUnescape(value)
		if err != nil {
			return q, badRequest("the query", errors.New("has a broken percent-encoding"))
		}
		if err := h.setParameter(&q, key, value); err != nil {
			return q, err
		}
	}
	if q.resume && q.client == "" {
		return q, badRequest("resume", errors.New("needs client"))
	}
	return q, nil
}

func (h *Handler) setParameter(q *query, key, value string) error {
	switch key {
	case "to":
		q.to = value
		q.recipients++
	case "wait":
		seconds, err := parseDigits(value)
		if err != nil || q.hasWait {
			return badRequest("wait", errors.New("must be whole seconds, once"))
		}
		q.wait, q.hasWait = capWait(seconds, h.pollTimeout), true
	case "after":
		id, err := parseDigits(value)
		if err != nil && value != "" || q.hasAfter {
			return badRequest("after", errors.New("must be the ID of a message, or empty, once"))
		}
		q.after, q.hasAfter = id, true
	case "upTo":
		id, err := parseDigits(value)
		if err != nil || q.hasUpTo {
			return badRequest("upTo", errors.New("must be the ID of a message, once"))
		}
		q.upTo, q.hasUpTo = id, true
	case "client":
		if !isClientID(value) || q.client != "" {
			return badRequest("client", errors.New("must be 1 to 64 letters, digits, hyphens or underscores, once"))
		}
		q.client = value
	case "resume":
		if value != "1" || q.resume {
			return badRequest("resume", errors.New("must be 1, once"))
		}
		q.resume = true
	}
	return nil
}

func isClientID(s string) bool {
	return s != "" && len(s) <= maxClientBytes && strings.IndexFunc(s, func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '-' && c != '_'
	}) < 0
}

// parseRecipient replaces the parameter to by the name that it stands for.
func (q *query) parseRecipient() error {
	if q.recipients != 1 {
		return badRequest("to", errors.New("must be in the query once, as in ?to=bob"))
	}
	name, err := names.Parse(q.to)
	if err != nil {
		return badRequest("to", err)
	}
	q.to = name
	return nil
}

// parseDigits parses a number without a sign. One that is too large becomes the
// largest.
func parseDigits(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if errors.Is(err, strconv.ErrRange) {
		return math.MaxUint64, nil
	}
	return n, err
}

func capWait(seconds uint64, limit time.Duration) time.Duration {
	if seconds > uint64(limit/time.Second) {
		return limit
	}
	return time.Duration(seconds) * time.Second
}

// safeContentType returns the media type to pass on, or "" for one that a browser
// could act on.
func safeContentType(sent string) string {
	switch sent {
	case "application/json", "application/sdp", "application/trickle-ice-sdpfrag", "text/plain", "text/plain;charset=UTF-8":
		return sent
	}
	base, params, err := mime.ParseMediaType(sent)
	if err != nil || len(sent) > names.MaxBytes {
		return ""
	}
	switch base {
	case "application/json", "application/sdp", "application/trickle-ice-sdpfrag":
		return base
	case "text/plain":
		if charset := params["charset"]; charset != "" && len(charset) <= maxCharsetBytes {
			return mime.FormatMediaType(base, map[string]string{"charset": charset})
		}
		return base
	}
	return ""
}

// checkContentEncoding refuses a body that a receiver could not read: the coding is not
// passed on, and the server does not decode.
func checkContentEncoding(r *http.Request) error {
	for _, field := range r.Header["Content-Encoding"] {
		for coding := range strings.SplitSeq(field, ",") {
			if coding = strings.TrimSpace(coding); coding != "" && !strings.EqualFold(coding, "identity") {
				return errContentEncoding
			}
		}
	}
	return nil
}

func contentType(mediaType string) string {
	if mediaType == "" {
		return "application/octet-stream"
	}
	return mediaType
}

// readBody reads at most maxBytes, and allocates as they arrive.
func (h *Handler) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	defer func() { r.Trailer = nil }() // a send can wait, and hundreds of fields with it
	size := r.ContentLength
	if size > h.maxBytes {
		return nil, &http.MaxBytesError{Limit: h.maxBytes}
	}
	if 0 <= size && size <= initialBodyBytes {
		body := make([]byte, size)
		_, err := io.ReadFull(r.Body, body)
		return body, err
	}
	inFlight := h.bodies.newReservation(h.payer(r))
	defer inFlight.release() // the store counts the bytes it gets
	return readGrowing(http.MaxBytesReader(w, r.Body, h.maxBytes), size, inFlight.reserve)
}

// bodyError translates an error of a request body. What net/http cannot parse in it is an error
// of the client.
func bodyError(err error) error {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &tooLarge), errors.Is(err, os.ErrDeadlineExceeded):
	case errors.Is(err, context.Canceled), errors.As(err, new(net.Error)), errors.Is(err, net.ErrClosed):
	default:
		return badRequest("the body", errors.New("cannot be read: its chunks are not well formed"))
	}
	return err
}

// readGrowing reads to the end and returns a slice without spare capacity. It
// doubles the memory as it fills, up to the announced size (-1: unknown), and
// calls reserve before it allocates more than initialBodyBytes.
func readGrowing(r io.Reader, size int64, reserve func(int64) error) ([]byte, error) {
	body := make([]byte, 0, initialBodyBytes)
	for {
		n, err := r.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if err == io.EOF {
			return append(make([]byte, 0, len(body)), body...), nil
		}
		if err != nil {
			return nil, bodyError(err)
		}
		if len(body) == cap(body) {
			more := nextCapacity(cap(body), size)
			if err := reserve(int64(more - cap(body))); err != nil {
				return nil, err
			}
			body = append(make([]byte, 0, more), body...)
		}
	}
}

// nextCapacity returns the size to grow to from n bytes.
func nextCapacity(n int, size int64) int {
	if size > int64(n) {
		return min(2*n, int(size)+1) // one more, to see the end without growing again
	}
	return 2 * n
}
