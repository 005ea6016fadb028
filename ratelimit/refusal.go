package ratelimit

import (
	"math"
	"net/http"
	"strconv"
	"time"

	"inbox/internal/problem"
)

// Refusal is the error of a limit that was reached. It writes the response that says so.
type Refusal struct {
	Limit  string        // the name of the limit, a token
	Quota  int           // what the limit grants
	Window time.Duration // in which time; zero for a limit on concurrency
	Wait   time.Duration // until the client may retry
	Detail string        // a sentence for a person
}

// Error implements error.
func (r *Refusal) Error() string { return "limit of " + r.Limit + " reached" }

// Refuse writes a 429 response: a problem document (RFC 9457) with Retry-After (RFC 9110)
// and the RateLimit fields of draft-ietf-httpapi-ratelimit-headers-10.
func (r *Refusal) Refuse(w http.ResponseWriter) {
	r.setFields(w.Header())
	r.problem().Write(w)
}

// respond is Refuse, except that a browser that loads a page gets a page, which reloads.
func (r *Refusal) respond(w http.ResponseWriter, req *http.Request) {
	r.setFields(w.Header())
	r.problem().Respond(w, req)
}

func (r *Refusal) problem() *problem.Problem {
	p := problem.New(http.StatusTooManyRequests, "rate-limited", "Too many requests from your address", r.Detail)
	p.Limit = r.Limit
	return p
}

func (r *Refusal) setFields(h http.Header) {
	seconds := int(math.Ceil(max(r.Wait.Seconds(), 1)))
	h.Set("Retry-After", strconv.Itoa(seconds))
	problem.SetRateLimit(h, r.Limit, int64(r.Quota), r.Window, seconds)
}
