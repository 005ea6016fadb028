package limits

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"inbox/cmd/inbox/internal/conn"
	"inbox/inbox"
	"inbox/inbox/memstore"
	"inbox/ratelimit"
)

// slowStore is a store at the other end of a slow network.
type slowStore struct{ *memstore.Store }

func (s slowStore) travel(ctx context.Context) error {
	select {
	case <-time.After(100 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s slowStore) Open(ctx context.Context, name string, key inbox.Key, p *inbox.Payer) (inbox.Claim, error) {
	c, err := s.Store.Open(ctx, name, key, p)
	if late := s.travel(ctx); late != nil {
		return inbox.Claim{}, late
	}
	return c, err
}

func (s slowStore) OpenNext(
	ctx context.Context, name string, key inbox.Key, ack uint64, receiver inbox.Client,
) (inbox.Claim, inbox.Message, error) {
	c, m, err := s.Store.OpenNext(ctx, name, key, ack, receiver)
	if late := s.travel(ctx); late != nil {
		return inbox.Claim{}, inbox.Message{}, late
	}
	return c, m, err
}

func (s slowStore) OpenPut(ctx context.Context, name string, key inbox.Key, to string, m inbox.Message) (inbox.Claim, uint64, error) {
	c, id, err := s.Store.OpenPut(ctx, name, key, to, m)
	if late := s.travel(ctx); late != nil {
		return inbox.Claim{}, 0, late
	}
	return c, id, err
}

// slowServer is a handler with the limits of the server and a slow store.
type slowServer struct {
	*inbox.Handler
	name string // of all requests
}

func newSlowServer(name string) slowServer {
	clientIP := &ratelimit.ClientIP{}
	limits := New(Config{Rate: 40, Burst: 600, OwnerTTL: time.Minute}, clientIP, conn.NewClientResolver(clientIP, nil))
	return slowServer{inbox.NewHandler(inbox.Config{
		Store: slowStore{memstore.New(inbox.Limits{Timeout: time.Hour})}, Secret: []byte("a secret of the test"),
		Path: "/inbox", PollTimeout: 25 * time.Second, MaxBodyBytes: 1 << 20, Guard: limits.Guard, CodePrefix: "code-",
	}), name}
}

// send sends a request. The channel gets the status, and is closed without one if the request
// is aborted.
func (s slowServer) send(ctx context.Context, addr, password, method, target string) <-chan int {
	r := httptest.NewRequestWithContext(ctx, method, target, strings.NewReader("hello"))
	r.RemoteAddr = addr
	r.SetBasicAuth(s.name, password)
	done := make(chan int, 1)
	go func() {
		defer close(done)
		defer func() { _ = recover() }() // aborted: no response
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		done <- w.Code
	}()
	return done
}

// TestGuessesAtOnce sends wrong passwords that are all on their way to the store at the
// same time, by each kind of request. Only as many as the budget allows are compared, and
// the owner is served from another network.
func TestGuessesAtOnce(t *testing.T) {
	for _, row := range []struct {
		method, target string
		hangUp         bool // before the result
	}{
		{"GET", "/inbox?wait=0", false}, {"POST", "/inbox?to=bob", false}, {"POST", "/inbox?to=bob&wait=1", false},
		{"GET", "/inbox?wait=x", false}, {"DELETE", "/inbox", true}, {"GET", "/inbox?wait=0", true},
	} {
		synctest.Test(t, func(t *testing.T) {
			send := newSlowServer("alice").send
			const attacker, owner, elsewhere = "192.0.2.1:1", "192.0.2.2:1", "198.51.100.7:1"
			if code := <-send(t.Context(), owner, "secret", "GET", "/inbox?wait=0"); code != 204 {
				t.Fatalf("claim: got %d, want 204", code)
			}
			counts := map[int]int{}
			ctx, hangUp := context.WithCancel(t.Context())
			defer hangUp()
			var pending []<-chan int
			for range 200 {
				pending = append(pending, send(ctx, attacker, "guess", row.method, row.target))
			}
			if synctest.Wait(); row.hangUp {
				hangUp()
			}
			for _, p := range pending {
				counts[<-p]++
			}
			if counts[401] > 10 || !row.hangUp && (counts[401] != 10 || counts[429] != 190) {
				t.Errorf("%s %s: got responses %v, want 10 times 401 and otherwise 429", row.method, row.target, counts)
			}
			for _, next := range []struct {
				addr, password string
				want           int
			}{
				{attacker, "guess", 429}, // charged also if the results were not waited for
				{"192.0.2.3:1", "guess", 429}, {owner, "secret", 204}, {elsewhere, "secret", 204},
			} {
				if code := <-send(t.Context(), next.addr, next.password, "GET", "/inbox?wait=0"); code != next.want {
					t.Errorf("%s %s: then %s from %s: got %d, want %d", row.method, row.target, next.password, next.addr, code, next.want)
				}
			}
		})
	}
}

// TestCodesAtOnce sends messages to codes that are not claimed, all at the same time. Only as
// many as the budget allows reach the store, and then the code that is claimed looks like the
// others.
func TestCodesAtOnce(t *testing.T) {
	for _, row := range []struct {
		target string
		hangUp bool // before the result
	}{
		{"/inbox?to=code-X", false}, {"/inbox?to=code-X&wait=1", false}, {"/inbox?to=code-X&wait=20", true},
	} {
		synctest.Test(t, func(t *testing.T) {
			const attacker, elsewhere = "192.0.2.1:1", "198.51.100.7:1"
			owner, joiner := newSlowServer("code-ABCDEF"), slowServer{name: "joiner"}
			joiner.Handler = owner.Handler
			if code := <-owner.send(t.Context(), elsewhere, "secret", "GET", "/inbox?wait=0"); code != 204 {
				t.Fatalf("claim: got %d, want 204", code)
			}
			for range 50 { // messages to a code that is claimed are not limited
				if code := <-joiner.send(t.Context(), attacker, "x", "POST", "/inbox?to=code-ABCDEF"); code != 200 {
					t.Fatalf("a code that is claimed: got %d, want 200", code)
				}
			}
			counts := map[int]int{}
			ctx, hangUp := context.WithCancel(t.Context())
			defer hangUp()
			var pending []<-chan int
			for range 200 {
				pending = append(pending, joiner.send(ctx, attacker, "x", "POST", row.target))
			}
			if row.hangUp {
				time.Sleep(time.Second) // until the passwords are compared
				hangUp()
			}
			for _, p := range pending {
				counts[<-p]++
			}
			if !row.hangUp && (counts[404] != guessBurst || counts[429] != 190) {
				t.Errorf("%s: got responses %v, want 10 times 404 and otherwise 429", row.target, counts)
			}
			for _, next := range []struct {
				addr, to string
				want     int
			}{
				{attacker, "code-ABCDEF", 429}, {attacker, "code-X", 429}, {elsewhere, "code-ABCDEF", 200},
			} {
				if code := <-joiner.send(t.Context(), next.addr, "x", "POST", "/inbox?to="+next.to); code != next.want {
					t.Errorf("%s: then to %s from %s: got %d, want %d", row.target, next.to, next.addr, code, next.want)
				}
			}
			time.Sleep(11 * time.Second)
			for _, want := range []int{404, 429} {
				if code := <-joiner.send(t.Context(), attacker, "x", "POST", "/inbox?to=code-X"); code != want {
					t.Errorf("%s: after 11 seconds: got %d, want %d", row.target, code, want)
				}
			}
		})
	}
}

// TestNewCodesAreLimited checks that codes cannot be found by claiming them.
func TestNewCodesAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, claimed := newSlowServer(""), 0
		for i := range 2 * newNameBurst {
			s := slowServer{server.Handler, fmt.Sprint("code-", i)}
			if code := <-s.send(t.Context(), "192.0.2.1:1", "x", "DELETE", "/inbox"); code == 204 {
				claimed++
			}
		}
		if claimed < newNameBurst || claimed > newNameBurst+3 { // it takes 24 seconds
			t.Errorf("claimed %d codes in a row, want %d", claimed, newNameBurst)
		}
		s := slowServer{server.Handler, "alice"}
		if code := <-s.send(t.Context(), "192.0.2.1:1", "x", "GET", "/inbox?wait=0"); code != 204 {
			t.Errorf("another name: got %d, want 204", code)
		}
	})
}
