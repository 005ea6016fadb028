// Package peerjs is a server for the clients of PeerJS (peerjs.com), which name peers by an id and
// exchange offers, answers and candidates over a WebSocket. It keeps them in the mailboxes of an
// [inbox.Store], so that peers of several servers reach one another, and so that what was sent into
// a dead line is received by the next one.
//
// An id is a mailbox. A frame is a message, and stays in the mailbox until its receiver has
// answered a WebSocket ping that followed it: browsers answer pings after they have received what
// precedes them. The id is freed by a close frame. When the line is lost instead, the id is kept
// for a while, for the token of its holder and for the address.
//
// The protocol has no specification. The package does what PeerServer 1.0 does, with these
// differences: the socket that comes back with its token is told that it is open; junk does not
// stop a connection; what waits for absent peers is bounded; every key is accepted
// unless the server is private, and ids are never listed.
package peerjs

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"inbox/inbox"
	"inbox/internal/problem"
	"inbox/internal/websocket"
)

const (
	// MinMessageBytes is the least that [Config.MaxMessageBytes] should be: an offer with many
	// candidates fits.
	MinMessageBytes = 64 << 10

	// keepAlive is the time between two pings; clients send a heartbeat every 5 s.
	keepAlive    = 25 * time.Second
	closeTimeout = 5 * time.Second
	// maxIDBytes and maxTokenBytes bound what a client chooses.
	maxIDBytes, maxTokenBytes = 200, 512
)

// Config configures a [Handler]. Store, Secret and MaxMessageBytes are required.
type Config struct {
	Store inbox.Store
	// Shared reports whether other nodes use the store, and serve the same ids.
	Shared bool
	// Secret keys hashes of ids and tokens. It is the same on all nodes.
	Secret []byte
	// Origins are those whose pages are served, as in "https://example.org"; none means all.
	Origins []string
	// MaxMessageBytes bounds a frame. One that exceeds it ends the connection with 1009.
	MaxMessageBytes int
	// MaxWaitingBytes bounds what is in no mailbox: frames for absent ids, and large ones that are
	// being read or written. Each payer has a share of it. Zero is no limit.
	MaxWaitingBytes int64
	// MessageTimeout bounds the time in which a frame arrives, and WriteTimeout that of a write.
	// Zero is no limit.
	MessageTimeout, WriteTimeout time.Duration
	// Payer returns whom a request counts against. Nil counts against none.
	Payer func(*http.Request) inbox.Payer
	// ClientFields are the fields of requests that Payer, Guard, Enter and Throttle read, in
	// canonical form. They are kept as long as the connection is open.
	ClientFields []string
	// Guard limits new ids, wrong tokens and frames to ids that are not claimed. Nil limits nothing.
	Guard inbox.Guard
	// Access, if not nil, makes the server private: the key of a client is its invitation or guest
	// pass.
	Access Access
	// Enter, if not nil, counts a connection until leave, which is called once. An error refuses it.
	Enter func(*http.Request) (leave func(), err error)
	// Throttle, if not nil, is called before each frame. It returns how long to wait before the frame
	// is handled, or with again, before it is called once more. Heartbeats and pongs are free up to
	// a rate.
	Throttle func(*http.Request) (wait time.Duration, again bool)
	// OnFrameDelay, if not nil, is called with how long a frame has waited.
	OnFrameDelay func(time.Duration)
	// Alive reports whether the connection of a request is still open. Use [inbox.Alive]. Nil
	// trusts every connection: one that is gone is noticed when what it has sent is read.
	Alive func(*http.Request) bool
	// Logger gets failures of the store. Nil discards them.
	Logger *slog.Logger
}

// timing are the waits of a handler. Tests shorten them.
type timing struct {
	grace  time.Duration // for which the id of a lost line is kept
	probe  time.Duration // in which a connection must answer to keep its id
	absent time.Duration // for which frames wait for an id that is not claimed
	ask    time.Duration // for another node, which waits for a connection
	ack    time.Duration // for which a client can be silent that has to acknowledge a frame
	id     time.Duration // for the turn to claim a new id
	store  time.Duration // for an unavailable store, as clients do not come back on their own
}

var defaultTiming = timing{
	grace: 20 * time.Second, probe: 2 * time.Second, absent: 5 * time.Second, ask: 3500 * time.Millisecond, ack: 15 * time.Second,
	id: 15 * time.Second, store: 5 * time.Second,
}

// Handler serves the protocol. Make one with [New]. All methods can be called concurrently.
type Handler struct {
	Config
	socket  websocket.Config
	conns   websocket.Conns
	refused problem.Counter // by Access
	origins map[string]bool
	waiting budget
	frames  [numFrameTypes]atomic.Int64
	answers [numAnswers]atomic.Int64
	url     url.URL // of requests that are kept
	timing  timing
	began   time.Time
	nodes   nodes

	ctx    context.Context // ends with the last connection
	cancel context.CancelFunc

	stopping atomic.Bool

	mu      sync.Mutex
	holders map[string]*session // by id
	closing sync.WaitGroup      // of Stop
}

