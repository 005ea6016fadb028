//go:build linux

package redisstore

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"inbox/inbox"
)

// node is one process of a server, called without a network.
type node struct {
	*inbox.Handler
	store *Store
}

func newNode(t *testing.T, url string) node {
	s := newStore(t, url, Config{})
	return node{inbox.NewHandler(inbox.Config{
		Store: s, Secret: []byte("shared secret of the nodes"), Path: "/inbox", PollTimeout: 20 * time.Second, MaxBodyBytes: 1 << 20,
	}), s}
}

// newGuardedNode returns a node that limits wrong passwords.
func newGuardedNode(t *testing.T, url string) node {
	s := newStore(t, url, Config{})
	return node{inbox.NewHandler(inbox.Config{
		Store: s, Secret: []byte("shared secret of the nodes"), Path: "/inbox", PollTimeout: 20 * time.Second, MaxBodyBytes: 1 << 20,
		Guard: &guessGuard{},
	}), s}
}

// guessGuard allows ten wrong passwords, and as many comparisons at once, per network of
// the tests.
type guessGuard struct {
	mu   sync.Mutex
	used map[string]int
}

type tooManyGuesses struct{}

func (tooManyGuesses) Error() string                { return "too many guesses" }
func (tooManyGuesses) Refuse(w http.ResponseWriter) { w.WriteHeader(http.StatusTooManyRequests) }

func (*guessGuard) Allow(*http.Request, inbox.Attempt, string) error { return nil }

func (g *guessGuard) Reserve(r *http.Request, a inbox.Attempt, _ string) (bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.used[network(r)] >= 10 {
		return false, tooManyGuesses{}
	}
	g.addLocked(r, 1)
	return true, nil
}

func (g *guessGuard) Release(r *http.Request, _ inbox.Attempt, _ string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.addLocked(r, -1)
}

func (g *guessGuard) Record(r *http.Request, a inbox.Attempt, _ string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if a == inbox.PasswordGuess {
		g.addLocked(r, 1)
	}
}

func (g *guessGuard) addLocked(r *http.Request, n int) {
	if g.used == nil {
		g.used = map[string]int{}
	}
	g.used[network(r)] += n
}

func network(r *http.Request) string { return r.RemoteAddr[:strings.LastIndex(r.RemoteAddr, ".")] }

// Wrong passwords that are on their way to the store together reserve their cost before:
// no more than the budget are compared.
func TestGuessesAtOnceAreLimited(t *testing.T) {
	t.Parallel()
	onBothTopologies(t, func(t *testing.T, url string) {
		n := newGuardedNode(t, url)
		want(t, n.do("alice", "GET", "/inbox?wait=0", ""), 204, "")
		send := func(addr, password string) int {
			r := httptest.NewRequest("GET", "/inbox?wait=0", nil)
			r.RemoteAddr = addr
			r.SetBasicAuth("alice", password)
			w := httptest.NewRecorder()
			n.ServeHTTP(w, r)
			return w.Code
		}
		var wg sync.WaitGroup
		var compared, refused atomic.Int64
		for i := range 200 {
			wg.Go(func() {
				switch code := send(fmt.Sprintf("192.0.2.%d:1", 1+i%50), "guess"); code {
				case 401:
					compared.Add(1)
				case 429:
					refused.Add(1)
				default:
					t.Errorf("got %d, want 401 or 429", code)
				}
			})
		}
		wg.Wait()
		if compared.Load() != 10 || refused.Load() != 190 {
			t.Errorf("got %d passwords compared and %d refused, want 10 and 190", compared.Load(), refused.Load())
		}
		if code := send("198.51.100.7:1", "password of alice"); code != 204 {
			t.Errorf("owner in another network: got %d, want 204", code)
		}
	})
}

func (n node) do(user, method, target, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.SetBasicAuth(user, "password of "+user)
	w := httptest.NewRecorder()
	n.ServeHTTP(w, r)
	return w
}

func want(t testing.TB, w *httptest.ResponseRecorder, status int, body string) {
	t.Helper()
	if w.Code != status || body != "*" && w.Body.String() != body {
		t.Fatalf("got %d %q, want %d %q", w.Code, w.Body, status, body)
	}
}

// A call between peers at different nodes, at the HTTP level.
func TestPeersAtTwoNodes(t *testing.T) {
	t.Parallel()
	onBothTopologies(t, func(t *testing.T, url string) {
		a, b := newNode(t, url), newNode(t, url)
		want(t, a.do("bob", "GET", "/inbox?wait=0", ""), 204, "")
		want(t, b.do("alice", "POST", "/inbox?to=bob", "offer"), 200, "")
		w := a.do("bob", "GET", "/inbox?after=", "")
		want(t, w, 200, "offer")
		if from := w.Header().Get("X-From"); from != "alice" {
			t.Errorf("got X-From %q, want alice", from)
		}
		id := w.Header().Get("X-Message-Id")
		want(t, b.do("bob", "GET", "/inbox?after=", ""), 200, "offer") // not yet acknowledged
		want(t, b.do("bob", "GET", "/inbox?wait=0&after="+id, ""), 204, "")
		want(t, a.do("bob", "DELETE", "/inbox", ""), 204, "")
		want(t, b.do("alice", "POST", "/inbox?to=bob", "offer"), 404, "*")
	})
}

