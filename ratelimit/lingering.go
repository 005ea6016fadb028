package ratelimit

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"
)

// LingeringClose is a middleware that reads and drops what a client of HTTP/1.1 still
// sends of a body after the response, as nginx's lingering_close does. Closing the
// connection at once would reset it, and a client that sends the whole body before it
// reads would never see the response. It belongs around everything that can respond
// without reading a body.
//
// net/http itself reads the rest of a body of 256 KiB or less, and then waits half a
// second before it closes a connection. HTTP/2 needs none of this: it ends a stream without
// its connection.
type LingeringClose struct {
	limits   LingeringLimits
	addr     func(*http.Request) netip.Addr
	blocks   *Limiter
	stopping context.Context
	stop     context.CancelFunc
	open     *Share
	cut      atomic.Int64
}

// LingeringLimits bounds what clients can send after a response. All values are required.
type LingeringLimits struct {
	// Timeout and MaxBytes bound one response.
	Timeout  time.Duration
	MaxBytes int64
	// Max bounds the connections that linger at once, of which addresses have shares (see
	// [Share]), and MaxPerAddr those of an address.
	Max, MaxPerAddr int
	// BytesPerSecond and BurstBytes bound the bytes of an address.
	BytesPerSecond, BurstBytes int64
}

// blockBytes is what one token of an address is worth.
const blockBytes = 64 << 10

// selfReadBytes is how much of a body net/http reads when the handler has not: its
// maxPostHandlerReadBytes.
const selfReadBytes = 256 << 10

// NewLingeringClose returns a middleware. Addr returns the client's address, as
// [ClientIP.Addr] does.
func NewLingeringClose(limits LingeringLimits, addr func(*http.Request) netip.Addr) *LingeringClose {
	budget := Budget{PerSecond: float64(limits.BytesPerSecond) / blockBytes, Burst: int(limits.BurstBytes / blockBytes)}
	l := &LingeringClose{limits: limits, addr: addr, blocks: NewLimiter(budget, 0)}
	l.open = NewShare(ShareLimits{Ceiling: int64(limits.Max), MaxPerClient: int64(limits.MaxPerAddr)})
	l.stopping, l.stop = context.WithCancel(context.Background())
	return l
}

// Stop ends all lingering, now and in the future. A server calls it when it begins to
// shut down.
func (l *LingeringClose) Stop() { l.stop() }

// Cut returns how many connections were closed before their body had ended, because a
// limit was reached.
func (l *LingeringClose) Cut() int64 { return l.cut.Load() }

// Sweep frees memory after a flood.
func (l *LingeringClose) Sweep(now time.Time) { l.blocks.Sweep(now) }

// Handler returns next with lingering.
func (l *LingeringClose) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor >= 2 || 0 <= r.ContentLength && r.ContentLength <= selfReadBytes {
			next.ServeHTTP(w, r)
			return
		}
		body := &trackedBody{ReadCloser: r.Body}
		tracked := *r // net/http examines the body of its own request
		tracked.Body = body
		next.ServeHTTP(w, &tracked)
		if !body.ended {
			l.linger(w, r)
		}
	})
}

// trackedBody notes the end of a body.
type trackedBody struct {
	io.ReadCloser
	ended bool
}

func (b *trackedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.ended = true
	}
	return n, err
}

// linger sends the response, and reads what the client sends until the body ends or a
// limit is reached.
func (l *LingeringClose) linger(w http.ResponseWriter, r *http.Request) {
	addr := l.addr(r)
	if !l.open.Reserve(addr, 1) {
		l.cut.Add(1)
		return
	}
	defer l.open.Release(addr, 1)
	control := http.NewResponseController(w)
	if control.Flush() != nil || control.SetReadDeadline(time.Now().Add(l.limits.Timeout)) != nil {
		return // the client is gone, or w is a test's recorder
	}
	defer context.AfterFunc(l.stopping, func() { _ = control.SetReadDeadline(time.Now()) })()
	if l.drop(r.Body, addr) != nil {
		l.cut.Add(1)
	}
}

var errLingeringLimit = errors.New("limit of lingering reached")

// drop reads to the end of a body. It returns an error if a limit was reached.
func (l *LingeringClose) drop(body io.Reader, addr netip.Addr) error {
	for n := int64(0); n < l.limits.MaxBytes; n += blockBytes {
		if !l.blocks.Take(addr, time.Now()).OK {
			return errLingeringLimit
		}
		if _, err := io.CopyN(io.Discard, body, blockBytes); err != nil {
			var timeout interface{ Timeout() bool }
			if errors.As(err, &timeout) && timeout.Timeout() {
				return err
			}
			return nil // the body has ended, or the client is gone
		}
	}
	return errLingeringLimit
}