// New returns a handler. It panics if the configuration lacks what it requires.
func New(cfg Config) *Handler {
	if cfg.Store == nil || len(cfg.Secret) < 16 || cfg.MaxMessageBytes <= 0 {
		panic("peerjs: New needs a Store, a Secret of 16 bytes or more, and MaxMessageBytes")
	}
	h := &Handler{Config: cfg, timing: defaultTiming, began: time.Now(), refused: newRefusalCounter(), origins: map[string]bool{}, holders: map[string]*session{}}
	h.socket = websocket.Config{
		MaxMessageBytes: cfg.MaxMessageBytes, MessageTimeout: cfg.MessageTimeout, WriteTimeout: cfg.WriteTimeout,
		CloseTimeout: closeTimeout, PingInterval: keepAlive, OnDelay: cfg.OnFrameDelay, Conns: &h.conns,
	}
	for _, origin := range cfg.Origins {
		h.origins[strings.ToLower(origin)] = true
	}
	h.waiting.init(cfg.MaxWaitingBytes)
	h.nodes.h = h
	h.ctx, h.cancel = context.WithCancel(context.Background())
	if h.Payer == nil {
		h.Payer = func(*http.Request) inbox.Payer { return inbox.Payer{} }
	}
	if h.Guard == nil {
		h.Guard = noGuard{}
	}
	if h.Enter == nil {
		h.Enter = func(*http.Request) (func(), error) { return func() {}, nil }
	}
	if h.Throttle == nil {
		h.Throttle = func(*http.Request) (time.Duration, bool) { return 0, false }
	}
	if h.Alive == nil {
		h.Alive = func(*http.Request) bool { return true }
	}
	if h.Logger == nil {
		h.Logger = slog.New(slog.DiscardHandler)
	}
	return h
}

// Stats are the numbers of a handler.
type Stats struct {
	// Open is the number of open connections.
	Open int64
	// IDs is the number of ids that a client of this process has, or can come back for.
	IDs int64
	// Frames are those received since the handler was made, by their type in lower case.
	Frames map[string]int64
	// Answers are the frames of the server itself since then, by their type in lower case.
	Answers map[string]int64
	// AbsentIDs is the number of ids for which frames wait, and WaitingBytes the memory of these
	// frames, and of large ones that are being read or written.
	AbsentIDs, WaitingBytes int64
}

// Stats returns the numbers at present.
func (h *Handler) Stats() Stats {
	s := Stats{
		Open: int64(h.conns.Len()), Frames: make(map[string]int64, numFrameTypes), Answers: make(map[string]int64, numAnswers),
		AbsentIDs: h.waiting.queues.Load(), WaitingBytes: h.waiting.bytes.Load(),
	}
	h.mu.Lock()
	s.IDs = int64(len(h.holders))
	h.mu.Unlock()
	for a := range numAnswers {
		s.Answers[a.String()] = h.answers[a].Load()
	}
	for t := range numFrameTypes {
		s.Frames[strings.ToLower(t.String())] = h.frames[t].Load()
	}
	return s
}

// Stop begins to close all connections with a code of RFC 6455, and refuses new ones. Their ids
// stay claimed, so that a later process, or another node, can give them back. It does not wait.
func (h *Handler) Stop(code uint16) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopping.Swap(true) {
		return
	}
	held := make([]*session, 0, len(h.holders))
	for _, s := range h.holders {
		held = append(held, s)
	}
	h.closing.Go(func() {
		h.recordHolders(held)
		h.conns.Close(code, "the server is stopping")
	})
}

// Wait waits until all connections are closed. When ctx is done it aborts those that are open, and
// returns the error of ctx.
func (h *Handler) Wait(ctx context.Context) error {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		h.closing.Wait()
	}()
	select {
	case <-closed:
	case <-ctx.Done():
	}
	err := h.conns.Wait(ctx)
	h.cancel()
	return err
}

// now returns the time since the handler was made, which is never zero.
func (h *Handler) now() time.Duration { return time.Since(h.began) | 1 }

// hash returns a keyed hash of a text for a purpose.
func (h *Handler) hash(purpose, text string) (sum inbox.Key) {
	mac := hmac.New(sha256.New, h.Secret)
	mac.Write([]byte(purpose))
	mac.Write([]byte{0})
	mac.Write([]byte(text))
	mac.Sum(sum[:0])
	return sum
}

type noGuard struct{}

func (noGuard) Allow(*http.Request, inbox.Attempt, string) error { return nil }
func (noGuard) Record(*http.Request, inbox.Attempt, string)      {}
func (noGuard) Release(*http.Request, inbox.Attempt, string)     {}
func (noGuard) Reserve(*http.Request, inbox.Attempt, string) (bool, error) {
	return false, nil
}

var (
	errStopping  = problem.New(http.StatusServiceUnavailable, "stopping", "The server is stopping", "Try again in a moment.")
	errCrossSite = problem.New(http.StatusForbidden, "cross-site", "Pages of other sites may not use this server",
		"Its operator can allow them with -cors-origins.")
	errNoPeers = problem.New(http.StatusUnauthorized, "no-peers", "The ids of peers are not listed", "Peers learn the ids of one another over another channel.")
	errNoRoute = problem.NotFound("The WebSocket of PeerJS is here.")
)
