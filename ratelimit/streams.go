package ratelimit

import (
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"inbox/internal/problem"
)

// StreamLimits bounds the streams of a [StreamLimiter]. Zero is no limit.
type StreamLimits struct {
	// Max bounds the active streams in total, which clients divide as described for [Share].
	Max int
	// MaxPerAddr bounds the active streams of an address. A network can have sixteen times
	// as many. Zero also lets one address have all of Max.
	MaxPerAddr int
	// Timeout ends a response of which the client does not receive 64 KiB, or the rest, within
	// it. A slow download of any length continues. A deadline that a handler sets has
	// precedence.
	Timeout time.Duration
	// DryRun counts refusals of shares and of MaxPerAddr but refuses nothing. Max applies
	// nevertheless: it protects the memory of the server.
	DryRun bool
}

// StreamLimiter is a middleware that bounds the active HTTP/2 streams: requests from their
// header until the client has received the last byte of the response. Connection limits
// bound the requests of HTTP/1.1 well enough. A connection of HTTP/2 carries a hundred
// streams, each with a header and a goroutine, and a client that grants no flow-control
// window for responses keeps all of them. Therefore clients have shares, and when three
// quarters of the streams are in use, responses that a client does not read are ended early.
type StreamLimiter struct {
	share   *Share
	addr    func(*http.Request) netip.Addr
	timeout time.Duration

	refusing atomic.Int64 // refusals that are being sent
	stalled  atomic.Int64 // responses that were ended early
	sweeping atomic.Bool

	mu     sync.Mutex
	active map[*streamWriter]struct{}
	swept  time.Time // when stalled responses were last looked for
}

const (
	// minStreamsPerAddr is what an address can have while the reserve lasts: a page with its
	// modules, and polls.
	minStreamsPerAddr = 16
	// maxStreamRefusals bounds the refusals that are being sent at once. A client that does
	// not read could keep them all. Further streams are reset.
	maxStreamRefusals = 64
	// streamRefusalTimeout bounds the sending of a refusal, the delay of the request limit
	// included.
	streamRefusalTimeout = 3 * time.Second
	// stallTimeout is how long one write of a response can take while streams are short.
	stallTimeout = 5 * time.Second
	// stallChunkBytes bounds one write, so that a slow client shows progress.
	stallChunkBytes = 32 << 10
	// minProgressBytes is what a client must receive in the timeout of a response.
	minProgressBytes = 64 << 10
	// sweepInterval is how often stalled responses are looked for.
	sweepInterval = time.Second
)

var tooManyStreams = problem.New(http.StatusServiceUnavailable, "too-many-streams",
	"Too many requests are in progress", "Requests of your network wait for their responses to be read. Read those first, or try again.")

// NewStreamLimiter returns a limiter. Addr returns the client's address, as [ClientIP.Addr]
// does.
func NewStreamLimiter(limits StreamLimits, addr func(*http.Request) netip.Addr) *StreamLimiter {
	share := ShareLimits{Ceiling: int64(limits.Max), MaxPerClient: int64(limits.MaxPerAddr), DryRun: limits.DryRun}
	if share.MinPerClient = minStreamsPerAddr; limits.MaxPerAddr <= 0 {
		share.MinPerClient = share.Ceiling // no share
	}
	return &StreamLimiter{share: NewShare(share), addr: addr, timeout: limits.Timeout, active: make(map[*streamWriter]struct{})}
}

// Active returns how many streams are active.
func (s *StreamLimiter) Active() int64 { return s.share.Used() }

// Refused returns how many streams were refused, or would have been in a dry run.
func (s *StreamLimiter) Refused() int64 { return s.share.Refused() }

// Stalled returns how many responses were ended early because their client did not read them.
func (s *StreamLimiter) Stalled() int64 { return s.stalled.Load() }

// Handler returns a middleware. It belongs around every handler that writes a response, apart
// from limit, which its refusals pass through and which can bound their rate. A refusal has
// status 503. If too many refusals are being sent, the stream is reset by a panic with
// [http.ErrAbortHandler].
func (s *StreamLimiter) Handler(limit func(http.Handler) http.Handler) func(http.Handler) http.Handler {
	refusal := limit(http.HandlerFunc(refuseStream))
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			// net/http delivers the preface of HTTP/2 without TLS as a request of HTTP/2.0
			// on a connection of HTTP/1.1, which a handler can hijack.
			if r.ProtoMajor < 2 || r.Method == "PRI" && r.TLS == nil {
				next.ServeHTTP(w, r)
				return
			}
			addr := s.addr(r)
			admitted := s.share.Reserve(addr, 1)
			s.endStalled(time.Now())
			if !admitted {
				s.refuse(w, r, refusal)
				return
			}
			defer s.share.Release(addr, 1)
			writer := s.begin(w)
			defer s.end(writer)
			next.ServeHTTP(writer, r)
			// net/http would write what is buffered after this function, when the stream is
			// no longer counted. An error means that the client is gone.
			_ = writer.FlushError()
		})
	}
}

