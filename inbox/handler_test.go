package inbox_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"inbox/inbox"
	"inbox/inbox/memstore"
)

// rig is a handler under test, called without a network.
type rig struct {
	*inbox.Handler
	t     *testing.T
	store *memstore.Store
	gone  bool // Alive reports false for every connection
}

func newRig(t *testing.T, change func(*inbox.Config, *inbox.Limits)) *rig {
	s := &rig{t: t}
	limits := inbox.Limits{Timeout: time.Minute, Capacity: 100}
	cfg := inbox.Config{
		Secret: []byte("a secret of the test"), Path: "/inbox", ICEPath: "/ice", PollTimeout: 25 * time.Second, MaxBodyBytes: 1 << 20,
		Alive: func(*http.Request) bool { return !s.gone },
	}
	if change != nil {
		change(&cfg, &limits)
	}
	s.store = memstore.New(limits)
	if cfg.Store == nil {
		cfg.Store = s.store
	}
	s.Handler = inbox.NewHandler(cfg)
	return s
}

// request returns a request of user, with a password derived from the name. Each
// header is "Name: value".
func request(user, method, target, body string, header ...string) *http.Request {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if user != "" {
		r.SetBasicAuth(user, "password of "+user)
	}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	return r
}

func (s *rig) do(user, method, target, body string, header ...string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, request(user, method, target, body, header...))
	return w
}

func (s *rig) want(w *httptest.ResponseRecorder, status int, body string) {
	s.t.Helper()
	if w.Code != status || body != "*" && w.Body.String() != body {
		s.t.Fatalf("got %d %q, want %d %q", w.Code, w.Body, status, body)
	}
}

// wantProblem checks a problem document and returns its detail.
func (s *rig) wantProblem(w *httptest.ResponseRecorder, status int, kind string) string {
	s.t.Helper()
	var p struct {
		Type, Title, Detail string
		Status              int
	}
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		s.t.Fatalf("got %d %q, want a problem document: %v", w.Code, w.Body, err)
	}
	if w.Code != status || p.Status != status || p.Type != "urn:inbox:problem:"+kind {
		s.t.Fatalf("got %d %+v, want %d %s", w.Code, p, status, kind)
	}
	if w.Header().Get("Content-Type") != "application/problem+json" || p.Title == "" || p.Detail == "" {
		s.t.Errorf("%s: got type %q and %+v, want a title and a detail", kind, w.Header().Get("Content-Type"), p)
	}
	return p.Detail
}

func TestNewHandlerRequiresASecret(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("got a handler with a secret of 15 bytes, want a panic")
		}
	}()
	inbox.NewHandler(inbox.Config{Store: memstore.New(inbox.Limits{Timeout: time.Minute}), Secret: make([]byte, 15), Path: "/inbox"})
}

