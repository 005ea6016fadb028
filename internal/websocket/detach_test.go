package websocket

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func TestDetach(t *testing.T) {
	type key struct{}
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/secret?token=secret", nil)
	r.Header["X-Forwarded-For"] = []string{strings.Repeat("a", 600), "192.0.2.1"}
	r.Header.Set("Cookie", "secret")
	u := &url.URL{Path: "/"}
	d := Detach(r, []string{"X-Forwarded-For", "X-Real-Ip"}, u)
	cancel()
	if d.Context().Err() != nil || d.Context().Value(key{}) != "value" {
		t.Error("the context ended with the request, or has no values")
	}
	if d.URL != u || d.RemoteAddr != r.RemoteAddr || d.Host != r.Host || d.Method != http.MethodGet {
		t.Errorf("got %+v", d)
	}
	got := d.Header.Get("X-Forwarded-For")
	if len(d.Header) != 1 || len(got) != maxFieldBytes || !strings.HasSuffix(got, "a,192.0.2.1") {
		t.Errorf("got fields %v", d.Header)
	}
}
