package inbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"inbox/inbox/ice"
	"inbox/inbox/internal/body"
	"inbox/inbox/internal/login"
	"inbox/inbox/internal/origin"
	"inbox/inbox/internal/pending"
	"inbox/inbox/internal/query"
	"inbox/internal/problem"
	"inbox/internal/websocket"
)

// Config configures a [Handler]. Store, Secret and Path are required.
type Config struct {
	Store Store
	// Shared reports whether the store is one over a network, whose steps take a while. Otherwise
	// the goroutine of a sender can read the message and write it to a WebSocket.
	Shared bool
	// Secret keys the hashes of passwords. It has 16 bytes or more. Handlers
	// that share a store share it.
	Secret []byte
	// Path is the URL path of the mailbox, as in "/inbox", and [AckPath] follows
	// it. ICEPath is that of the ICE servers; empty serves none. Other paths are answered with 404.
	Path, ICEPath string
	// PollTimeout is how long a GET of an empty mailbox waits, and the maximum
	// of its parameter wait. Zero switches long polling off. It must be well
	// below the store's timeout.
	PollTimeout time.Duration
	// Heartbeat is the time between two comments of an event stream without messages, and between
	// two pings of a WebSocket. Zero is [DefaultHeartbeat].
	Heartbeat time.Duration
	// Capacity is how many messages a mailbox of the store can hold, or zero. Streams
	// leave a third of it to new messages: see [Window].
	Capacity int
	// MaxBodyBytes bounds one message.
	MaxBodyBytes int64
	// MaxInFlightBytes bounds the large bodies that are being read or written,
	// in total. Each payer has a share of it. Zero is no limit.
	MaxInFlightBytes int64
	// WriteTimeout bounds the time to write one message to its receiver, for
	// which a newer poll without acknowledgements has to wait. Zero leaves it
	// to the server.
	WriteTimeout time.Duration
	// AnyOrigin lets pages of every site use the server. Origins lets those
	// listed, as in "https://example.org". Without either only the server's own
	// pages can.
	AnyOrigin bool
	Origins   []string
	// CrossSiteDetail is the detail of the problem document for a page that
	// may not use the server: how the operator can allow it. Empty says only
	// that the operator can.
	CrossSiteDetail string
	// ICEServers is what pages get for their RTCConfiguration. Those with credentials are
	// for clients that own a mailbox.
	ICEServers []ice.Server
	// TURN, if not nil, returns the STUN and TURN servers of this server, which precede
	// ICEServers. The owner is that of a mailbox. It identifies the name with its password, is
	// the same for all requests and nodes, and is a secret. It is empty for a request without
	// credentials, and for a page of a site that only AnyOrigin allows: these get no TURN.
	// withheld says why an owner gets none, as in "month-used".
	TURN func(r *http.Request, owner string) (servers []ice.Server, withheld string)
	// OnDelete, if not nil, is called when an owner has deleted a mailbox.
	OnDelete func(owner string)
	// Alive reports whether the connection of the request is still open. Use
	// [Alive]. Nil trusts every connection: a message that is written to a
	// closed one, without acknowledgement, is lost.
	Alive func(*http.Request) bool
	// Payer returns whom a request counts against. It is the same for all
	// requests of one client. Nil counts against none: limits per payer do not
	// apply.
	Payer func(*http.Request) Payer
	// OnWait, if not nil, is called when a request has waited for a message or
	// a recipient, with the writer that ServeHTTP was given and the duration,
	// before the response is written.
	OnWait func(http.ResponseWriter, time.Duration)
	// ClientFields are the fields of requests that Payer, Guard, Enter and Throttle read, in
	// canonical form. Those of a WebSocket are kept as long as it is open.
	ClientFields []string
	// HelloTimeout bounds the time until a WebSocket has sent its credentials, and BodyTimeout that
	// of one of its messages. Zero is no limit.
	HelloTimeout, BodyTimeout time.Duration
	// Enter, if not nil, counts what waits for a message or for a recipient until leave, which is
	// called once: a poll of an empty mailbox, a POST with the parameter wait, an event stream, a
	// WebSocket, a pending send on one. An error refuses it, as those of Guard do.
	Enter func(*http.Request) (leave func(), err error)
	// Throttle, if not nil, is called before each frame of a WebSocket, with a request of the
	// client. It returns how long to wait before the frame is handled, or with again, before it is
	// called once more. Up to two acknowledgements a second are free.
	Throttle func(*http.Request) (wait time.Duration, again bool)
	// OnFrameDelay, if not nil, is called with how long a frame has waited for Throttle.
	OnFrameDelay func(time.Duration)
	// Guard limits guessing. Nil limits nothing.
	Guard Guard
	// Access, if not nil, makes the server private: it decides which clients can use a name.
	Access Access
	// CodePrefix is how the names begin that are short enough to be guessed,
	// such as codes that people type. The guard limits attempts at them apart
	// from other names, as NewCode and UnknownCode. Empty: no name is a code.
	CodePrefix string
	// Logger gets failures of the store. Nil discards them.
	Logger *slog.Logger
}

