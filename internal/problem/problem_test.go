package problem

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
)

func TestWrite(t *testing.T) {
	for _, want := range []*Problem{
		New(http.StatusNotFound, "no-inbox", "Not <there>", "Look elsewhere."),
		{Type: TypePrefix + "rate-limited", Title: "Slow down", Status: http.StatusTooManyRequests, Detail: "Later.", Limit: "requests"},
	} {
		w := httptest.NewRecorder()
		want.Write(w)
		for name, value := range map[string]string{
			"Content-Type": "application/problem+json", "Content-Length": strconv.Itoa(w.Body.Len()),
			"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
			"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
		} {
			if got := w.Header().Get(name); got != value {
				t.Errorf("%s: got %q, want %q", name, got, value)
			}
		}
		var got Problem
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got != *want || w.Code != want.Status {
			t.Errorf("got %d %+v, %v, want %+v", w.Code, got, err, want)
		}
		if hasLimit := strings.Contains(w.Body.String(), `"limit"`); hasLimit != (want.Limit != "") {
			t.Errorf("got %s, want a limit only if it has one", w.Body)
		}
	}
}

// A browser that navigates gets a page, which reloads after Retry-After. Other requests get
// the document.
func TestRespond(t *testing.T) {
	p := New(http.StatusMisdirectedRequest, "misdirected-request", "Wrong <host>", "Use a & b.")
	for _, row := range []struct {
		name, method, field, value, retryAfter string
		page                                   bool
	}{
		{"a navigation", "GET", "Sec-Fetch-Mode", "navigate", "", true},
		{"a navigation that can be repeated", "GET", "Sec-Fetch-Mode", "navigate", "7", true},
		{"an old browser", "GET", "Accept", "text/html,*/*;q=0.8", "", true},
		{"a fetch", "GET", "Sec-Fetch-Mode", "cors", "7", false},
		{"a program", "GET", "Accept", "*/*", "7", false},
		{"a form", "POST", "Sec-Fetch-Mode", "navigate", "", false},
	} {
		r := httptest.NewRequest(row.method, "/", nil)
		r.Header.Set(row.field, row.value)
		w := httptest.NewRecorder()
		if row.retryAfter != "" {
			w.Header().Set("Retry-After", row.retryAfter)
		}
		p.Respond(w, r)
		body, contentType := w.Body.String(), w.Header().Get("Content-Type")
		if w.Code != p.Status {
			t.Errorf("%s: got status %d, want %d", row.name, w.Code, p.Status)
		}
		if !row.page {
			if contentType != "application/problem+json" || w.Header().Get("Refresh") != "" {
				t.Errorf("%s: got %s %v, want a problem document", row.name, contentType, w.Header())
			}
			continue
		}
		if contentType != "text/html; charset=utf-8" || !strings.Contains(body, "Wrong &lt;host&gt;") || !strings.Contains(body, "Use a &amp; b.") {
			t.Errorf("%s: got %s, want a page:\n%s", row.name, contentType, body)
		}
		if got := w.Header().Get("Refresh"); got != row.retryAfter || strings.Contains(body, "reloads") != (got != "") {
			t.Errorf("%s: got Refresh %q, want %q:\n%s", row.name, got, row.retryAfter, body)
		}
		if csp := w.Header().Get("Content-Security-Policy"); csp != "default-src 'none'; frame-ancestors 'none'" || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: got %v", row.name, w.Header())
		}
	}
}
