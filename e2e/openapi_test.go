package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"inbox/inbox"
	"inbox/inbox/ice"
	"inbox/inbox/memstore"
	"inbox/ratelimit"
	"inbox/tlsmgr"
)

// handlerOption modifies a server's configuration for one exchange.
type handlerOption func(*inbox.Config, *inbox.Limits)

// exchange provokes one documented response: a server configuration and requests, of
// which the last gets that response. A request is written as "METHOD PATH
// [NAME:PASSWORD]", with header fields on further lines and a body after an empty line.
type exchange struct {
	want     string // operation and status
	option   handlerOption
	requests []string
}

var exchanges = []exchange{
	{"GET /inbox 200", defaults, []string{
		"GET /inbox?wait=0 alice:rabbit", "POST /inbox?to=alice Zoë:kite\n\nbytes", "GET /inbox?wait=0 alice:rabbit"}},
	{"GET /inbox 200", defaults, []string{
		"GET /inbox?wait=0 alice:rabbit", "POST /inbox?to=alice bob:builder\nContent-Type: application/json\n\n{}", "GET /inbox?after= alice:rabbit"}},
	{"GET /inbox 200", defaults, []string{
		"GET /inbox?wait=0 alice:rabbit", "POST /inbox?to=alice bob:builder\nContent-Type: application/sdp\n\nv=0", "GET /inbox?after=1 alice:rabbit"}},
	{"GET /inbox 200", defaults, []string{
		"GET /inbox?wait=0 alice:rabbit", "POST /inbox?to=alice bob:builder\nContent-Type: application/trickle-ice-sdpfrag\n\na=x", "GET /inbox alice:rabbit"}},
	{"GET /inbox 200", defaults, []string{
		"GET /inbox?wait=0 alice:rabbit", "POST /inbox?to=alice bob:builder\nContent-Type: text/plain; charset=utf-8\n\nhello", "GET /inbox alice:rabbit"}},
	{"GET /inbox 101", defaults, []string{"GET /inbox" + webSocket + "\nSec-WebSocket-Version: 13\nSec-WebSocket-Protocol: inbox.1"}},
	{"GET /inbox 204", defaults, []string{"GET /inbox?wait=0 alice:rabbit"}},
	{"GET /inbox 204", anyOrigin, []string{"GET /inbox?wait=0 alice:rabbit\nOrigin: https://pages.example"}},
	{"GET /inbox 204", listedOrigin, []string{"GET /inbox?wait=0 alice:rabbit\nOrigin: https://pages.example"}},
	{"GET /inbox 400", defaults, []string{"GET /inbox?wait=soon alice:rabbit"}},
	{"GET /inbox 401", defaults, []string{"GET /inbox"}},
	{"GET /inbox 403", defaults, []string{"GET /inbox alice:rabbit" + crossSite}},
	{"GET /inbox 409", defaults, []string{
		"GET /inbox?wait=0&client=phone alice:rabbit", "GET /inbox?wait=0&client=laptop&resume=1 alice:rabbit"}},
	{"GET /inbox 426", defaults, []string{"GET /inbox" + webSocket + "\nSec-WebSocket-Version: 12"}},
	{"GET /inbox 429", onePayer, []string{"GET /inbox?wait=0 alice:rabbit", "GET /inbox?wait=0 bob:builder"}},
	{"GET /inbox 429", attemptsRejected, []string{"GET /inbox?wait=0 alice:rabbit"}},
	{"GET /inbox 500", failingStore, []string{"GET /inbox alice:rabbit"}},
	{"GET /inbox 503", smallLimits, []string{"GET /inbox?wait=0 alice:rabbit", "GET /inbox bob:builder"}},

	{"POST /inbox/ack 204", defaults, []string{"POST /inbox/ack?upTo=1 alice:rabbit"}},
	{"POST /inbox/ack 204", listedOrigin, []string{"POST /inbox/ack?upTo=1 alice:rabbit\nOrigin: https://pages.example"}},
	{"POST /inbox/ack 400", defaults, []string{"POST /inbox/ack alice:rabbit"}},
	{"POST /inbox/ack 401", defaults, []string{"POST /inbox/ack?upTo=1"}},
	{"POST /inbox/ack 403", defaults, []string{"POST /inbox/ack?upTo=1 alice:rabbit" + crossSite}},
	{"POST /inbox/ack 429", onePayer, []string{"GET /inbox?wait=0 alice:rabbit", "POST /inbox/ack?upTo=1 bob:builder"}},
	{"POST /inbox/ack 500", failingStore, []string{"POST /inbox/ack?upTo=1 alice:rabbit"}},
	{"POST /inbox/ack 503", smallLimits, []string{"GET /inbox?wait=0 alice:rabbit", "POST /inbox/ack?upTo=1 bob:builder"}},
	{"OPTIONS /inbox/ack 204", anyOrigin, []string{"OPTIONS /inbox/ack\nOrigin: https://pages.example"}},
	{"OPTIONS /inbox/ack 403", defaults, []string{"OPTIONS /inbox/ack" + crossSite}},
	{"HEAD /inbox/ack 403", defaults, []string{"HEAD /inbox/ack alice:rabbit" + crossSite}},
	{"HEAD /inbox/ack 405", defaults, []string{"HEAD /inbox/ack alice:rabbit"}},

	{"POST /inbox 200", defaults, []string{"POST /inbox?to=alice alice:rabbit\n\na note to myself"}},
	{"POST /inbox 400", defaults, []string{"POST /inbox alice:rabbit\n\nno recipient"}},
	{"POST /inbox 401", defaults, []string{"GET /inbox?wait=0 alice:rabbit", "POST /inbox?to=alice alice:queen\n\nhello"}},
	{"POST /inbox 403", defaults, []string{"POST /inbox?to=alice alice:rabbit" + crossSite}},
	{"POST /inbox 404", defaults, []string{"POST /inbox?to=bob&wait=0 alice:rabbit\n\nhello"}},
	{"POST /inbox 408", defaults, []string{"POST /inbox?to=alice alice:rabbit\nContent-Length: 1000\n\nslow"}},
	{"POST /inbox 413", smallLimits, []string{"POST /inbox?to=alice alice:rabbit\n\ntwenty bytes and more"}},
	{"POST /inbox 415", defaults, []string{"POST /inbox?to=alice alice:rabbit\nContent-Encoding: gzip\n\nhello"}},
	{"POST /inbox 429", onePayer, []string{"GET /inbox?wait=0 alice:rabbit", "POST /inbox?to=alice bob:builder\n\nhello"}},
	{"POST /inbox 500", failingStore, []string{"POST /inbox?to=alice alice:rabbit\n\nhello"}},
	{"POST /inbox 503", smallLimits, []string{"POST /inbox?to=alice alice:rabbit\n\nfirst", "POST /inbox?to=alice alice:rabbit\n\nsecond"}},
	{"POST /inbox 503", queueFull, []string{"POST /inbox?to=alice alice:rabbit\n\nhello"}},

	{"DELETE /inbox 204", defaults, []string{"DELETE /inbox alice:rabbit"}},
	{"DELETE /inbox 400", defaults, []string{"DELETE /inbox :rabbit"}},
	{"DELETE /inbox 401", defaults, []string{"DELETE /inbox"}},
	{"DELETE /inbox 403", defaults, []string{"DELETE /inbox alice:rabbit" + crossSite}},
	{"DELETE /inbox 409", defaults, []string{
		"GET /inbox?wait=0&client=phone alice:rabbit", "DELETE /inbox?client=laptop alice:rabbit"}},
	{"DELETE /inbox 429", onePayer, []string{"GET /inbox?wait=0 alice:rabbit", "DELETE /inbox bob:builder"}},
	{"DELETE /inbox 500", failingStore, []string{"DELETE /inbox alice:rabbit"}},
	{"DELETE /inbox 503", smallLimits, []string{"GET /inbox?wait=0 alice:rabbit", "DELETE /inbox bob:builder"}},

	{"GET /ice 200", defaults, []string{"GET /ice"}},
	{"GET /ice 200", turnServer, []string{"GET /ice"}},
	{"GET /ice 200", turnServer, []string{"GET /ice alice:rabbit"}},
	{"GET /ice 200", monthUsed, []string{"GET /ice alice:rabbit"}},
	{"GET /ice 400", turnServer, []string{"GET /ice :rabbit"}},
	{"GET /ice 401", turnServer, []string{"GET /ice alice:rabbit", "GET /ice alice:queen"}},
	{"GET /ice 403", defaults, []string{"GET /ice" + crossSite}},
	{"GET /ice 429", both(turnServer, onePayer), []string{"GET /ice alice:rabbit", "GET /ice bob:builder"}},
	{"GET /ice 500", both(turnServer, failingStore), []string{"GET /ice alice:rabbit"}},
	{"GET /ice 503", both(turnServer, smallLimits), []string{"GET /ice alice:rabbit", "GET /ice bob:builder"}},

	{"OPTIONS /inbox 204", anyOrigin, []string{"OPTIONS /inbox\nOrigin: https://pages.example"}},
	{"OPTIONS /inbox 403", defaults, []string{"OPTIONS /inbox" + crossSite}},
	{"OPTIONS /ice 204", anyOrigin, []string{"OPTIONS /ice\nOrigin: https://pages.example"}},
	{"OPTIONS /ice 403", defaults, []string{"OPTIONS /ice" + crossSite}},
	{"HEAD /inbox 403", defaults, []string{"HEAD /inbox alice:rabbit" + crossSite}},
	{"HEAD /inbox 405", defaults, []string{"HEAD /inbox alice:rabbit"}},
	{"HEAD /ice 403", defaults, []string{"HEAD /ice" + crossSite}},
	{"HEAD /ice 405", defaults, []string{"HEAD /ice"}},
}