func TestPollEndedHeaderAcrossNodes(t *testing.T) {
	t.Parallel()
	url := "redis://" + startServer(t).addr()
	a, b := newNode(t, url), newNode(t, url)
	older, newer := make(chan *httptest.ResponseRecorder, 1), make(chan *httptest.ResponseRecorder, 1)
	go func() { older <- a.do("bob", "GET", "/inbox", "") }()
	time.Sleep(500 * time.Millisecond)
	go func() { newer <- b.do("bob", "GET", "/inbox", "") }()
	w := <-older
	want(t, w, 204, "")
	if reason := w.Header().Get("X-Poll-Ended"); reason != "superseded" {
		t.Errorf("got X-Poll-Ended %q, want superseded", reason)
	}
	want(t, a.do("alice", "POST", "/inbox?to=bob", "offer"), 200, "")
	want(t, <-newer, 200, "offer")
}

// TestResumeAcrossNodes has a phone return at one node, after a laptop opened the mailbox at
// another one. The laptop keeps it, whether or not its poll waits.
func TestResumeAcrossNodes(t *testing.T) {
	t.Parallel()
	onBothTopologies(t, func(t *testing.T, url string) {
		a, b := newNode(t, url), newNode(t, url)
		const resumePhone = "/inbox?wait=0&client=phone&resume=1"
		refused := func() {
			t.Helper()
			w := a.do("bob", "GET", resumePhone, "")
			if want(t, w, 409, "*"); !strings.Contains(w.Body.String(), "urn:inbox:problem:other-receiver") {
				t.Errorf("got %s, want the type other-receiver", w.Body)
			}
		}
		want(t, a.do("bob", "GET", "/inbox?wait=0&client=phone", ""), 204, "")
		want(t, b.do("bob", "GET", resumePhone, ""), 204, "")
		want(t, b.do("bob", "GET", "/inbox?wait=0&client=laptop", ""), 204, "")
		refused()
		laptop := make(chan *httptest.ResponseRecorder, 1)
		go func() { laptop <- b.do("bob", "GET", "/inbox?client=laptop", "") }()
		time.Sleep(500 * time.Millisecond)
		refused()
		want(t, a.do("alice", "POST", "/inbox?to=bob", "offer"), 200, "")
		want(t, <-laptop, 200, "offer")
		refused()
		go func() { laptop <- b.do("bob", "GET", "/inbox?client=laptop&resume=1", "") }()
		time.Sleep(500 * time.Millisecond)
		want(t, a.do("bob", "GET", "/inbox?wait=1&client=phone", ""), 204, "") // takes over
		if w := <-laptop; w.Code != 204 || w.Header().Get("X-Poll-Ended") != "superseded" {
			t.Errorf("laptop: got %d %v, want it superseded", w.Code, w.Header())
		}
		want(t, b.do("bob", "GET", "/inbox?client=laptop&resume=1", ""), 409, "*")
	})
}

func TestUnavailableStoreIs503(t *testing.T) {
	t.Parallel()
	redis := startServer(t)
	n := newNode(t, "redis://"+redis.addr())
	want(t, n.do("bob", "GET", "/inbox?wait=0", ""), 204, "")
	redis.kill()
	for _, c := range [][2]string{{"GET", "/inbox"}, {"POST", "/inbox?to=bob"}, {"DELETE", "/inbox"}} {
		began := time.Now()
		w := n.do("bob", c[0], c[1], "offer")
		want(t, w, 503, "*")
		if !strings.Contains(w.Body.String(), "urn:inbox:problem:store-unavailable") || w.Header().Get("Retry-After") == "" {
			t.Errorf("%s: got %q, Retry-After %q, want store-unavailable and a Retry-After",
				c[0], w.Body, w.Header().Get("Retry-After"))
		}
		if strings.Contains(w.Body.String(), "127.0.0.1") {
			t.Errorf("%s: the response %q contains the address of the store", c[0], w.Body)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("%s: took %v, want two seconds at most", c[0], took)
		}
	}
}

func TestRoundTripsOfRequests(t *testing.T) {
	t.Parallel()
	redis := startServer(t)
	n := newNode(t, "redis://"+redis.addr())
	want(t, n.do("alice", "GET", "/inbox?wait=0", ""), 204, "")
	want(t, n.do("bob", "GET", "/inbox?wait=0", ""), 204, "")
	got := countRoundTrips(t, n.store, cluster{redis}, func() {
		want(t, n.do("alice", "POST", "/inbox?to=bob", "offer"), 200, "")
	})
	if got != 1 {
		t.Errorf("got %d round trips for a POST, want 1", got)
	}
	got = countRoundTrips(t, n.store, cluster{redis}, func() {
		want(t, n.do("bob", "GET", "/inbox?after=0", ""), 200, "offer")
	})
	if got != 1 {
		t.Errorf("got %d round trips for a GET of a waiting message, want 1", got)
	}
}