// Handler implements the mailbox protocol. Make one with [NewHandler].
type Handler struct {
	store         Store
	shared        bool
	logins        *login.Reader
	path, icePath string
	ackPath       string
	origins       origin.Policy
	pollTimeout   time.Duration
	window        uint64
	writeTimeout  time.Duration
	maxBytes      int64
	iceServers    []ice.Server
	iceAuth       bool // credentials make a difference to the ICE servers
	turn          func(r *http.Request, owner string) (servers []ice.Server, withheld string)
	onDelete      func(owner string)
	alive         func(*http.Request) bool
	payer         func(*http.Request) Payer
	onWait        func(http.ResponseWriter, time.Duration)
	guard         Guard
	access        Access // nil: every client
	codePrefix    string
	log           *slog.Logger
	bodies        *body.Budget
	sockets       websocket.Conns
	socketConfig  websocket.Config
	socketURL     url.URL
	helloTimeout  time.Duration
	clientFields  []string
	enter         func(*http.Request) (leave func(), err error)
	throttle      func(*http.Request) (time.Duration, bool)
	turns         turns
	pending       pending.Set // sends that wait for their recipients; of a private server
	receivers     [numTransports]receiverCounts
	refusals      problem.Counter
	notFound      *problem.Problem
	crossSite     *problem.Problem
	claims        atomic.Int64
	began         time.Time
	stopping      context.Context // ends when requests must no longer wait
	endWaits      context.CancelCauseFunc
}

// NewHandler returns a handler. It panics if the configuration lacks what it
// requires: a mistake of the program, not of its user.
func NewHandler(cfg Config) *Handler {
	if cfg.Store == nil || len(cfg.Secret) < 16 || cfg.Path == "" {
		panic("inbox: NewHandler needs a Store, a Secret of 16 bytes or more, and a Path")
	}
	h := &Handler{
		store: cfg.Store, shared: cfg.Shared, logins: login.NewReader(cfg.Secret), origins: origin.New(cfg.AnyOrigin, cfg.Origins),
		path: cfg.Path, ackPath: cfg.Path + AckPath, icePath: cfg.ICEPath,
		pollTimeout: cfg.PollTimeout, writeTimeout: cfg.WriteTimeout, maxBytes: cfg.MaxBodyBytes,
		alive: cfg.Alive, payer: cfg.Payer, onWait: cfg.OnWait, guard: cfg.Guard, log: cfg.Logger, began: time.Now(),
	}
	h.iceServers, h.turn, h.onDelete = cfg.ICEServers, cfg.TURN, cfg.OnDelete
	h.iceAuth = cfg.TURN != nil || ice.HasSecret(cfg.ICEServers)
	h.codePrefix, h.access = cfg.CodePrefix, cfg.Access
	h.notFound, h.crossSite = notFoundProblem(cfg.Path, cfg.ICEPath), origin.Refusal(cfg.CrossSiteDetail)
	h.bodies = body.NewBudget(cfg.MaxInFlightBytes, ErrStoreFull)
	h.socketConfig, h.socketURL = h.webSocketConfig(cfg), url.URL{Path: cfg.Path}
	h.helloTimeout, h.enter, h.throttle = cfg.HelloTimeout, cfg.Enter, cfg.Throttle
	h.clientFields = cfg.ClientFields
	h.refusals = newRefusalCounter()
	h.window = windowOf(cfg.Capacity)
	h.turns.slots = make(map[string]turnSlot)
	h.stopping, h.endWaits = context.WithCancelCause(context.Background())
	if h.alive == nil {
		h.alive = func(*http.Request) bool { return true }
	}
	if h.payer == nil {
		h.payer = func(*http.Request) Payer { return Payer{} }
	}
	if h.enter == nil {
		h.enter = func(*http.Request) (func(), error) { return func() {}, nil }
	}
	if h.throttle == nil {
		h.throttle = func(*http.Request) (time.Duration, bool) { return 0, false }
	}
	if h.guard == nil {
		h.guard = noGuard{}
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	return h
}

// Refusals returns how many requests were refused since the handler was made,
// by the last part of the problem's type, as in "inbox-full".
func (h *Handler) Refusals() map[string]int64 { return h.refusals.Counts() }

// Claims returns how many names were claimed since the handler was made.
func (h *Handler) Claims() int64 { return h.claims.Load() }

// EndPolls ends the receivers, and all later ones: polls with 204 and Retry-After,
// streams with the reason. It ends pending sends with a problem document. Other
// requests are served. A server calls it when it begins to shut down, and then
// [Handler.WaitWebSockets].
func (h *Handler) EndPolls() {
	h.endWaits(ErrStopping)
	h.turns.endAll()
	h.sockets.Wake()
}

// AllowOrigin sets the CORS fields that let pages of an allowed origin read a
// response. The handler sets them itself. Call it for refusals that precede the
// handler.
func (h *Handler) AllowOrigin(w http.ResponseWriter, r *http.Request) {
	h.origins.Allow(w, r)
}

// ServeHTTP serves one request. It panics with http.ErrAbortHandler when the
// client is known to be gone, so that no response is mistaken for a delivery.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := h.serve(w, r); err != nil {
		h.refuse(w, r, err)
	}
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request) error {
	methods := h.methodsOf(r.URL.Path)
	if methods == nil {
		return h.notFound
	}
	if !h.origins.Check(w, r) {
		return h.crossSite
	}
	if serve := methods.serve[r.Method]; serve != nil {
		return serve(h, w, r)
	}
	if r.Method == http.MethodOptions {
		h.origins.Preflight(w, r, methods.allowed)
		return nil
	}
	// This includes HEAD: a link preview must not take a message.
	w.Header().Set("Allow", methods.allowed)
	return errMethodNotAllowed
}