const webSocket = "\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Key: MDEyMzQ1Njc4OTAxMjM0NQ=="

const crossSite = "\nOrigin: https://pages.example\nSec-Fetch-Site: cross-site\nSec-Fetch-Mode: cors"

func defaults(*inbox.Config, *inbox.Limits) {}

func smallLimits(c *inbox.Config, m *inbox.Limits) {
	c.MaxBodyBytes, m.Capacity, m.MaxInboxes = 20, 1, 1
}

func queueFull(_ *inbox.Config, m *inbox.Limits) { m.MaxQueuedBytes = 1 }

func onePayer(c *inbox.Config, m *inbox.Limits) {
	c.Payer = func(*http.Request) inbox.Payer { return inbox.Payer{Client: "one address"} }
	m.MaxInboxesPerPayer = 1
}

func attemptsRejected(c *inbox.Config, _ *inbox.Limits) { c.Guard = rejectingGuard{} }

// rejectingGuard rejects every attempt.
type rejectingGuard struct{ inbox.Guard }

func (rejectingGuard) Allow(*http.Request, inbox.Attempt, string) error {
	return &ratelimit.Refusal{
		Limit: "passwords", Quota: 10, Window: 100 * time.Second, Wait: 10 * time.Second, Detail: "Too many attempts.",
	}
}

