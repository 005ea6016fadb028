package inbox

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// Config says what a [Handler] serves and how. Store and Secret are required.
type Config struct {
	Store Store
	// Secret keys the hashes of passwords. Handlers on one store share it.
	Secret []byte
	// PollTimeout is how long a GET of an empty mailbox is held, and the most
	// that ?wait= can ask for. Zero switches long polling off. It must be well
	// below the store's timeout.
	PollTimeout time.Duration
	// MaxBodyBytes bounds one message.
	MaxBodyBytes int64
	// MaxInFlightBytes bounds the large bodies that are being read or written,
	// in all; each payer has its share. Zero is no limit.
	MaxInFlightBytes int64
	// WriteTimeout bounds the writing of one message to its receiver, during
	// which a newer poll of a plain receiver has to wait. Zero leaves it to the
	// server.
	WriteTimeout time.Duration
	// AnyOrigin lets the pages of every site use the server; Origins lets
	// those listed, as in "https://example.org". Neither: only its own pages.
	AnyOrigin bool
	Origins   []string
	// ICEServers is what GET /ice hands to a page for its RTCConfiguration.
	ICEServers []ICEServer
	// Alive reports whether the request's connection is, as far as the kernel
	// knows, still there. Nil trusts every connection.
	Alive func(*http.Request) bool
	// Payer names whose budget a request counts against, the same for the same
	// client. Nil counts against nobody's.
	Payer func(*http.Request) Payer
	// OnWait hears how long a request waited for a message or a recipient, with
	// the writer that ServeHTTP was given, before its answer is written. Nil:
	// nobody does.
	OnWait func(http.ResponseWriter, time.Duration)
	// Guard limits guessing. Nil limits nothing.
	Guard Guard
	// Logger gets what the operator should see: failures of the store. Nil
	// discards them.
	Logger *slog.Logger
}

// Handler speaks the mailbox protocol at /inbox, and /ice. Use [NewHandler].
type Handler struct {
	store        Store
	combined     CombinedStore // the store, if it is one
	keys         keyring
	origins      origins
	pollTimeout  time.Duration
	writeTimeout time.Duration
	maxBytes     int64
	ice          []byte
	iceAuth      bool
	alive        func(*http.Request) bool
	payer        func(*http.Request) Payer
	onWait       func(http.ResponseWriter, time.Duration)
	guard        Guard
	log          *slog.Logger
	bodies       bodyBudget
	polls        polls
	refusals     refusals
	delivered    struct{ plain, kept, putBack atomic.Int64 }
	stopping     context.Context // ends when polls are to end
	endPolls     context.CancelCauseFunc
}

// What every answer says: the mail is nobody else's, and inert in a browser.
var (
	noStore    = []string{"no-store"}
	nosniff    = []string{"nosniff"}
	sandboxCSP = []string{"default-src 'none'; frame-ancestors 'none'; sandbox"}
)

