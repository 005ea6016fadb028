package e2e

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"inbox/inbox"
	"inbox/ratelimit"
)

// set changes a server's configuration for one exchange.
type set func(*inbox.Config, *inbox.Limits)

// exchange causes one documented answer: a server configuration and requests, the
// last of which gets the answer. A request is "METHOD PATH [NAME:PASSWORD]", with
// header fields on further lines and a body after an empty line.
type exchange struct {
	want string // an operation and a status
	set  set
	asks []string
}

var exchanges = []exchange{
	{"GET /inbox 200", with, []string{
		"GET /inbox?wait=0 alice:rabbit", "POST /inbox?to=alice Zoë:kite\n\nbytes", "GET /inbox?wait=0 alice:rabbit"}},
	{"GET /inbox 200", with, []string{
		"GET /inbox?wait=0 alice:rabbit", "POST /inbox?to=alice bob:builder\nContent-Type: application/json\n\n{}", "GET /inbox?after= alice:rabbit"}},
	{"GET /inbox 200", with, []string{
		"GET /inbox?wait=0 alice:rabbit", "POST /inbox?to=alice bob:builder\nContent-Type: application/sdp\n\nv=0", "GET /inbox?after=1 alice:rabbit"}},
	{"GET /inbox 200", with, []string{
		"GET /inbox?wait=0 alice:rabbit", "POST /inbox?to=alice bob:builder\nContent-Type: application/trickle-ice-sdpfrag\n\na=x", "GET /inbox alice:rabbit"}},
	{"GET /inbox 200", with, []string{
		"GET /inbox?wait=0 alice:rabbit", "POST /inbox?to=alice bob:builder\nContent-Type: text/plain; charset=utf-8\n\nhello", "GET /inbox alice:rabbit"}},
	{"GET /inbox 204", with, []string{"GET /inbox?wait=0 alice:rabbit"}},
	{"GET /inbox 204", anyOrigin, []string{"GET /inbox?wait=0 alice:rabbit\nOrigin: https://pages.example"}},
	{"GET /inbox 204", listed, []string{"GET /inbox?wait=0 alice:rabbit\nOrigin: https://pages.example"}},
	{"GET /inbox 400", with, []string{"GET /inbox?wait=soon alice:rabbit"}},
	{"GET /inbox 401", with, []string{"GET /inbox"}},
	{"GET /inbox 403", with, []string{"GET /inbox alice:rabbit" + foreign}},
	{"GET /inbox 429", onePayer, []string{"GET /inbox?wait=0 alice:rabbit", "GET /inbox?wait=0 bob:builder"}},
	{"GET /inbox 429", guarded, []string{"GET /inbox?wait=0 alice:rabbit"}},
	{"GET /inbox 500", broken, []string{"GET /inbox alice:rabbit"}},
	{"GET /inbox 503", small, []string{"GET /inbox?wait=0 alice:rabbit", "GET /inbox bob:builder"}},

	{"POST /inbox 200", with, []string{"POST /inbox?to=alice alice:rabbit\n\na note to myself"}},
	{"POST /inbox 400", with, []string{"POST /inbox alice:rabbit\n\nto whom?"}},
	{"POST /inbox 401", with, []string{"GET /inbox?wait=0 alice:rabbit", "POST /inbox?to=alice alice:queen\n\nhello"}},
	{"POST /inbox 403", with, []string{"POST /inbox?to=alice alice:rabbit" + foreign}},
	{"POST /inbox 404", with, []string{"POST /inbox?to=bob&wait=0 alice:rabbit\n\nhello"}},
	{"POST /inbox 408", with, []string{"POST /inbox?to=alice alice:rabbit\nContent-Length: 1000\n\nslow"}},
	{"POST /inbox 413", small, []string{"POST /inbox?to=alice alice:rabbit\n\ntwenty bytes and more"}},
	{"POST /inbox 429", onePayer, []string{"GET /inbox?wait=0 alice:rabbit", "POST /inbox?to=alice bob:builder\n\nhello"}},
	{"POST /inbox 500", broken, []string{"POST /inbox?to=alice alice:rabbit\n\nhello"}},
	{"POST /inbox 503", small, []string{"POST /inbox?to=alice alice:rabbit\n\nfirst", "POST /inbox?to=alice alice:rabbit\n\nsecond"}},
	{"POST /inbox 503", full, []string{"POST /inbox?to=alice alice:rabbit\n\nhello"}},

	{"DELETE /inbox 204", with, []string{"DELETE /inbox alice:rabbit"}},
	{"DELETE /inbox 400", with, []string{"DELETE /inbox :rabbit"}},
	{"DELETE /inbox 401", with, []string{"DELETE /inbox"}},
	{"DELETE /inbox 403", with, []string{"DELETE /inbox alice:rabbit" + foreign}},
	{"DELETE /inbox 429", onePayer, []string{"GET /inbox?wait=0 alice:rabbit", "DELETE /inbox bob:builder"}},
	{"DELETE /inbox 500", broken, []string{"DELETE /inbox alice:rabbit"}},
	{"DELETE /inbox 503", small, []string{"GET /inbox?wait=0 alice:rabbit", "DELETE /inbox bob:builder"}},

	{"GET /ice 200", with, []string{"GET /ice"}},
	{"GET /ice 200", turn, []string{"GET /ice alice:rabbit"}},
	{"GET /ice 400", turn, []string{"GET /ice :rabbit"}},
	{"GET /ice 401", turn, []string{"GET /ice"}},
	{"GET /ice 403", with, []string{"GET /ice" + foreign}},
	{"GET /ice 429", both(turn, onePayer), []string{"GET /ice alice:rabbit", "GET /ice bob:builder"}},
	{"GET /ice 500", both(turn, broken), []string{"GET /ice alice:rabbit"}},
	{"GET /ice 503", both(turn, small), []string{"GET /ice alice:rabbit", "GET /ice bob:builder"}},

	{"OPTIONS /inbox 204", anyOrigin, []string{"OPTIONS /inbox\nOrigin: https://pages.example"}},
	{"OPTIONS /inbox 403", with, []string{"OPTIONS /inbox" + foreign}},
	{"OPTIONS /ice 204", anyOrigin, []string{"OPTIONS /ice\nOrigin: https://pages.example"}},
	{"OPTIONS /ice 403", with, []string{"OPTIONS /ice" + foreign}},
	{"HEAD /inbox 403", with, []string{"HEAD /inbox alice:rabbit" + foreign}},
	{"HEAD /inbox 405", with, []string{"HEAD /inbox alice:rabbit"}},
	{"HEAD /ice 403", with, []string{"HEAD /ice" + foreign}},
	{"HEAD /ice 405", with, []string{"HEAD /ice"}},
}

