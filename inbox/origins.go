package inbox

import (
	"net/http"
	"strings"
)

// origins decides which sites' pages may use the server. A browser can remember
// a login and add it to a request that another site's page makes. Such a page
// must not take messages that way.
type origins struct {
	anyOrigin bool
	allowed   map[string]bool
}

// exposedHeaders are the response fields that a page of another origin can read.
const exposedHeaders = "X-From, X-Message-Id, X-Poll-Ended, Retry-After, RateLimit, RateLimit-Policy"

// allowedHeaders are the request fields that a page of another origin can send. Monitoring
// libraries add the last four to each request of a page.
const allowedHeaders = "Authorization, Content-Type, traceparent, tracestate, baggage, sentry-trace"

func newOrigins(anyOrigin bool, list []string) origins {
	o := origins{anyOrigin: anyOrigin, allowed: make(map[string]bool, len(list))}
	for _, origin := range list {
		o.allowed[strings.ToLower(origin)] = true
	}
	return o
}

// check sets the CORS fields for an allowed origin and reports whether the
// request is allowed.
func (o origins) check(w http.ResponseWriter, r *http.Request) bool {
	allowed := o.allow(w, r)
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

// trusts reports whether the request is of the server's own pages, of a listed origin or of
// no browser: not of a site that only anyOrigin allows.
func (o origins) trusts(r *http.Request) bool {
	return originOf(r) == ownPage || o.allowed[canonicalHeader(r.Header, "Origin")]
}

// allow sets the fields of the CORS protocol (Fetch Standard) that every response
// to an allowed origin has, and reports whether the origin is allowed.
// Credentials of the browser are never allowed: a client sets the Authorization
// field itself.
func (o origins) allow(w http.ResponseWriter, r *http.Request) bool {
	if !o.anyOrigin && len(o.allowed) == 0 {
		return false
	}
	header, origin := w.Header(), canonicalHeader(r.Header, "Origin")
	if len(o.allowed) > 0 {
		header.Set("Vary", "Origin")
	}
	switch {
	case o.anyOrigin:
		header.Set("Access-Control-Allow-Origin", "*")
	case o.allowed[origin]:
		header.Set("Access-Control-Allow-Origin", origin)
	default:
		return false
	}
	header.Set("Access-Control-Expose-Headers", exposedHeaders)
	return true
}

// AllowOrigin sets the CORS fields that let pages of an allowed origin read a
// response. The handler sets them itself. Call it for refusals that precede the
// handler.
func (h *Handler) AllowOrigin(w http.ResponseWriter, r *http.Request) {
	h.origins.allow(w, r)
}

// preflight responds to OPTIONS.
func (o origins) preflight(w http.ResponseWriter, r *http.Request, allowed string) {
	header := w.Header()
	header.Set("Allow", allowed)
	if header.Get("Access-Control-Allow-Origin") != "" {
		header.Set("Access-Control-Allow-Methods", allowed)
		header.Set("Access-Control-Allow-Headers", allowedHeaders)
		header.Set("Access-Control-Max-Age", "7200") // the maximum in Chromium
	}
	w.WriteHeader(http.StatusNoContent)
}