func failingStore(c *inbox.Config, _ *inbox.Limits) { c.Store = brokenStore{} }

func anyOrigin(c *inbox.Config, _ *inbox.Limits) { c.AnyOrigin = true }

func listedOrigin(c *inbox.Config, _ *inbox.Limits) { c.Origins = []string{"https://pages.example"} }

func turnServer(c *inbox.Config, _ *inbox.Limits) {
	c.ICEServers = []ice.Server{
		{URLs: []string{"turn:turn.example:3478"}, Username: "guest", Credential: "visitor"},
	}
}

func monthUsed(c *inbox.Config, _ *inbox.Limits) {
	c.TURN = func(*http.Request, string) ([]ice.Server, string) { return nil, "month-used" }
}

func both(a, b handlerOption) handlerOption {
	return func(c *inbox.Config, m *inbox.Limits) { a(c, m); b(c, m) }
}

// startHandler starts a handler with a default configuration modified by change.
func startHandler(t *testing.T, change handlerOption) (string, *inbox.Handler) {
	t.Helper()
	memory := inbox.Limits{Timeout: time.Minute, Capacity: 100}
	cfg := inbox.Config{Secret: []byte("sixteen bytes or"), Path: "/inbox", ICEPath: "/ice", PollTimeout: 25 * time.Second, MaxBodyBytes: 1 << 20}
	change(&cfg, &memory)
	if cfg.Store == nil {
		cfg.Store = memstore.New(memory)
	}
	h := inbox.NewHandler(cfg)
	s := httptest.NewUnstartedServer(h)
	s.Config.ReadTimeout = 200 * time.Millisecond // for the slow body
	s.Start()
	t.Cleanup(s.Close)
	return s.URL, h
}