const foreign = "\nOrigin: https://pages.example\nSec-Fetch-Site: cross-site\nSec-Fetch-Mode: cors"

func with(*inbox.Config, *inbox.Limits) {}

func small(c *inbox.Config, m *inbox.Limits) {
	c.MaxBodyBytes, m.Capacity, m.MaxInboxes = 20, 1, 1
}

func full(_ *inbox.Config, m *inbox.Limits) { m.MaxQueuedBytes = 1 }

func onePayer(c *inbox.Config, m *inbox.Limits) {
	c.Payer = func(*http.Request) inbox.Payer { return inbox.Payer{Client: "one address"} }
	m.MaxInboxesPerPayer = 1
}

func guarded(c *inbox.Config, _ *inbox.Limits) { c.Guard = guard{} }

// guard refuses every attempt.
type guard struct{ inbox.Guard }

func (guard) May(*http.Request, inbox.Attempt, string) error {
	return &ratelimit.Refusal{Limit: "passwords", Quota: 10, Window: 100 * time.Second, Wait: 10 * time.Second, Detail: "Enough."}
}

func broken(c *inbox.Config, _ *inbox.Limits) { c.Store = brokenStore{} }

func anyOrigin(c *inbox.Config, _ *inbox.Limits) { c.AnyOrigin = true }

func listed(c *inbox.Config, _ *inbox.Limits) { c.Origins = []string{"https://pages.example"} }

func turn(c *inbox.Config, _ *inbox.Limits) {
	c.ICEServers = []inbox.ICEServer{
		{URLs: []string{"turn:turn.example:3478"}, Username: "guest", Credential: "visitor"},
	}
}

