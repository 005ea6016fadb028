package topics

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"inbox/inbox"
	"inbox/inbox/internal/origin"
	"inbox/internal/problem"
	"inbox/internal/websocket"
)

const (
	// DefaultMaxTopics is how many topics a connection can subscribe to without [Config.MaxTopics].
	// y-webrtc has one connection for all rooms of a page.
	DefaultMaxTopics = 64
	// MinMessageBytes is the least that [Config.MaxMessageBytes] can be.
	MinMessageBytes = 64 << 10
	// pingInterval is shorter than the idle timeout of any proxy.
	pingInterval = 25 * time.Second
	closeTimeout = 5 * time.Second

	defaultWriteTimeout = 30 * time.Second
)

// Client is the client of a connection, as the limits of the server see it.
type Client interface {
	// Payer returns whom topics and queued frames count against.
	Payer() inbox.Payer
	// Delay takes a token for a frame. It returns how long to wait before the frame is handled, or
	// with again, for want of a token, before Delay is called once more.
	Delay() (wait time.Duration, again bool)
	// Charge takes tokens for a frame that has been handled, on credit.
	Charge(tokens int)
	// Leave is called once, last.
	Leave()
}

// Config is the configuration of a [Handler]. All fields but Topics are optional.
type Config struct {
	Topics Topics
	// MaxTopics bounds the topics of a connection. Zero is DefaultMaxTopics.
	MaxTopics int
	// MaxMessageBytes bounds a frame, with which a connection is closed. It is at least
	// MinMessageBytes.
	MaxMessageBytes int
	// MaxQueuedBytes bounds the frames of all connections that wait until their clients have read
	// earlier ones, and the incomplete ones that clients send. They are shared among payers as the
	// messages of a store are. Zero is no limit.
	MaxQueuedBytes int64
	// MessageTimeout bounds how long a client can take to send a frame. WriteTimeout is how long a
	// client can read nothing of a frame until its connection is closed; zero is 30 seconds.
	MessageTimeout, WriteTimeout time.Duration
	// Origins are the sites whose pages are served, as in "https://example.org"; none means all.
	// The server's own pages and programs that are no browsers are served always.
	Origins []string
	// CrossSiteDetail tells a page of another site what the operator can do.
	CrossSiteDetail string
	// Access, if not nil, makes the server private: the parameter invite of a URL is the invitation
	// or the guest pass of a client.
	Access Access
	// Unavailable, if not empty, is why the handler refuses all requests with 503.
	Unavailable string
	// Enter returns the client of a request that opens a connection. An error refuses it; one with
	// a method Refuse(http.ResponseWriter) writes its own response. Nil limits nothing.
	Enter func(*http.Request) (Client, error)
	// OnFrameDelay, if not nil, is called with how long a frame has waited.
	OnFrameDelay func(time.Duration)
	// Logger gets refusals, at the level Debug. Nil discards them.
	Logger *slog.Logger
}

// Handler serves WebSockets of y-webrtc and of Trystero's ws-relay, and answers a plain GET with
// 200. Make one with [NewHandler].
type Handler struct {
	topics      Topics
	maxTopics   int
	config      websocket.Config
	conns       websocket.Conns
	queued      budget
	origins     origin.Policy
	narrowed    bool // to origins
	crossSite   *problem.Problem
	unavailable *problem.Problem
	access      *accessCheck // nil: the server is open
	enter       func(*http.Request) (Client, error)
	log         *slog.Logger
	stopping    atomic.Bool
	counts      counts
}