// refuse sends the refusal within a short time, or resets the stream.
func (s *StreamLimiter) refuse(w http.ResponseWriter, r *http.Request, refusal http.Handler) {
	defer s.refusing.Add(-1)
	if s.refusing.Add(1) > maxStreamRefusals {
		panic(http.ErrAbortHandler)
	}
	c := http.NewResponseController(w)
	// An error means that w does not support deadlines, like a test's recorder.
	_ = c.SetWriteDeadline(time.Now().Add(streamRefusalTimeout))
	refusal.ServeHTTP(w, r)
	_ = c.Flush()
}

func refuseStream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Retry-After", "1")
	tooManyStreams.Respond(w, r)
}

func (s *StreamLimiter) begin(w http.ResponseWriter) *streamWriter {
	writer := &streamWriter{ResponseWriter: w, limiter: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active[writer] = struct{}{}
	return writer
}

func (s *StreamLimiter) end(writer *streamWriter) {
	s.mu.Lock()
	delete(s.active, writer)
	s.mu.Unlock()
	writer.end()
}

// endStalled ends the responses that were not read for long, if streams are short.
func (s *StreamLimiter) endStalled(now time.Time) {
	limits := s.share.Limits()
	if limits.Ceiling == 0 || limits.DryRun || s.share.Used() <= limits.Ceiling-limits.Ceiling/4 {
		return
	}
	if !s.sweeping.CompareAndSwap(false, true) {
		return
	}
	go func() { // the serve loop of another connection can be busy
		defer s.sweeping.Store(false)
		for _, writer := range s.stalledSince(now) {
			if writer.abort() {
				s.stalled.Add(1)
			}
		}
	}()
}

// stalledSince returns the responses whose current write began before stallTimeout. It returns
// none if it was called less than sweepInterval ago.
func (s *StreamLimiter) stalledSince(now time.Time) (stalled []*streamWriter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.swept) < sweepInterval {
		return nil
	}
	s.swept = now
	before := now.Add(-stallTimeout).UnixNano()
	for writer := range s.active {
		if began := writer.writing.Load(); began != 0 && began <= before {
			stalled = append(stalled, writer)
		}
	}
	return stalled
}

// streamWriter is the response of a stream.
type streamWriter struct {
	http.ResponseWriter
	limiter *StreamLimiter
	writing atomic.Int64 // when the current write began, in Unix nanoseconds; 0 without one

	deadline    time.Time // of what is being written; zero without one
	untilNext   int       // bytes until it moves
	ownDeadline bool      // the handler has set one

	mu    sync.Mutex
	ended bool // the handler returns, and ResponseWriter can no longer be used
}

// Unwrap returns the response underneath, for [http.ResponseController].
func (w *streamWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Write writes in chunks, so that a slow client does not seem stalled.
func (w *streamWriter) Write(p []byte) (n int, err error) {
	for {
		chunk := p[n:min(n+stallChunkBytes, len(p))]
		now := time.Now()
		w.moveDeadline(now)
		w.writing.Store(now.UnixNano())
		m, err := w.ResponseWriter.Write(chunk)
		w.writing.Store(0)
		w.untilNext -= m
		if n += m; err != nil || n == len(p) {
			return n, w.countStalled(err)
		}
	}
}

// moveDeadline sets a deadline for the next minProgressBytes.
func (w *streamWriter) moveDeadline(now time.Time) {
	if w.limiter.timeout <= 0 || w.untilNext > 0 || w.ownDeadline {
		return
	}
	w.untilNext, w.deadline = minProgressBytes, now.Add(w.limiter.timeout)
	// An error means that the writer does not support deadlines, like a test's recorder.
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(w.deadline)
}

// countStalled counts an error of a write whose deadline has passed, and returns it.
func (w *streamWriter) countStalled(err error) error {
	if err != nil && !w.ownDeadline && !w.deadline.IsZero() && !time.Now().Before(w.deadline) {
		w.deadline = time.Time{}
		w.limiter.stalled.Add(1)
	}
	return err
}

// SetWriteDeadline implements the method that [http.ResponseController] uses.
func (w *streamWriter) SetWriteDeadline(t time.Time) error {
	w.ownDeadline = true
	return http.NewResponseController(w.ResponseWriter).SetWriteDeadline(t)
}

// FlushError implements the method that [http.ResponseController] uses.
func (w *streamWriter) FlushError() error {
	w.writing.Store(time.Now().UnixNano())
	defer w.writing.Store(0)
	return w.countStalled(http.NewResponseController(w.ResponseWriter).Flush())
}

// Flush implements [http.Flusher].
func (w *streamWriter) Flush() { _ = w.FlushError() }

// abort resets the stream and reports whether its response was still being written.
func (w *streamWriter) abort() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.ended && http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Unix(1, 0)) == nil
}

func (w *streamWriter) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
}