// NewHandler returns a handler over cfg.Store. It panics without a store or a
// secret, which is a mistake of the program, not of its user.
func NewHandler(cfg Config) *Handler {
	if cfg.Store == nil || len(cfg.Secret) < 16 {
		panic("inbox: NewHandler needs a Store and a Secret of 16 bytes or more")
	}
	h := &Handler{
		store: cfg.Store, keys: newKeyring(cfg.Secret), origins: newOrigins(cfg.AnyOrigin, cfg.Origins),
		pollTimeout: cfg.PollTimeout, writeTimeout: cfg.WriteTimeout, maxBytes: cfg.MaxBodyBytes,
		alive: cfg.Alive, payer: cfg.Payer, onWait: cfg.OnWait, guard: cfg.Guard, log: cfg.Logger,
	}
	h.combined, _ = cfg.Store.(CombinedStore)
	h.ice, h.iceAuth = encodeICE(cfg.ICEServers)
	h.bodies.init(cfg.MaxInFlightBytes)
	h.refusals = newRefusals()
	h.polls.slots = make(map[string]pollSlot)
	h.stopping, h.endPolls = context.WithCancelCause(context.Background())
	if h.alive == nil {
		h.alive = func(*http.Request) bool { return true }
	}
	if h.payer == nil {
		h.payer = func(*http.Request) Payer { return Payer{} }
	}
	if h.guard == nil {
		h.guard = noGuard{}
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	return h
}

// Refusals returns how often requests were refused since the handler was made,
// by the last part of the problem's type, as in "inbox-full".
func (h *Handler) Refusals() map[string]int64 { return h.refusals.counts() }

// Deliveries counts what became of messages that were handed out.
type Deliveries struct {
	// AutoAck were written to a receiver that was still there, and forgotten.
	AutoAck int64
	// ManualAck were written to a receiver that acknowledges, and are kept until it
	// does. One that asks twice counts twice.
	ManualAck int64
	// Requeued were not written, for the receiver was gone, and are first again.
	Requeued int64
}

// Deliveries returns the counts since the handler was made.
func (h *Handler) Deliveries() Deliveries {
	return Deliveries{h.delivered.plain.Load(), h.delivered.kept.Load(), h.delivered.putBack.Load()}
}

// EndPolls ends the held polls, and those still to come, with 204 and
// Retry-After. Posts go on. A server calls it when it begins to shut down.
func (h *Handler) EndPolls() {
	h.endPolls(ErrStopping)
	h.polls.endAll()
}

// ServeHTTP answers one request. It panics with http.ErrAbortHandler when the
// client is known to be gone, so that no answer is taken for a delivery.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header["Cache-Control"] = noStore
	header["X-Content-Type-Options"] = nosniff
	header["Content-Security-Policy"] = sandboxCSP
	if err := h.serve(w, r); err != nil {
		h.refuse(w, r, err)
	}
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request) error {
	var allowed string
	switch r.URL.Path {
	case "/inbox":
		allowed = "GET, POST, DELETE, OPTIONS"
	case "/ice":
		allowed = "GET, OPTIONS"
	default:
		return errNotFound
	}
	if err := h.origins.check(w, r); err != nil {
		return err
	}
	switch r.URL.Path + r.Method {
	case "/inbox" + http.MethodGet:
		return h.get(w, r)
	case "/inbox" + http.MethodPost:
		return h.post(w, r)
	case "/inbox" + http.MethodDelete:
		return h.delete(w, r)
	case "/ice" + http.MethodGet:
		return h.getICE(w, r)
	case r.URL.Path + http.MethodOptions:
		h.origins.preflight(w, r, allowed)
		return nil
	}
	// HEAD comes here too: a link preview must not take a message.
	w.Header().Set("Allow", allowed)
	return errMethodNotAllowed
}

// post leaves a message in somebody's mailbox.
func (h *Handler) post(w http.ResponseWriter, r *http.Request) error {
	if h.combined != nil {
		return h.postCombined(w, r)
	}
	from, err := h.open(r)
	if err != nil {
		return err
	}
	q, err := h.parseQuery(r.URL.RawQuery)
	if err != nil {
		return err
	}
	if err := checkRecipient(q); err != nil {
		return err
	}
	if err := h.guard.Allow(r, UnknownRecipient, q.to); err != nil {
		return err
	}
	body, err := h.readBody(w, r)
	if err != nil {
		return err
	}
	return h.put(w, r, q, h.message(r, from.Name, body))
}

func (h *Handler) message(r *http.Request, from string, body []byte) Message {
	return Message{From: from, ContentType: safeContentType(canonicalHeader(r.Header, "Content-Type")), Body: body, Payer: h.payer(r)}
}

// put leaves m, at once or when its recipient comes.
func (h *Handler) put(w http.ResponseWriter, r *http.Request, q query, m Message) (err error) {
	if q.wait > 0 {
		err = h.putPending(w, r, q, m)
	} else {
		err = h.store.Put(r.Context(), q.to, m, 0)
	}
	// Who hangs up has been told as well: nobody is there.
	if errors.Is(err, ErrNoInbox) || errors.Is(err, context.Canceled) {
		h.guard.Record(r, UnknownRecipient, q.to)
	}
	return err
}

// putPending is a post that waits for its recipient to come.
func (h *Handler) putPending(w http.ResponseWriter, r *http.Request, q query, m Message) error {
	// The body is here; its deadline must not end the wait.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	defer h.observeWait(w)()
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(h.stopping, func() { cancel(ErrStopping) })()
	err := h.store.Put(ctx, q.to, m, q.wait)
	if err != nil && context.Cause(ctx) == ErrStopping {
		return ErrStopping
	}
	return err
}

// get hands out the oldest message, or waits for one.
func (h *Handler) get(w http.ResponseWriter, r *http.Request) error {
	if h.combined != nil {
		if handled, err := h.getCombined(w, r); handled {
			return err
		}
	}
	claim, err := h.open(r)
	if err != nil {
		return err
	}
	q, err := h.parseQuery(r.URL.RawQuery)
	if err != nil {
		return err
	}
	// A client may be gone before its request is read. Such a poll must not
	// end the one with which it came back.
	if h.polls.hasPoll(claim.Name) && !h.alive(r) {
		panic(http.ErrAbortHandler)
	}
	p, err := h.polls.enter(r.Context(), claim.Name)
	defer h.polls.leave(p)
	if err != nil {
		return endPoll(w, err)
	}
	m, err := h.store.Next(r.Context(), claim, q.after, 0)
	return h.respond(w, r, p, claim, q, m, err)
}

