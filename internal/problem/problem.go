// Package problem writes refusals as problem documents (RFC 9457), the same way in all layers
// of the server.
package problem

import (
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"strconv"
	"strings"
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
	h["Cache-Control"] = noStore
	h["X-Content-Type-Options"] = nosniff
	h["Content-Security-Policy"] = sandboxCSP
	w.WriteHeader(p.Status)
	w.Write(body)
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