// TestOpenAPI compares docs/openapi.yaml with the server: every response conforms to
// the document, and every documented response occurs.
func TestOpenAPI(t *testing.T) {
	doc := loadDocument(t, filepath.Join("..", "docs", "openapi.yaml"))
	for _, exch := range exchanges {
		server, _ := startHandler(t, exch.option)
		got := ""
		for _, text := range exch.requests {
			got = doc.roundTrip(t, server, text)
		}
		if got != exch.want {
			t.Errorf("%q\ngot  %s\nwant %s", exch.requests, got, exch.want)
		}
	}
	server, _ := startHandler(t, defaults)
	for _, path := range []string{"/inbox", "/inbox/ack", "/ice"} {
		if err := doc.checkOtherMethods(server, path); err != nil {
			t.Errorf("PUT %s: %v", path, err)
		}
	}
	checkPrivateServer(t, doc)
	checkSuperseded(t, doc)
	checkStopping(t, doc)
	checkProgramResponses(t, doc)
	checkMisdirectedResponses(t, doc)
	checkStreamRefusals(t, doc)
	if missing := doc.notSeen(); len(missing) > 0 {
		t.Errorf("documented, but never returned: %s", strings.Join(missing, ", "))
	}
}

// checkSuperseded lets a GET wait until a newer one supersedes it. The newer one is
// repeated, because it can arrive before the older one.
func checkSuperseded(t *testing.T, doc *document) {
	server, _ := startHandler(t, defaults)
	older := make(chan string, 1)
	go func() { older <- doc.roundTrip(t, server, "GET /inbox alice:rabbit") }()
	for range 1000 {
		doc.roundTrip(t, server, "GET /inbox?wait=0 alice:rabbit")
		select {
		case <-older:
			return
		default:
		}
	}
	t.Error("the older GET still waits after a newer one, want it superseded")
}

func checkStopping(t *testing.T, doc *document) {
	server, handler := startHandler(t, defaults)
	handler.EndPolls()
	for text, want := range map[string]string{
		"GET /inbox alice:rabbit":                           "GET /inbox 204",
		"GET /inbox bob:builder\nAccept: text/event-stream": "GET /inbox 200",
		"POST /inbox?to=carol&wait=9 alice:rabbit\n\n":      "POST /inbox 503",
	} {
		if got := doc.roundTrip(t, server, text); got != want {
			t.Errorf("during shutdown: got %s, want %s", got, want)
		}
	}
}

