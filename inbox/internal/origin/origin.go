// Package origin decides which sites' pages may use a server of mailboxes, and writes the fields of
// the CORS protocol.
package origin

import (
	"cmp"
	"net/http"
	"strings"

	"inbox/internal/problem"
)

// Policy decides which sites' pages may use the server. A browser can remember
// a login and add it to a request that another site's page makes. Such a page
// must not take messages that way. A Policy is immutable.
type Policy struct {
	anyOrigin bool
	allowed   map[string]bool
}

// exposedHeaders are the response fields that a page of another origin can read.
const exposedHeaders = "X-From, X-Message-Id, X-Poll-Ended, Retry-After, RateLimit, RateLimit-Policy"

// allowedHeaders are the request fields that a page of another origin can send. Monitoring
// libraries add the last four to each request of a page.
const allowedHeaders = "Authorization, Content-Type, Last-Event-ID, Inbox-Invite, traceparent, tracestate, baggage, sentry-trace"

// New returns the policy that allows any origin, or those of a list, as in "https://example.org".
func New(anyOrigin bool, list []string) Policy {
	p := Policy{anyOrigin: anyOrigin, allowed: make(map[string]bool, len(list))}
	for _, origin := range list {
		p.allowed[strings.ToLower(origin)] = true
	}
	return p
}

// Refusal returns the problem of a page that may not use the server. The detail, if not empty, says
// how the operator can allow it.
func Refusal(detail string) *problem.Problem {
	return problem.New(http.StatusForbidden, "cross-site", "Pages of other sites may not use this server",
		cmp.Or(detail, "Its operator can allow them."))
}

// Check sets the CORS fields for an allowed origin and reports whether the
// request is allowed.
func (p Policy) Check(w http.ResponseWriter, r *http.Request) bool {
	allowed := p.Allow(w, r)
	switch originOf(r) {
	case otherScript:
		return allowed
	case otherElement:
		// Without CORS a browser sends no preflight and the page cannot read the
		// response, but the message would be gone. An image, a form or a link is
		// never a client of the mailbox.
		return false
	}
	return true
}

// Trusts reports whether the request is of the server's own pages, of a listed origin or of
// no browser: not of a site that only anyOrigin allows.
func (p Policy) Trusts(r *http.Request) bool {
	return originOf(r) == ownPage || p.allowed[field(r.Header, "Origin")]
}

// IsOwn reports whether the request is of the server's own pages or of no browser.
func (p Policy) IsOwn(r *http.Request) bool { return originOf(r) == ownPage }

// Allow sets the fields of the CORS protocol (Fetch Standard) that every response
// to an allowed origin has, and reports whether the origin is allowed.
// Credentials of the browser are never allowed: a client sets the Authorization
// field itself.
func (p Policy) Allow(w http.ResponseWriter, r *http.Request) bool {
	if !p.anyOrigin && len(p.allowed) == 0 {
		return false
	}
	header, origin := w.Header(), field(r.Header, "Origin")
	if len(p.allowed) > 0 {
		header.Set("Vary", "Origin")
	}
	switch {
	case p.anyOrigin:
		header.Set("Access-Control-Allow-Origin", "*")
	case p.allowed[origin]:
		header.Set("Access-Control-Allow-Origin", origin)
	default:
		return false
	}
	header.Set("Access-Control-Expose-Headers", exposedHeaders)
	return true
}

// Preflight responds to OPTIONS.
func (p Policy) Preflight(w http.ResponseWriter, r *http.Request, allowed string) {
	header := w.Header()
	header.Set("Allow", allowed)
	if header.Get("Access-Control-Allow-Origin") != "" {
		header.Set("Access-Control-Allow-Methods", allowed)
		header.Set("Access-Control-Allow-Headers", allowedHeaders)
		header.Set("Access-Control-Max-Age", "7200") // the maximum in Chromium
	}
	w.WriteHeader(http.StatusNoContent)
}
