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
	"strings"
	"sync/atomic"

	document "inbox/internal/problem"
)

// typePrefix begins the type of every problem. Types are compared, not fetched.
const typePrefix = "urn:inbox:problem:"

// problem is an error as a client sees it: a problem document (RFC 9457).
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
}

func (p *problem) Error() string { return p.Title }

func newProblem(status int, kind, title, detail string) *problem {
	return &problem{Type: typePrefix + kind, Title: title, Status: status, Detail: detail}
}

func badRequest(what string, err error) *problem {
	return newProblem(http.StatusBadRequest, "bad-request", "The request is not valid", what+" "+err.Error())
}

// Refusals that no store makes.
var (
	errUnauthorized     = errors.New("no credentials")
	errCrossSite        = errors.New("another site's page")
	errMethodNotAllowed = errors.New("method not allowed")
	errNotFound         = errors.New("no such path")
)

// problemTable is the one table from errors to what a client is told.
var problemTable = []struct {
	err     error
	problem *problem
}{
	{errUnauthorized, newProblem(401, "unauthorized", "A name and a password are needed",
		"Send them with HTTP Basic authentication. The first use of a name claims it with that password.")},
	{ErrWrongKey, newProblem(401, "unauthorized", "The name is in use with another password",
		"Use the password it was claimed with, or another name; a name is free again when its owner was silent for a while.")},
	{errCrossSite, newProblem(403, "cross-site", "Pages of other sites may not use this server",
		"Its operator can allow them with -cors or -cors-origins.")},
	{ErrNoInbox, newProblem(404, "no-inbox", "Nobody has claimed that name",
		"The recipient has to ask for its messages first. Add wait=SECONDS to wait for it.")},
	{errNotFound, newProblem(404, "not-found", "There is nothing at this path",
		"The mailbox is at /inbox, the ICE servers are at /ice.")},
	{errMethodNotAllowed, newProblem(405, "method-not-allowed", "This method is not for this path",
		"The Allow field lists those that are.")},
	{os.ErrDeadlineExceeded, newProblem(408, "body-too-slow", "The body took too long",
		"Send it faster, or in smaller messages.")},
	{ErrPayerFull, newProblem(429, "payer-full", "Your address holds as much as one address may",
		"It frees itself as messages are read and unused names expire.")},
	{ErrInboxFull, newProblem(503, "inbox-full", "The inbox is full",
		"Its owner has to read some messages first.")},
	{ErrStoreFull, newProblem(503, "server-full", "The server holds as many messages as it may",
		"It frees itself as messages are read and unused names expire.")},
	{ErrTooManyInboxes, newProblem(503, "too-many-inboxes", "The server holds as many inboxes as it may",
		"It frees itself as unused names expire.")},
	{ErrStoreUnavailable, newProblem(503, "store-unavailable", "The server cannot reach its store",
		"It may not have been stored. Try again in a moment.")},
	{ErrStopping, newProblem(503, "stopping", "The server is stopping",
		"Nothing was stored. Try again in a moment.")},
}

var internalProblem = newProblem(500, "internal", "Something went wrong in the server",
	"It is not your fault. Its operator finds the cause in the log.")

// problemOf finds the answer to an error; nil when nobody is there to read it.
func problemOf(r *http.Request, err error) *problem {
	var known *problem
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
		return newProblem(413, "body-too-large", "The message is too large",
			fmt.Sprintf("One message may have %d bytes.", tooLarge.Limit))
	case r.Context().Err() != nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, context.Canceled):
		return nil
	}
	return internalProblem
}

// refuse answers with the problem that err is.
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
	h.refusals.add(p)
	header := w.Header()
	retryAfter := 1 + rand.IntN(5) // spread, so that those refused together do not return together
	if errors.Is(err, ErrStoreUnavailable) || errors.Is(err, ErrStopping) {
		retryAfter = 1 + rand.IntN(2) // a restart takes a second, a failover a few
	}
	var quota *PayerError
	if errors.As(err, &quota) {
		// As in draft-ietf-httpapi-ratelimit-headers-10: what there is none left of.
		header.Set("RateLimit", fmt.Sprintf("%q;r=0;t=%d", quota.Limit, retryAfter))
		header.Set("RateLimit-Policy", fmt.Sprintf("%q;q=%d", quota.Limit, quota.Quota))
	}
	switch p.Status {
	case http.StatusUnauthorized:
		header.Set("WWW-Authenticate", `Basic realm="inbox", charset="UTF-8"`)
	case http.StatusRequestTimeout:
		if r.ProtoMajor < 2 { // over HTTP/2 it would end the other requests' connection
			header.Set("Connection", "close")
		}
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		header.Set("Retry-After", strconv.Itoa(retryAfter))
	case http.StatusInternalServerError:
		h.log.Error("answer a request", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	(&document.Problem{Type: p.Type, Title: p.Title, Status: p.Status, Detail: p.Detail}).Write(w)
}

// refusals counts problems by their type. The map is made once.
type refusals map[string]*atomic.Int64

func newRefusals() refusals {
	r := refusals{}
	for _, kind := range []string{"bad-request", "body-too-large", "internal"} {
		r[typePrefix+kind] = new(atomic.Int64)
	}
	for _, a := range problemTable {
		r[a.problem.Type] = new(atomic.Int64)
	}
	return r
}

func (r refusals) add(p *problem) {
	if n := r[p.Type]; n != nil {
		n.Add(1)
	}
}

func (r refusals) counts() map[string]int64 {
	counts := make(map[string]int64, len(r))
	for kind, n := range r {
		counts[strings.TrimPrefix(kind, typePrefix)] = n.Load()
	}
	return counts
}
