// Package problem writes refusals as problem documents (RFC 9457), the same way in all layers
// of the server.
package problem

import (
	"encoding/json"
	"fmt"
	"html"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// TypePrefix begins the type of each problem. Types identify problems and are not URLs.
const TypePrefix = "urn:inbox:problem:"

// Problem is the content of a problem document. It is an error, too.
type Problem struct {
	Type   string `json:"type"` // with TypePrefix
	Title  string `json:"title"`
	Status int    `json:"status"` // of the response
	Detail string `json:"detail,omitempty"`
	// Limit is the name of the limit that was exceeded, with the type rate-limited.
	Limit string `json:"limit,omitempty"`
}

// New returns a problem of the type TypePrefix + kind.
func New(status int, kind, title, detail string) *Problem {
	return &Problem{Type: TypePrefix + kind, Title: title, Status: status, Detail: detail}
}

// MethodNotAllowed is the refusal of a method. The field Allow must be set.
var MethodNotAllowed = New(http.StatusMethodNotAllowed, "method-not-allowed", "Method not allowed",
	"The Allow field lists the methods of this path.")

// NotFound returns the refusal of a path.
func NotFound(detail string) *Problem {
	return New(http.StatusNotFound, "not-found", "There is nothing at this path", detail)
}

// BadRequest returns the refusal of a part of the request, such as a parameter.
func BadRequest(part string, err error) *Problem {
	return New(http.StatusBadRequest, "bad-request", "The request is not valid", part+" "+err.Error())
}

// Kind returns the type without TypePrefix.
func (p *Problem) Kind() string { return strings.TrimPrefix(p.Type, TypePrefix) }

// Counter counts problems by their kind. All methods can be called concurrently.
type Counter map[string]*atomic.Int64

// NewCounter returns a counter of these kinds. It ignores others.
func NewCounter(kinds ...string) Counter {
	c := Counter{}
	for _, kind := range kinds {
		c[kind] = new(atomic.Int64)
	}
	return c
}

// Add counts a problem.
func (c Counter) Add(p *Problem) {
	if n := c[p.Kind()]; n != nil {
		n.Add(1)
	}
}

// Counts returns the counts, 0 included.
func (c Counter) Counts() map[string]int64 {
	counts := make(map[string]int64, len(c))
	for kind, n := range c {
		counts[kind] = n.Load()
	}
	return counts
}

// Error returns the title.
func (p *Problem) Error() string { return p.Title }

// Values of header fields, shared by all responses.
var (
	contentType = []string{"application/problem+json"}
	noStore     = []string{"no-store"}
	nosniff     = []string{"nosniff"}
	sandboxCSP  = []string{"default-src 'none'; frame-ancestors 'none'; sandbox"}
)

// Write writes the response: the document, with fields that keep it out of caches and inert
// in browsers. The caller sets all other fields before.
func (p *Problem) Write(w http.ResponseWriter) {
	body, _ := json.Marshal(p) // plain fields: cannot fail
	h := w.Header()
	h["Content-Type"] = contentType
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	SetInert(h)
	w.WriteHeader(p.Status)
	w.Write(body)
}

// SetInert sets the fields that keep a response out of caches and inert in browsers.
func SetInert(h http.Header) {
	h["Cache-Control"] = noStore
	h["X-Content-Type-Options"] = nosniff
	h["Content-Security-Policy"] = sandboxCSP
}

// SetRateLimit sets the fields of draft-ietf-httpapi-ratelimit-headers-10 for a limit that is
// used up: its name, a token, what it grants, in which time (zero for a limit on concurrency),
// and in how many seconds the client may retry.
func SetRateLimit(h http.Header, limit string, quota int64, window time.Duration, retryAfter int) {
	h.Set("RateLimit", fmt.Sprintf("%q;r=0;t=%d", limit, retryAfter))
	policy := fmt.Sprintf("%q;q=%d", limit, quota)
	if window > 0 {
		policy += fmt.Sprintf(";w=%d", int(math.Ceil(window.Seconds())))
	}
	h.Set("RateLimit-Policy", policy)
}

// RequireGetOrHead reports whether the method is GET or HEAD. Otherwise it responds with
// MethodNotAllowed.
func RequireGetOrHead(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return true
	}
	w.Header().Set("Allow", "GET, HEAD")
	MethodNotAllowed.Write(w)
	return false
}

// Respond writes a page for a person if a browser loads the response as a page, and otherwise
// the document, as Write does. If the field Retry-After is set, the page reloads after that
// time.
func (p *Problem) Respond(w http.ResponseWriter, r *http.Request) {
	if !isNavigation(r) {
		p.Write(w)
		return
	}
	h := w.Header()
	reload := ""
	if seconds := h.Get("Retry-After"); seconds != "" {
		h.Set("Refresh", seconds)
		reload = fmt.Sprintf("<p>This page reloads automatically in %s seconds.</p>\n", html.EscapeString(seconds))
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	h["Cache-Control"] = noStore
	h["X-Content-Type-Options"] = nosniff
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	w.WriteHeader(p.Status)
	fmt.Fprintf(w, `<!doctype html>
<html lang="en">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>%[1]s</title>
<h1>%[1]s</h1>
<p>%s</p>
%s`, html.EscapeString(p.Title), html.EscapeString(p.Detail), reload)
}

// isNavigation reports whether a browser loads a page to show. Browsers without
// Sec-Fetch-Mode list HTML first in Accept.
func isNavigation(r *http.Request) bool {
	if r.Method != http.MethodGet {
		return false
	}
	if mode := r.Header.Get("Sec-Fetch-Mode"); mode != "" {
		return mode == "navigate"
	}
	return strings.HasPrefix(r.Header.Get("Accept"), "text/html")
}