// methods are those of a path. The field Allow lists them.
type methods struct {
	allowed string
	serve   map[string]serveFunc
}

type serveFunc func(*Handler, http.ResponseWriter, *http.Request) error

var (
	mailboxMethods = methods{"GET, POST, DELETE, OPTIONS",
		map[string]serveFunc{"GET": (*Handler).get, "POST": (*Handler).post, "DELETE": (*Handler).delete}}
	ackMethods = methods{"POST, OPTIONS", map[string]serveFunc{"POST": (*Handler).ack}}
	iceMethods = methods{"GET, OPTIONS", map[string]serveFunc{"GET": (*Handler).getICE}}
)

// methodsOf returns the methods of a path, or nil.
func (h *Handler) methodsOf(path string) *methods {
	switch {
	case path == h.path:
		return &mailboxMethods
	case path == h.ackPath:
		return &ackMethods
	case h.icePath != "" && path == h.icePath:
		return &iceMethods
	}
	return nil
}

// delete releases the name. With the parameter client, it does so only if no other client
// is the last receiver: a page that closes must not end the mailbox, and the relays, of the
// one that has replaced it.
func (h *Handler) delete(w http.ResponseWriter, r *http.Request) error {
	name, key, err := h.credentials(r)
	if err != nil {
		return err
	}
	q, err := query.Parse(r.URL.RawQuery, h.pollTimeout)
	if err != nil {
		return err
	}
	c, err := h.open(r, name, key)
	if err != nil {
		return err
	}
	if q.Client != "" {
		client := Client{ID: q.ClientID(), Resume: true}
		if _, _, err := h.store.OpenNext(r.Context(), name, key, 0, client); errors.Is(err, ErrOtherReceiver) {
			return err
		}
	}
	if err := h.store.Close(r.Context(), c); err != nil && !errors.Is(err, ErrClaimEnded) {
		return err
	}
	if h.onDelete != nil {
		h.onDelete(ownerOf(name, key))
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// observeWait begins a wait. The function that it returns ends it.
func (h *Handler) observeWait(w http.ResponseWriter) func() {
	if h.onWait == nil {
		return func() {}
	}
	began := time.Now()
	return func() { h.onWait(w, time.Since(began)) }
}

func notFoundProblem(path, icePath string) *problem.Problem {
	detail := fmt.Sprintf("The mailbox is at %s.", path)
	if icePath != "" {
		detail = fmt.Sprintf("The mailbox is at %s, the ICE servers are at %s.", path, icePath)
	}
	return problem.NotFound(detail)
}
