package ratelimit

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestRefusalExplainsItself(t *testing.T) {
	l := newRequestLimiter()
	l.Limiter = NewLimiter(Budget{PerSecond: 0.1, Burst: 1}, 0)
	h := l.Handler(http.HandlerFunc(serveOK))
	get(h, "/", "192.0.2.1")
	w := get(h, "/", "192.0.2.1")
	for name, want := range map[string]string{
		"Retry-After": "10", "RateLimit": `"requests";r=0;t=10`, "RateLimit-Policy": `"requests";q=1;w=10`,
		"Content-Type": "application/problem+json", "Cache-Control": "no-store", "Connection": "close",
		"X-Content-Type-Options": "nosniff", "Content-Length": strconv.Itoa(w.Body.Len()),
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	var p struct {
		Type, Title, Detail, Limit string
		Status                     int
	}
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatal(err)
	}
	if p.Type != "urn:inbox:problem:rate-limited" || p.Limit != "requests" || p.Status != 429 || p.Title == "" || !strings.Contains(p.Detail, "1 requests") {
		t.Errorf("got %+v", p)
	}
}

// A client that retried at once would be refused again.
func TestRetryAfterIsNeverZero(t *testing.T) {
	for wait, want := range map[time.Duration]string{0: "1", time.Millisecond: "1", time.Second: "1", 1001 * time.Millisecond: "2"} {
		w := httptest.NewRecorder()
		(&Refusal{Limit: "any", Quota: 3, Wait: wait}).Refuse(w)
		if got := w.Header().Get("Retry-After"); got != want || w.Header().Get("RateLimit") != `"any";r=0;t=`+want {
			t.Errorf("after %v: got Retry-After %q and RateLimit %q, want %s", wait, got, w.Header().Get("RateLimit"), want)
		}
	}
}

// A browser that navigates gets a page, which reloads after the wait. Other requests get a
// problem document.
func TestRefusedPageReloads(t *testing.T) {
	for name, row := range map[string]struct {
		method, field, value string
		page                 bool
	}{
		"a navigation":   {"GET", "Sec-Fetch-Mode", "navigate", true},
		"an old browser": {"GET", "Accept", "text/html,application/xhtml+xml,*/*;q=0.8", true},
		"a fetch":        {"GET", "Sec-Fetch-Mode", "cors", false},
		"a program":      {"GET", "Accept", "*/*", false},
		"a form":         {"POST", "Sec-Fetch-Mode", "navigate", false},
	} {
		l := newRequestLimiter()
		l.Limiter = NewLimiter(Budget{PerSecond: 0.1, Burst: 1}, 0)
		h := l.Handler(http.HandlerFunc(serveOK))
		get(h, "/", "192.0.2.1")
		r := httptest.NewRequest(row.method, "/", nil)
		r.Header.Set(row.field, row.value)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		refresh, kind := w.Header().Get("Refresh"), w.Header().Get("Content-Type")
		if w.Code != 429 || w.Header().Get("Retry-After") != "10" {
			t.Errorf("%s: got %d, Retry-After %q, want 429 and 10", name, w.Code, w.Header().Get("Retry-After"))
		}
		if isPage := kind == "text/html; charset=utf-8" && refresh == "10" && strings.Contains(w.Body.String(), "1 requests at once"); isPage != row.page {
			t.Errorf("%s: got %s with Refresh %q:\n%s", name, kind, refresh, w.Body)
		}
		if csp := w.Header().Get("Content-Security-Policy"); row.page && csp != "default-src 'none'; frame-ancestors 'none'" {
			t.Errorf("%s: got Content-Security-Policy %q", name, csp)
		}
	}
}
