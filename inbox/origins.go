package inbox

import (
	"net/http"
	"net/url"
	"strings"
)

// origins decides which sites' pages may use the server. A browser may
// remember a login and send it along with what another site makes it fetch; a
// stranger's page must never take somebody's messages that way.
type origins struct {
	anyOrigin bool
	allowed   map[string]bool
}

// exposedHeaders are the response fields that a page of another origin may read.
const exposedHeaders = "X-From, X-Message-Id, X-Poll-Ended, Retry-After, RateLimit, RateLimit-Policy"

func newOrigins(anyOrigin bool, list []string) origins {
	o := origins{anyOrigin: anyOrigin, allowed: make(map[string]bool, len(list))}
	for _, origin := range list {
		o.allowed[strings.ToLower(origin)] = true
	}
	return o
}

// check sets the CORS fields for an origin that is allowed and returns
// errCrossSite for a page that may not ask.
func (o origins) check(w http.ResponseWriter, r *http.Request) error {
	allowed := o.allow(w, r)
	if !isCrossSite(r) {
		return nil
	}
	// Without CORS a browser neither asks nor lets the page read, yet the
	// message would be gone: an image, a form or a link is never the mailbox's
	// client.
	switch canonicalHeader(r.Header, "Sec-Fetch-Mode") {
	case "no-cors", "navigate":
		return errCrossSite
	}
	if !allowed {
		return errCrossSite
	}
	return nil
}

// allow sets the fields of the CORS protocol (Fetch Standard) that belong on
// every answer to an allowed origin. Credentials are never allowed: a client
// sets the Authorization field itself.
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

// AllowOrigin sets the fields that let pages of an allowed origin read an
// answer. The handler does it by itself; it is for refusals that come before.
func (h *Handler) AllowOrigin(w http.ResponseWriter, r *http.Request) {
	h.origins.allow(w, r)
}

// isCrossSite reports whether another site's page caused the request. The browser
// says so in Sec-Fetch-Site; where it does not (plain HTTP, old browsers), the
// origin's host has to be ours.
func isCrossSite(r *http.Request) bool {
	switch canonicalHeader(r.Header, "Sec-Fetch-Site") {
	case "same-origin", "none":
		return false
	case "":
		origin := canonicalHeader(r.Header, "Origin")
		if origin == "" {
			return false
		}
		u, err := url.Parse(origin)
		return err != nil || !strings.EqualFold(u.Host, r.Host)
	}
	return true
}

// preflight answers OPTIONS: what a page may send.
func (o origins) preflight(w http.ResponseWriter, r *http.Request, allowed string) {
	header := w.Header()
	header.Set("Allow", allowed)
	if header.Get("Access-Control-Allow-Origin") != "" {
		header.Set("Access-Control-Allow-Methods", allowed)
		header.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
		header.Set("Access-Control-Max-Age", "7200") // what Chromium caps it to
	}
	w.WriteHeader(http.StatusNoContent)
}