// checkProgramResponses checks responses of the real program that the handler does not
// produce.
func checkProgramResponses(t *testing.T, doc *document) {
	server := "http://" + startInbox(t, "-https=false", "-max-header-size", "4096", "-compat", "peerjs,topics").Addr
	withoutStore := "http://" + startInbox(t, "-https=false", "-store", "redis://127.0.0.1:1", "-compat", "peerjs,topics").Addr // no store listens
	checkCompat(t, doc, server, withoutStore)
	if got, want := doc.roundTrip(t, withoutStore, "GET /inbox alice:rabbit"), "GET /inbox 503"; got != want {
		t.Errorf("store unavailable: got %s, want %s", got, want)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if got, want := doc.roundTrip(t, server, "GET "+path), "GET "+path+" 200"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	everywhere := startInbox(t, "-https=false", "-bind", "0.0.0.0:0").Addr
	_, port, err := net.SplitHostPort(everywhere)
	if err != nil {
		t.Fatal(err)
	}
	for _, base := range []string{server, "http://127.0.0.1:" + port} {
		if got, want := doc.roundTrip(t, base, "GET /addresses\nSec-Fetch-Site: same-origin"), "GET /addresses 200"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if got, want := doc.roundTrip(t, server, "GET /addresses"), "GET /addresses 403"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	// From outside, only an unavailable component causes this status: a server that
	// shuts down accepts no requests. A test of cmd/inbox covers it.
	doc.markSeen("GET /readyz 503")
	// net/http refuses a header of too many bytes itself; one with too many fields reaches
	// the server.
	var fields strings.Builder
	for i := range 101 {
		fmt.Fprintf(&fields, "\nX-%d: x", i)
	}
	for _, operation := range doc.operations() {
		got := doc.roundTrip(t, server, operation+fields.String())
		if want := operation + " 431"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// checkCompat checks the routes of -compat.
func checkCompat(t *testing.T, doc *document, server, withoutStore string) {
	const version13, peer = webSocket + "\nSec-WebSocket-Version: 13", "/peerjs?key=k&id=i&token=t"
	options := []string{"-https=false", "-compat", "peerjs,topics"}
	oneOrigin := "http://" + startInbox(t, append(options, "-cors-origins", "https://listed.example")...).Addr
	noTokens := "http://" + startInbox(t, append(options, "-rate", "1", "-burst", "1")...).Addr
	for _, row := range []struct{ server, request, want string }{
		{server, "/topics", "200"},
		{server, "/topics" + version13, "101"},
		{server, "/topics" + webSocket + "\nSec-WebSocket-Version: 12", "426"},
		{server, "/topics\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13", "400"},
		{oneOrigin, "/topics" + version13 + crossSite, "403"},
		{withoutStore, "/topics", "503"},
		{server, peer + version13, "101"},
		{server, peer + webSocket + "\nSec-WebSocket-Version: 12", "426"},
		{server, peer + "\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13", "400"},
		{oneOrigin, peer + version13 + crossSite, "403"},
		{server, peer, "404"},
		{withoutStore, peer + version13, "503"},
		{server, "/key/id", "200"},
		{server, "/key/peers", "401"},
	} {
		if got := doc.roundTrip(t, row.server, "GET "+row.request); !strings.HasSuffix(got, " "+row.want) {
			t.Errorf("%q: got %s, want %s", row.request, got, row.want)
		}
	}
	// An opening handshake waits for a token; this is the response of one that has waited in vain.
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		(&ratelimit.Refusal{Limit: "requests", Quota: 1, Window: time.Second, Wait: time.Second, Detail: "Too many requests."}).Refuse(w)
	}))
	defer refusing.Close()
	for _, request := range []string{"/topics" + version13, peer + version13} {
		if got := doc.roundTrip(t, refusing.URL, "GET "+request); !strings.HasSuffix(got, " 429") {
			t.Errorf("%q: got %s, want 429", request, got)
		}
	}
	for _, request := range []string{"/key/id", "/key/peers"} {
		got := ""
		for deadline := time.Now().Add(20 * time.Second); !strings.HasSuffix(got, " 429") && time.Now().Before(deadline); {
			got = doc.roundTrip(t, noTokens, "GET "+request)
		}
		if !strings.HasSuffix(got, " 429") {
			t.Errorf("%q: got %s, want 429", request, got)
		}
	}
}

// checkMisdirectedResponses checks the responses to requests for another host. Health checks
// are answered for any host.
func checkMisdirectedResponses(t *testing.T, doc *document) {
	server := httptest.NewServer(tlsmgr.CheckHost([]string{"server.example"}, nil, http.NotFoundHandler()))
	defer server.Close()
	for _, operation := range doc.operations() {
		if strings.HasSuffix(operation, "z") {
			continue
		}
		if got, want := doc.roundTrip(t, server.URL, operation), operation+" 421"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// checkStreamRefusals checks the response to a request over HTTP/2 while another one uses the
// only stream.
func checkStreamRefusals(t *testing.T, doc *document) {
	streams := ratelimit.NewStreamLimiter(ratelimit.StreamLimits{Max: 1}, func(*http.Request) netip.Addr { return netip.Addr{} })
	var server *httptest.Server
	limited := streams.Handler(func(next http.Handler) http.Handler { return next })(
		http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			if got, want := doc.roundTrip(t, server.URL, "GET /inbox alice:rabbit"), "GET /inbox 503"; got != want {
				t.Errorf("no free stream: got %s, want %s", got, want)
			}
		}))
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.ProtoMajor = 2
		limited.ServeHTTP(w, r)
	}))
	defer server.Close()
	resp, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

// brokenStore fails with an internal error.
type brokenStore struct{ inbox.Store }

var errBroken = errors.New("internal failure")

func (brokenStore) Open(context.Context, string, inbox.Key, *inbox.Payer) (inbox.Claim, error) {
	return inbox.Claim{}, errBroken
}

func (brokenStore) OpenPut(context.Context, string, inbox.Key, string, inbox.Message) (inbox.Claim, uint64, error) {
	return inbox.Claim{}, 0, errBroken
}

func (brokenStore) OpenNext(context.Context, string, inbox.Key, uint64, inbox.Client) (inbox.Claim, inbox.Message, error) {
	return inbox.Claim{}, inbox.Message{}, errBroken
}
