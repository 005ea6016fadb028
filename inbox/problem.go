package inbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"

	"inbox/inbox/internal/login"
	"inbox/inbox/quota"
	"inbox/internal/problem"
	"inbox/internal/websocket"
)

// Refusals by the handler itself.
var (
	errMethodNotAllowed = errors.New("method not allowed")
	errContentEncoding  = errors.New("content encoding")
)

// problemTable maps errors to problems. A problem of the handler, such as that
// of an unknown path, is an error itself.
var problemTable = []struct {
	err     error
	problem *problem.Problem
}{
	{login.ErrMissing, problem.New(401, "unauthorized", "A name and a password are needed",
		"Send them with HTTP Basic authentication. The first use of a name claims it with that password.")},
	{login.ErrNotBase64, problem.New(401, "unauthorized", "The credentials cannot be read",
		"The base64 in the Authorization field cannot be read. It must be plain base64 on one line, with its padding; not base64url.")},
	{login.ErrNoColon, problem.New(401, "unauthorized", "The credentials cannot be read",
		"The base64 in the Authorization field must stand for name:password, with a colon.")},
	{ErrWrongKey, problem.New(401, "unauthorized", "The name is in use with another password",
		"Use the password it was claimed with, or another name; the name is released after a period of inactivity.")},
	{ErrNoInbox, problem.New(404, "no-inbox", "That name is not claimed",
		"The recipient has to ask for its messages first. Add wait=SECONDS to wait for it.")},
	{errMethodNotAllowed, problem.MethodNotAllowed},
	{ErrOtherReceiver, problem.New(409, "other-receiver", "Another device receives these messages",
		"It asked for them after this one did. To take over, ask again without resume.")},
	{os.ErrDeadlineExceeded, problem.New(408, "body-too-slow", "The body took too long",
		"Send it faster, or in smaller messages.")},
	{errContentEncoding, problem.New(415, "content-encoding", "The body is encoded",
		"Send it without Content-Encoding. The server passes a body on as it is, and would not tell the receiver how to decode it.")},
	{ErrPayerFull, problem.New(429, "payer-full", "Your address has used up its quota",
		"Space is freed as messages are read and unused names expire.")},
	{ErrInboxFull, problem.New(503, "inbox-full", "The inbox is full",
		"Its owner has to read some messages first.")},
	{ErrStoreFull, problem.New(503, "server-full", "The server is at its limit of queued messages",
		"Space is freed as messages are read and unused names expire.")},
	{ErrTooManyInboxes, problem.New(503, "too-many-inboxes", "The server is at its limit of inboxes",
		"Space is freed as unused names expire.")},
	{ErrStoreUnavailable, problem.New(503, "store-unavailable", "The server cannot reach its store",
		"It is not known whether anything was stored. Try again in a moment.")},
	{ErrStopping, problem.New(503, "stopping", "The server is stopping",
		"Nothing was stored. Try again in a moment.")},
}

var internalProblem = problem.New(500, "internal", "Something went wrong in the server",
	"The server log has the cause.")

// problemOf returns the problem for an error, or nil if the client is gone.
func problemOf(r *http.Request, err error) *problem.Problem {
	var known *problem.Problem
	if errors.As(err, &known) {
		return known
	}
	for _, a := range problemTable {
		if errors.Is(err, a.err) {
			return a.problem
		}
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return problem.New(413, "body-too-large", "The message is too large",
			fmt.Sprintf("A message can have at most %d bytes.", tooLarge.Limit))
	case r.Context().Err() != nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, context.Canceled):
		return nil
	}
	return internalProblem
}

// refuse responds with the problem of err.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var refuser interface{ Refuse(http.ResponseWriter) }
	if errors.As(err, &refuser) {
		refuser.Refuse(w)
		return
	}
	p := problemOf(r, err)
	if p == nil {
		panic(http.ErrAbortHandler)
	}
	h.refusals.Add(p)
	header, retryAfter := w.Header(), retryAfterOf(err)
	var exceeded *quota.Error
	if errors.As(err, &exceeded) {
		problem.SetRateLimit(header, exceeded.Limit, exceeded.Quota, 0, retryAfter)
	}
	switch p.Status {
	case http.StatusUnauthorized:
		header.Set("WWW-Authenticate", `Basic realm="inbox", charset="UTF-8"`)
	case http.StatusUnsupportedMediaType:
		header.Set("Accept-Encoding", "identity") // RFC 9110, section 15.5.16
	case http.StatusRequestTimeout:
		if r.ProtoMajor < 2 { // over HTTP/2 it would end the connection for other requests too
			header.Set("Connection", "close")
		}
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		header.Set("Retry-After", strconv.Itoa(retryAfter))
	case http.StatusInternalServerError:
		h.log.Error("answer a request", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	p.Write(w)
}

// retryAfterOf returns in how many seconds a client can retry. It is spread, so that clients that
// were refused together do not retry together.
func retryAfterOf(err error) int {
	if errors.Is(err, ErrStoreUnavailable) || errors.Is(err, ErrStopping) {
		return 1 + rand.IntN(2) // a restart takes a second, a failover a few seconds
	}
	return 1 + rand.IntN(5)
}

func newRefusalCounter() problem.Counter {
	kinds := []string{"invitation-required", "invitation-expired", "bad-request", "body-too-large", "cross-site", "internal", "not-found", websocket.UpgradeRequired}
	for _, a := range problemTable {
		kinds = append(kinds, a.problem.Kind())
	}
	return problem.NewCounter(kinds...)
}
