package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	"inbox/inbox"
	"inbox/inbox/memstore"
)

// guessLimit allows ten wrong passwords per name, and as many comparisons at once. Package ratelimit has limits
// for addresses, and refusals that say when to retry.
type guessLimit struct {
	mu    sync.Mutex
	wrong map[string]int // and comparisons that run
}

func (g *guessLimit) Allow(_ *http.Request, a inbox.Attempt, name string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if a == inbox.PasswordGuess && g.wrong[name] >= 10 {
		return inbox.ErrWrongKey
	}
	return nil
}

func (g *guessLimit) Record(_ *http.Request, a inbox.Attempt, name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if a == inbox.PasswordGuess {
		g.wrong[name]++
	}
}

func (g *guessLimit) Reserve(r *http.Request, a inbox.Attempt, name string) (bool, error) {
	if err := g.Allow(r, a, name); err != nil {
		return false, err
	}
	g.Record(r, a, name)
	return true, nil
}

func (g *guessLimit) Release(_ *http.Request, a inbox.Attempt, name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if a == inbox.PasswordGuess {
		g.wrong[name]--
	}
}

// payer charges mailboxes and messages to the address of the client. A real
// one hashes it: payers are part of snapshots.
func payer(r *http.Request) inbox.Payer {
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	return inbox.Payer{Client: host}
}

// A server with mailboxes in memory, and two peers.
func Example() {
	store := memstore.New(inbox.Limits{
		Timeout: time.Minute, Capacity: 100,
		MaxInboxes: 10_000, MaxInboxesPerPayer: 100,
		MaxQueuedBytes: 64 << 20, MaxQueuedBytesPerPayer: 8 << 20,
	})
	handler := inbox.NewHandler(inbox.Config{
		Store:            store,
		Secret:           []byte("32 random bytes, kept in a file"),
		Path:             "/inbox",
		PollTimeout:      25 * time.Second,
		MaxBodyBytes:     1 << 20,
		MaxInFlightBytes: 64 << 20,
		WriteTimeout:     30 * time.Second,
		Alive:            inbox.Alive,
		Payer:            payer,
		Guard:            &guessLimit{wrong: map[string]int{}},
	})
	server := &http.Server{
		Handler:           handler,
		ConnContext:       inbox.ConnContext, // for Alive: no message is written to a closed connection
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
	}
	server.RegisterOnShutdown(handler.EndPolls) // polls that wait do not delay the shutdown
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()

	ctx, stop := context.WithCancel(context.Background())
	go func() {
		for ctx.Err() == nil {
			store.Sweep() // frees expired mailboxes
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
		}
	}()

	do := func(user, method, target, body string) string {
		r, _ := http.NewRequest(method, "http://"+listener.Addr().String()+target, strings.NewReader(body))
		r.SetBasicAuth(user, "password of "+user)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return strings.TrimSpace(fmt.Sprintln(resp.StatusCode, resp.Header.Get("X-From"), string(text)))
	}
	fmt.Println(do("bob", "GET", "/inbox?wait=0", "")) // claims the name
	fmt.Println(do("alice", "POST", "/inbox?to=bob", "an offer"))
	fmt.Println(do("bob", "GET", "/inbox", ""))

	stop()
	http.DefaultClient.CloseIdleConnections()
	if err := server.Shutdown(context.Background()); err != nil || !errors.Is(<-served, http.ErrServerClosed) {
		fmt.Println("shutdown:", err)
	}
	// Output:
	// 204
	// 200
	// 200 alice an offer
}

// A receiver that acknowledges messages itself, without HTTP.
func ExampleWaitNext() {
	ctx := context.Background()
	store := memstore.New(inbox.Limits{Timeout: time.Minute})
	bob, err := store.Open(ctx, "bob", inbox.Key{1}, &inbox.Payer{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, body := range []string{"offer", "candidate"} {
		if _, err := store.Put(ctx, "bob", inbox.Message{From: "alice", Body: []byte(body)}, 0); err != nil {
			fmt.Println(err)
			return
		}
	}
	last := uint64(0)
	for {
		m, err := inbox.WaitNext(ctx, store, bob, last, 10*time.Millisecond)
		if errors.Is(err, inbox.ErrEmpty) {
			break
		}
		fmt.Printf("%s from %s\n", m.Body, m.From)
		last = m.ID
	}
	fmt.Println(store.Discard(ctx, bob, last), store.Stats().Queued)
	// Output:
	// offer from alice
	// candidate from alice
	// <nil> 0
}

// The handler can be called without a network, as in tests.
func ExampleHandler() {
	handler := inbox.NewHandler(inbox.Config{
		Store:  memstore.New(inbox.Limits{Timeout: time.Minute}),
		Secret: []byte("32 random bytes, kept in a file"),
		Path:   "/inbox",
	})
	r := httptest.NewRequest("GET", "/inbox", nil)
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	fmt.Println(w.Code, w.Header().Get("WWW-Authenticate"))
	// Output:
	// 401 Basic realm="inbox", charset="UTF-8"
}