// respond hands out the message that a first look found, or waits for one.
func (h *Handler) respond(w http.ResponseWriter, r *http.Request, p *poll, claim Claim, q query, m Message, err error) error {
	wait := h.pollTimeout
	if q.hasWait {
		wait = q.wait
	}
	if m, err = h.next(r.Context(), w, p, claim, wait, m, err); err != nil {
		return endPoll(w, err)
	}
	if q.hasAfter {
		// The store keeps the message: a newer poll need not wait until it is
		// written, to a client that may have lost its network.
		h.polls.leave(p)
	}
	return h.deliver(w, r, claim, m, q.hasAfter)
}

// next waits if a poll's first look found nothing: what ends the poll ends the
// wait.
func (h *Handler) next(ctx context.Context, w http.ResponseWriter, p *poll, c Claim, wait time.Duration, m Message, err error) (Message, error) {
	if wait > 0 && errors.Is(err, ErrEmpty) {
		if ctx, err = h.polls.waitContext(ctx, p); err != nil {
			return m, err
		}
		waited := h.observeWait(w)
		m, err = h.store.Next(ctx, c, 0, wait)
		waited()
	}
	if reason := h.polls.endReason(p); reason != nil {
		return m, reason
	}
	return m, err
}

// observeWait begins a wait, which the function that it returns ends.
func (h *Handler) observeWait(w http.ResponseWriter) func() {
	if h.onWait == nil {
		return func() {}
	}
	began := time.Now()
	return func() { h.onWait(w, time.Since(began)) }
}

// endPoll answers a poll that brought no message, with the reason when there
// is one to tell.
func endPoll(w http.ResponseWriter, err error) error {
	switch {
	case errors.Is(err, ErrEmpty), errors.Is(err, ErrClaimEnded):
	case errors.Is(err, ErrSuperseded):
		w.Header().Set("X-Poll-Ended", "superseded")
	case errors.Is(err, ErrStopping):
		w.Header().Set("Retry-After", "1")
		w.Header().Set("Connection", "close")
	default:
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// deliver writes m. A receiver that acknowledges messages gets it again if it
// was lost on the way; for any other it is discarded here, once it was written
// to a connection that is still there.
func (h *Handler) deliver(w http.ResponseWriter, r *http.Request, c Claim, m Message, manualAck bool) error {
	if !manualAck && !h.alive(r) {
		h.delivered.putBack.Add(1)
		panic(http.ErrAbortHandler)
	}
	if len(m.Body) > initialBodyBytes {
		inFlight := h.bodies.newReservation(h.payer(r))
		if err := inFlight.reserve(int64(len(m.Body))); err != nil {
			return err // the message stays
		}
		defer inFlight.release()
	}
	control := http.NewResponseController(w)
	if h.writeTimeout > 0 {
		// A connection that knows no deadline has the server's.
		_ = control.SetWriteDeadline(time.Now().Add(h.writeTimeout))
	}
	header := w.Header()
	fields := [...]string{contentType(m.ContentType), strconv.Itoa(len(m.Body)), escapeName(m.From), strconv.FormatUint(m.ID, 10)}
	header["Content-Type"] = fields[0:1:1] // four fields, one allocation
	header["Content-Length"] = fields[1:2:2]
	header["X-From"] = fields[2:3:3]
	header["X-Message-Id"] = fields[3:4:4]
	_, err := w.Write(m.Body)
	if manualAck {
		if err == nil {
			h.delivered.kept.Add(1)
		}
		return nil
	}
	if err == nil {
		err = control.Flush()
	}
	if err != nil {
		h.delivered.putBack.Add(1)
		panic(http.ErrAbortHandler)
	}
	// He has it, even if he hangs up now.
	err = h.store.Discard(context.Background(), c, m.ID)
	if err != nil && !errors.Is(err, ErrClaimEnded) && !errors.Is(err, ErrStopping) {
		h.log.Error("discard a delivered message", "err", err)
	}
	h.delivered.plain.Add(1)
	return nil
}

// delete gives the name up.
func (h *Handler) delete(w http.ResponseWriter, r *http.Request) error {
	claim, err := h.open(r)
	if err != nil {
		return err
	}
	if err := h.store.Close(r.Context(), claim); err != nil && !errors.Is(err, ErrClaimEnded) {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
