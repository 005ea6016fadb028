package limits

import (
	"context"
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

func (s slowStore) OpenNext(ctx context.Context, name string, key inbox.Key, ack uint64) (inbox.Claim, inbox.Message, error) {
	c, m, err := s.Store.OpenNext(ctx, name, key, ack)
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
			clientIP := &ratelimit.ClientIP{}
			limits := New(Config{Rate: 40, Burst: 600, OwnerTTL: time.Minute}, clientIP, conn.NewClientResolver(clientIP, nil))
			handler := inbox.NewHandler(inbox.Config{
				Store: slowStore{memstore.New(inbox.Limits{Timeout: time.Minute})}, Secret: []byte("a secret of the test"),
				Path: "/inbox", PollTimeout: 25 * time.Second, MaxBodyBytes: 1 << 20, Guard: limits.Guard,
			})
			send := func(ctx context.Context, addr, password, method, target string) <-chan int {
				r := httptest.NewRequestWithContext(ctx, method, target, strings.NewReader("hello"))
				r.RemoteAddr = addr
				r.SetBasicAuth("alice", password)
				done := make(chan int, 1)
				go func() {
					defer close(done)
					defer func() { _ = recover() }() // aborted: no response
					w := httptest.NewRecorder()
					handler.ServeHTTP(w, r)
					done <- w.Code
				}()
				return done
			}
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