func both(a, b set) set {
	return func(c *inbox.Config, m *inbox.Limits) { a(c, m); b(c, m) }
}

// serve starts a handler with the defaults, modified by change.
func serve(t *testing.T, change set) (string, *inbox.Handler) {
	t.Helper()
	memory := inbox.Limits{Timeout: time.Minute, Capacity: 100}
	cfg := inbox.Config{Secret: []byte("sixteen bytes or"), PollTimeout: 25 * time.Second, MaxBodyBytes: 1 << 20}
	change(&cfg, &memory)
	if cfg.Store == nil {
		cfg.Store = inbox.NewMemory(memory)
	}
	h := inbox.NewHandler(cfg)
	s := httptest.NewUnstartedServer(h)
	s.Config.ReadTimeout = 200 * time.Millisecond // for the slow body
	s.Start()
	t.Cleanup(s.Close)
	return s.URL, h
}

// TestOpenAPI compares docs/openapi.yaml with the server: every answer conforms to
// the document, and every documented answer occurs.
func TestOpenAPI(t *testing.T) {
	doc := loadDocument(t, filepath.Join("..", "docs", "openapi.yaml"))
	for _, x := range exchanges {
		server, _ := serve(t, x.set)
		got := ""
		for _, text := range x.asks {
			got = doc.ask(t, server, text)
		}
		if got != x.want {
			t.Errorf("%q\ngot  %s\nwant %s", x.asks, got, x.want)
		}
	}
	server, _ := serve(t, with)
	for _, path := range []string{"/inbox", "/ice"} {
		if err := doc.checkOtherMethods(server, path); err != nil {
			t.Errorf("PUT %s: %v", path, err)
		}
	}
	provokeSuperseded(t, doc)
	provokeStopping(t, doc)
	provokeProgram(t, doc)
	if missing := doc.notReached(); len(missing) > 0 {
		t.Errorf("documented, but not caused by any exchange: %s", strings.Join(missing, ", "))
	}
}

// provokeSuperseded holds a GET until a newer one supersedes it. The newer one is
// repeated, because it can arrive before the older.
func provokeSuperseded(t *testing.T, doc *document) {
	server, _ := serve(t, with)
	older := make(chan string, 1)
	go func() { older <- doc.ask(t, server, "GET /inbox alice:rabbit") }()
	for range 1000 {
		doc.ask(t, server, "GET /inbox?wait=0 alice:rabbit")
		select {
		case <-older:
			return
		default:
		}
	}
	t.Error("the older GET is still held after 1000 newer ones")
}

func provokeStopping(t *testing.T, doc *document) {
	server, handler := serve(t, with)
	handler.EndPolls()
	for text, want := range map[string]string{
		"GET /inbox alice:rabbit":                       "GET /inbox 204",
		"POST /inbox?to=nobody&wait=9 alice:rabbit\n\n": "POST /inbox 503",
	} {
		if got := doc.ask(t, server, text); got != want {
			t.Errorf("stopping: got %s, want %s", got, want)
		}
	}
}

// provokeProgram causes the answers that the program gives before the handler sees
// the request.
func provokeProgram(t *testing.T, doc *document) {
	server := "http://" + startInbox(t, "-https=false", "-max-header-size", "4096").Addr
	alone := "http://" + startInbox(t, "-https=false", "-store", "redis://127.0.0.1:1").Addr // nothing listens there
	if got, want := doc.ask(t, alone, "GET /inbox alice:rabbit"), "GET /inbox 503"; got != want {
		t.Errorf("without its store: got %s, want %s", got, want)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if got, want := doc.ask(t, server, "GET "+path), "GET "+path+" 200"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	// From outside, only an unavailable component causes this answer, because a
	// stopping server accepts no new connection. A test of the program covers it.
	doc.see("GET /readyz 503")
	for _, operation := range doc.operations() {
		got := doc.ask(t, server, operation+"\nX-Large: "+strings.Repeat("x", 5000))
		if want := operation + " 431"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// brokenStore fails with an error that has no answer of its own.
type brokenStore struct{ inbox.Store }

var errBroken = errors.New("the disk is on fire")

func (brokenStore) Open(context.Context, string, inbox.Key, *inbox.Payer) (inbox.Claim, error) {
	return inbox.Claim{}, errBroken
}