func TestMessageIsDelivered(t *testing.T) {
	s := newRig(t, nil)
	s.want(s.do("bob", "GET", "/inbox?wait=0", ""), 204, "")
	w := s.do("älice %", "POST", "/inbox?to=bob", "an offer", "Content-Type: application/sdp")
	s.want(w, 200, "")
	if len(w.Header()) > 0 {
		t.Errorf("got an answer to POST with %v, want no fields", w.Header())
	}
	w = s.do("bob", "GET", "/inbox", "")
	s.want(w, 200, "an offer")
	for name, want := range map[string]string{
		"X-From": "%C3%A4lice%20%25", "Content-Type": "application/sdp", "Content-Length": "8",
		"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
		"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	s.want(s.do("bob", "GET", "/inbox?wait=0", ""), 204, "")
}

// TestNoContentFieldsWithoutContent checks that a response without a body has only fields that
// matter without one: a cache could store the 204 of a GET.
func TestNoContentFieldsWithoutContent(t *testing.T) {
	s := newRig(t, nil)
	for _, row := range []struct {
		method, target string
		want           http.Header
	}{
		{"GET", "/inbox?wait=0", http.Header{"Cache-Control": {"no-store"}}},
		{"POST", "/inbox/ack?upTo=1", http.Header{}},
		{"OPTIONS", "/inbox", http.Header{"Allow": {"GET, POST, DELETE, OPTIONS"}}},
		{"DELETE", "/inbox", http.Header{}},
	} {
		w := s.do("bob", row.method, row.target, "")
		s.want(w, 204, "")
		if !maps.EqualFunc(w.Header(), row.want, slices.Equal) {
			t.Errorf("%s %s: got %v, want %v", row.method, row.target, w.Header(), row.want)
		}
	}
}

func TestSafeContentTypes(t *testing.T) {
	for sent, want := range map[string]string{
		"":                                               "application/octet-stream",
		"text/html":                                      "application/octet-stream",
		"application/x-www-form-urlencoded":              "application/octet-stream",
		"text/plain;charset=UTF-8":                       "text/plain;charset=UTF-8",
		"Text/Plain; charset=ascii; x=y":                 "text/plain; charset=ascii",
		"text/plain; x=y":                                "text/plain",
		"application/json; charset=utf-8":                "application/json",
		"application/trickle-ice-sdpfrag":                "application/trickle-ice-sdpfrag",
		"text/plain; charset=\"\r\n\"":                   "application/octet-stream",
		"text/plain; charset=" + strings.Repeat("x", 46): "text/plain",
		"image/svg+xml":                                  "application/octet-stream",
		"application/sdp" + strings.Repeat(" ", 300):     "application/octet-stream",
	} {
		s := newRig(t, nil)
		s.do("bob", "GET", "/inbox?wait=0", "")
		s.want(s.do("alice", "POST", "/inbox?to=bob", "hello", "Content-Type: "+sent), 200, "")
		if got := s.do("bob", "GET", "/inbox", "").Header().Get("Content-Type"); got != want {
			t.Errorf("sent %q: got %q, want %q", sent, got, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	long := strings.Repeat("x", 257)
	rows := []struct {
		name, user, method, target string
		status                     int
		kind                       string
	}{
		{"no credentials precede no inbox", "", "POST", "/inbox?to=nobody", 401, "unauthorized"},
		{"get without credentials", "", "GET", "/inbox", 401, "unauthorized"},
		{"no inbox", "alice", "POST", "/inbox?to=nobody", 404, "no-inbox"},
		{"to is missing", "alice", "POST", "/inbox", 400, "bad-request"},
		{"to is empty", "alice", "POST", "/inbox?to=", 400, "bad-request"},
		{"to is given twice", "alice", "POST", "/inbox?to=bob&to=bob", 400, "bad-request"},
		{"to has a colon", "alice", "POST", "/inbox?to=a%3Ab", 400, "bad-request"},
		{"to is not UTF-8", "alice", "POST", "/inbox?to=%ff", 400, "bad-request"},
		{"to changes the direction of text", "alice", "POST", "/inbox?to=a%E2%80%AEb", 400, "bad-request"},
		{"to is long", "alice", "POST", "/inbox?to=" + long, 400, "bad-request"},
		{"to has an invalid percent-encoding", "alice", "POST", "/inbox?to=%zz", 400, "bad-request"},
		{"the name has a control character", "a\x07", "GET", "/inbox", 400, "bad-request"},
		{"the name has a C1 control character", "a\u0085", "GET", "/inbox", 400, "bad-request"},
		{"the name is long", long, "GET", "/inbox", 400, "bad-request"},
		{"wait is not a number", "alice", "GET", "/inbox?wait=soon", 400, "bad-request"},
		{"wait is negative", "alice", "GET", "/inbox?wait=-1", 400, "bad-request"},
		{"wait is empty", "alice", "GET", "/inbox?wait=", 400, "bad-request"},
		{"wait is a fraction", "alice", "POST", "/inbox?to=bob&wait=1.5", 400, "bad-request"},
		{"wait is given twice", "alice", "GET", "/inbox?wait=1&wait=2", 400, "bad-request"},
		{"after is not a number", "alice", "GET", "/inbox?after=last", 400, "bad-request"},
		{"after is given twice", "alice", "GET", "/inbox?after=1&after=", 400, "bad-request"},
		{"HEAD takes no message", "alice", "HEAD", "/inbox", 405, "method-not-allowed"},
		{"PUT", "alice", "PUT", "/inbox", 405, "method-not-allowed"},
		{"POST /ice", "alice", "POST", "/ice", 405, "method-not-allowed"},
		{"another path", "alice", "GET", "/inbox/", 404, "not-found"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			s := newRig(t, nil)
			w := s.do(row.user, row.method, row.target, "hello")
			s.wantProblem(w, row.status, row.kind)
			switch row.status {
			case 401:
				if got := w.Header().Get("WWW-Authenticate"); got != `Basic realm="inbox", charset="UTF-8"` {
					t.Errorf("got challenge %q", got)
				}
			case 405:
				want := map[string]string{"/inbox": "GET, POST, DELETE, OPTIONS", "/ice": "GET, OPTIONS"}[row.target]
				if got := w.Header().Get("Allow"); got != want {
					t.Errorf("got Allow %q, want %q", got, want)
				}
			}
		})
	}
}

func TestWrongPassword(t *testing.T) {
	s := newRig(t, nil)
	s.want(s.do("bob", "GET", "/inbox?wait=0", ""), 204, "")
	r := httptest.NewRequest("GET", "/inbox", nil)
	r.SetBasicAuth("bob", "a guess")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	s.wantProblem(w, 401, "unauthorized")
}

func TestBodyLimit(t *testing.T) {
	const limit = 50 << 10
	s := newRig(t, func(c *inbox.Config, _ *inbox.Limits) { c.MaxBodyBytes = limit })
	s.do("bob", "GET", "/inbox?wait=0", "")
	for _, size := range []int{0, 1, 16 << 10, 16<<10 + 1, 33 << 10, limit, limit + 1, 3 * limit} {
		for _, chunked := range []bool{false, true} {
			body := strings.Repeat("x", size)
			r := request("alice", "POST", "/inbox?to=bob", body)
			if chunked {
				r.ContentLength = -1
			}
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			if size > limit {
				if detail := s.wantProblem(w, 413, "body-too-large"); !strings.Contains(detail, "51200") {
					t.Errorf("got %q, want the limit in it", detail)
				}
				continue
			}
			s.want(w, 200, "")
			s.want(s.do("bob", "GET", "/inbox", ""), 200, body)
		}
	}
}

// errorReader is a body whose read fails.
type errorReader struct{ err error }

func (e errorReader) Read([]byte) (int, error) { return 0, e.err }

func TestIncompleteBodyStoresNothing(t *testing.T) {
	s := newRig(t, nil)
	s.do("bob", "GET", "/inbox?wait=0", "")
	slow := request("alice", "POST", "/inbox?to=bob", "")
	slow.Body, slow.ContentLength = io.NopCloser(errorReader{fmt.Errorf("read: %w", os.ErrDeadlineExceeded)}), -1
	w := httptest.NewRecorder()
	s.ServeHTTP(w, slow)
	s.wantProblem(w, 408, "body-too-slow")
	if w.Header().Get("Connection") != "close" {
		t.Error("the connection stays open for the rest of a slow body, want it closed")
	}
	broken := request("alice", "POST", "/inbox?to=bob", "")
	broken.Body, broken.ContentLength = io.NopCloser(io.MultiReader(strings.NewReader("hel"), errorReader{io.ErrUnexpectedEOF})), 5
	s.wantAborted(broken)
	s.want(s.do("bob", "GET", "/inbox?wait=0", ""), 204, "")
}

// wantAborted checks that the request gets no response.
func (s *rig) wantAborted(r *http.Request) {
	s.t.Helper()
	defer func() {
		if got := recover(); got != http.ErrAbortHandler {
			s.t.Fatalf("got %v, want http.ErrAbortHandler", got)
		}
	}()
	s.ServeHTTP(httptest.NewRecorder(), r)
}

func TestPendingSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRig(t, nil)
		began := time.Now()
		s.wantProblem(s.do("alice", "POST", "/inbox?to=bob&wait=5", "hello"), 404, "no-inbox")
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("got 404 after %v, want 5s", took)
		}
		pending := s.start(request("alice", "POST", "/inbox?to=bob&wait=5", "hello"))
		s.want(s.do("bob", "GET", "/inbox", ""), 200, "hello")
		s.want(<-pending, 200, "")
	})
}

