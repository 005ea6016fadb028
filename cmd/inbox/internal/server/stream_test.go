package server

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"inbox/inbox"
)

// TestStreamIsServedAndLogged has a stream, and an acknowledgement, pass through all layers of the
// server. The stream is logged at its end, with its duration.
func TestStreamIsServedAndLogged(t *testing.T) {
	var log bytes.Buffer
	p := testProcess()
	p.Stderr = &log
	s := build(t, p, resolve(t, "-https=false", "-log-level", "debug", "-cors-origins", "https://pages.example"), nil)
	main := s.main.server.Handler
	do := func(ctx context.Context, method, target string, header ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, target, nil).WithContext(ctx)
		r.SetBasicAuth("bob", "builder")
		for _, line := range header {
			name, value, _ := strings.Cut(line, ": ")
			r.Header.Set(name, value)
		}
		w := httptest.NewRecorder()
		main.ServeHTTP(w, r)
		return w
	}
	done := make(chan *httptest.ResponseRecorder)
	go func() { done <- do(t.Context(), "GET", "/inbox?after=", "Accept: text/event-stream") }()
	for s.handler.Receivers()[inbox.EventStream].Open == 0 {
		if t.Context().Err() != nil {
			t.Fatal("the stream was not opened")
		}
	}
	if used := s.limits.Polls.Share.Used(); used != 1 {
		t.Errorf("got %d requests that can wait, want the stream", used)
	}
	w := do(t.Context(), "POST", "/inbox/ack?upTo=1", "Origin: https://pages.example")
	if w.Code != http.StatusNoContent || w.Header().Get("Access-Control-Allow-Origin") != "https://pages.example" {
		t.Errorf("got %d %v for an acknowledgement, want 204 with the fields of CORS", w.Code, w.Header())
	}
	s.handler.EndPolls()
	if w := <-done; w.Code != 200 || !strings.Contains(w.Body.String(), "data: stopping") {
		t.Errorf("got %d %q, want a stream with its end", w.Code, w.Body)
	}
	for _, want := range []string{
		`method=GET route="/inbox (SSE)" status=200 dur=`, `method=POST route=/inbox/ack status=204 dur=`,
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("got log\n%s\nwant %s", &log, want)
		}
	}
	if got := s.limits.Polls.Share.Used(); got != 0 {
		t.Errorf("%d requests still wait, want none", got)
	}
}
