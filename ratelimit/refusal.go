package ratelimit

import (
	"fmt"
	"html"
	"net/http"
	"strings"
)

// isNavigation reports whether a browser asks for a page to show. Browsers that
// do not say so ask for HTML before anything else.
func isNavigation(r *http.Request) bool {
	if r.Method != http.MethodGet {
		return false
	}
	if mode := r.Header.Get("Sec-Fetch-Mode"); mode != "" {
		return mode == "navigate"
	}
	return strings.HasPrefix(r.Header.Get("Accept"), "text/html")
}

// writePage answers as Refuse does, with a page that loads itself again when
// the wait is over: nothing of the site runs there that could.
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
<p>This page tries again by itself in %d seconds.</p>
`, html.EscapeString(r.Detail), seconds)
}