// NewHandler returns a handler. Origins must be valid.
func NewHandler(c Config) *Handler {
	h := &Handler{
		topics: c.Topics, maxTopics: cmp.Or(c.MaxTopics, DefaultMaxTopics),
		origins: origin.New(len(c.Origins) == 0, c.Origins), narrowed: len(c.Origins) > 0,
		crossSite: problem.New(http.StatusForbidden, "cross-site", "Pages of that site are not served here", c.CrossSiteDetail),
		access:    newAccessCheck(c.Access), enter: c.Enter, log: c.Logger,
	}
	h.config = websocket.Config{
		MaxMessageBytes: max(c.MaxMessageBytes, MinMessageBytes), MessageTimeout: c.MessageTimeout,
		WriteTimeout: cmp.Or(c.WriteTimeout, defaultWriteTimeout), CloseTimeout: closeTimeout,
		PingInterval: pingInterval, OnDelay: c.OnFrameDelay, Conns: &h.conns,
	}
	h.queued.init(c.MaxQueuedBytes)
	if c.Unavailable != "" {
		h.unavailable = problem.New(http.StatusServiceUnavailable, "topics-unavailable", "This server has no topics", c.Unavailable)
	}
	if h.enter == nil {
		h.enter = func(*http.Request) (Client, error) { return unlimited{}, nil }
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	return h
}

// unlimited is a client without limits.
type unlimited struct{}

func (unlimited) Payer() inbox.Payer           { return inbox.Payer{} }
func (unlimited) Delay() (time.Duration, bool) { return 0, false }
func (unlimited) Charge(int)                   {}
func (unlimited) Leave()                       {}

var errStopping = problem.New(http.StatusServiceUnavailable, "stopping", "The server is stopping", "Try again in a moment.")

// allowedMethods are those of a request.
const allowedMethods = "GET, HEAD, OPTIONS"

// AllowOrigin sets the fields of the CORS protocol with which a page can read a response.
func (h *Handler) AllowOrigin(w http.ResponseWriter, r *http.Request) { h.origins.Allow(w, r) }

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.AllowOrigin(w, r)
	switch {
	case r.Method == http.MethodOptions:
		h.origins.Preflight(w, r, allowedMethods)
	case h.unavailable != nil:
		h.refuse(w, h.unavailable)
	case websocket.IsUpgrade(r):
		if err := h.upgrade(w, r); err != nil {
			h.refuse(w, err)
		}
	case r.Method == http.MethodGet, r.Method == http.MethodHead:
		h.okay(w)
	default:
		w.Header().Set("Allow", allowedMethods)
		h.refuse(w, problem.MethodNotAllowed)
	}
}

// okay responds as y-webrtc's own server does, which monitoring of such a server compares.
func (h *Handler) okay(w http.ResponseWriter) {
	header := w.Header()
	problem.SetInert(header)
	header.Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "okay") // the client is gone
}

// refuse responds with an error.
func (h *Handler) refuse(w http.ResponseWriter, err error) {
	var refuser interface{ Refuse(http.ResponseWriter) }
	var invalid *websocket.HandshakeError
	var p *problem.Problem
	switch {
	case errors.As(err, &refuser):
		refuser.Refuse(w)
		return
	case errors.As(err, &invalid):
		invalid.SetHeader(w.Header())
		p = invalid.Problem()
	case !errors.As(err, &p):
		h.log.Error("open a WebSocket", "err", err)
		p = problem.New(http.StatusInternalServerError, "internal", "Something went wrong in the server", "The server log has the cause.")
	}
	if p == errStopping {
		w.Header().Set("Retry-After", strconv.Itoa(1))
	}
	p.Write(w)
}

// upgrade serves a WebSocket.
func (h *Handler) upgrade(w http.ResponseWriter, r *http.Request) error {
	if err := websocket.Check(r); err != nil {
		return err
	}
	if h.narrowed && !h.origins.Trusts(r) {
		return h.crossSite
	}
	if h.stopping.Load() {
		return errStopping
	}
	token, err := h.access.admit(r)
	if err != nil {
		return err
	}
	client, err := h.enter(r)
	if err != nil {
		return err
	}
	s, started := newSocket(h, client), false
	defer func() { // also after a panic
		if !started {
			client.Leave()
		}
	}()
	if s.conn, err = websocket.Upgrade(w, r, &h.config); err != nil {
		return nil // the connection is closed
	}
	started = true
	h.counts.open[Unknown].Add(1)
	h.access.add(s, token)
	s.conn.Start(s)
	return nil
}

// Stop begins to close all connections with a code of RFC 6455, and those that follow. It does not
// wait.
func (h *Handler) Stop(code uint16) {
	h.stopping.Store(true)
	go h.conns.Close(code, "the server is stopping")
}

// Wait waits, after Stop, until all connections are closed. When ctx is done it aborts those that
// are open, and returns the error of ctx.
func (h *Handler) Wait(ctx context.Context) error { return h.conns.Wait(ctx) }