func TestSenderKeepsItsName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRig(t, nil)
		for range 5 {
			time.Sleep(40 * time.Second)
			s.do("bob", "GET", "/inbox?wait=0", "")
			s.want(s.do("alice", "POST", "/inbox?to=bob", "hello"), 200, "")
			r := httptest.NewRequest("GET", "/inbox", nil)
			r.SetBasicAuth("alice", "another password")
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			s.wantProblem(w, 401, "unauthorized")
		}
	})
}

func TestDeleteEndsTheClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRig(t, nil)
		poll := s.start(request("bob", "GET", "/inbox", ""))
		s.want(s.do("bob", "DELETE", "/inbox", ""), 204, "")
		w := <-poll
		s.want(w, 204, "")
		if got := w.Header().Get("X-Poll-Ended"); got != "" {
			t.Errorf("got X-Poll-Ended %q, want none", got)
		}
		s.wantProblem(s.do("alice", "POST", "/inbox?to=bob", "hello"), 404, "no-inbox")
	})
}

func TestEndPolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRig(t, nil)
		poll := s.start(request("bob", "GET", "/inbox", ""))
		pending := s.start(request("alice", "POST", "/inbox?to=carol&wait=9", "hello"))
		began := time.Now()
		s.EndPolls()
		for _, w := range []*httptest.ResponseRecorder{<-poll, s.do("dave", "GET", "/inbox", "")} {
			s.want(w, 204, "")
			if w.Header().Get("Retry-After") == "" || w.Header().Get("Connection") != "close" {
				t.Errorf("got %v, want Retry-After and Connection: close", w.Header())
			}
		}
		s.wantProblem(<-pending, 503, "stopping")
		s.wantProblem(s.do("alice", "POST", "/inbox?to=carol&wait=9", "hello"), 503, "stopping")
		s.want(s.do("alice", "POST", "/inbox?to=bob", "hello"), 200, "")
		if took := time.Since(began); took != 0 {
			t.Errorf("took %v, want no wait", took)
		}
	})
}
