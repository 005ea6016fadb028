package ratelimit

import (
	"encoding/json"
	"fmt"
	"html"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
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
	h := w.Header()
	r.setFields(h)
	body, _ := json.Marshal(map[string]any{ // plain values: cannot fail
		"type": "urn:inbox:problem:rate-limited", "title": "Too many requests from your address",
		"status": http.StatusTooManyRequests, "detail": r.Detail, "limit": r.Limit,
	})
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusTooManyRequests)
	w.Write(body)
}

// setFields sets the response fields of a refusal and returns Retry-After, in seconds.
func (r *Refusal) setFields(h http.Header) int {
	seconds := int(math.Ceil(max(r.Wait.Seconds(), 1)))
	h.Set("Retry-After", strconv.Itoa(seconds))
	h.Set("RateLimit", fmt.Sprintf("%q;r=0;t=%d", r.Limit, seconds))
	policy := fmt.Sprintf("%q;q=%d", r.Limit, r.Quota)
	if r.Window > 0 {
		policy += fmt.Sprintf(";w=%d", int(math.Ceil(r.Window.Seconds())))
	}
	h.Set("RateLimit-Policy", policy)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	return seconds
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

// writePage responds as Refuse does, with a page that reloads after the wait. The page
// needs nothing else from the server and runs no script.
func (r *Refusal) writePage(w http.ResponseWriter) {
	seconds := r.setFields(w.Header())
	h := w.Header()
	h.Set("Refresh", fmt.Sprint(seconds))
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(http.StatusTooManyRequests)
	fmt.Fprintf(w, `<!doctype html>
<html lang="en">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>Too many requests</title>
<h1>Too many requests</h1>
<p>%s</p>
<p>This page reloads automatically in %d seconds.</p>
`, html.EscapeString(r.Detail), seconds)
}
