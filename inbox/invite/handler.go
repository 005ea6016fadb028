package invite

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"inbox/inbox"
	"inbox/inbox/internal/names"
	"inbox/inbox/internal/origin"
	"inbox/internal/problem"
)

// maxRequestBytes bounds the body of a request for a guest pass: two names of 256 bytes, escaped.
const maxRequestBytes = 8 << 10

// HandlerConfig configures a [Handler]. Access and Payer are required.
type HandlerConfig struct {
	Access *Access
	// Payer returns whom a request counts against.
	Payer func(*http.Request) inbox.Payer
	// AnyOrigin, Origins and CrossSiteDetail are those of [inbox.Config].
	AnyOrigin       bool
	Origins         []string
	CrossSiteDetail string
}

// Handler makes guest passes: POST by a client with an invitation.
type Handler struct {
	access    *Access
	payer     func(*http.Request) inbox.Payer
	origins   origin.Policy
	crossSite *problem.Problem
	refusals  problem.Counter
}

// NewHandler returns a handler. It serves every path.
func NewHandler(cfg HandlerConfig) *Handler {
	return &Handler{
		access: cfg.Access, payer: cfg.Payer, origins: origin.New(cfg.AnyOrigin, cfg.Origins),
		crossSite: origin.Refusal(cfg.CrossSiteDetail),
		refusals:  problem.NewCounter(required, expired, "bad-request", "body-too-large", "cross-site", "method-not-allowed", "store-unavailable"),
	}
}

// Refusals returns how many requests were refused, by the last part of the problem's type.
func (h *Handler) Refusals() map[string]int64 { return h.refusals.Counts() }

const allowedMethods = "POST, OPTIONS"

// passRequest and passResponse are the bodies.
type passRequest struct {
	Names      []string `json:"names"`
	Remembered bool     `json:"remembered"`
}

type passResponse struct {
	Pass    string `json:"pass"`
	Expires int64  `json:"expires"` // Unix time in seconds
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := h.serve(w, r); err != nil {
		h.refuse(w, err)
	}
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request) error {
	switch {
	case !h.origins.Check(w, r):
		return h.crossSite
	case r.Method == http.MethodOptions:
		h.origins.Preflight(w, r, allowedMethods)
		return nil
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", allowedMethods)
		return problem.MethodNotAllowed
	}
	token := r.Header.Get(inbox.InviteField)
	if err := h.access.admitInviter(token); err != nil {
		return err // before the body is read
	}
	roomNames, remembered, err := readRequest(w, r)
	if err != nil {
		return err
	}
	pass, expires, err := h.access.GuestPass(token, roomNames, remembered, h.payer(r))
	if err != nil {
		return err
	}
	return writeResponse(w, pass, expires)
}

// readRequest returns the two names of a room, in the form in which they are compared.
func readRequest(w http.ResponseWriter, r *http.Request) (roomNames [2]string, remembered bool, err error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequestBytes))
	if err != nil {
		return roomNames, false, err
	}
	var request passRequest
	if json.Unmarshal(body, &request) != nil || len(request.Names) != len(roomNames) {
		return roomNames, false, problem.BadRequest("the body", errors.New(`must be JSON with the two names of a room, as in {"names":["anna","ben"]}`))
	}
	for i, name := range request.Names {
		if roomNames[i], err = names.Parse(name); err != nil {
			return roomNames, false, problem.BadRequest("a name", err)
		}
	}
	return roomNames, request.Remembered, nil
}

func writeResponse(w http.ResponseWriter, pass string, expires time.Time) error {
	body, err := json.Marshal(passResponse{pass, expires.Unix()})
	if err != nil {
		return err
	}
	header := w.Header()
	problem.SetInert(header)
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // an error ends the connection
	return nil
}

var (
	errTooLarge    = problem.New(http.StatusRequestEntityTooLarge, "body-too-large", "The request is too large", "A request for a guest pass has two names.")
	errUnavailable = problem.New(http.StatusServiceUnavailable, "store-unavailable", "The server cannot reach its store", "Try again in a moment.")
)

// refuse responds with a problem document. A client that is gone gets none.
func (h *Handler) refuse(w http.ResponseWriter, err error) {
	var p *problem.Problem
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &p):
	case errors.As(err, &tooLarge):
		p = errTooLarge
	case errors.Is(err, inbox.ErrStoreUnavailable):
		w.Header().Set("Retry-After", "1")
		p = errUnavailable
	default: // the body was not received
		panic(http.ErrAbortHandler)
	}
	h.refusals.Add(p)
	p.Write(w)
}
