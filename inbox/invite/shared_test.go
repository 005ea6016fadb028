package invite

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"inbox/inbox"
	"inbox/inbox/memstore"
)

// fakeRedis has one hash, and fails on request.
type fakeRedis struct {
	mu     sync.Mutex
	fields map[string]string
	down   bool
	loads  int
}

func (f *fakeRedis) Do(_ context.Context, command []string, key string, args ...string) (any, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down || key != "inbox:{invite}:registry" {
		return nil, fmt.Errorf("%w: test", inbox.ErrStoreUnavailable)
	}
	field := func(name string) any {
		if value, found := f.fields[name]; found {
			return value
		}
		return nil
	}
	switch command[0] {
	case "HGET":
		return field(args[0]), nil
	case "HMGET":
		f.loads++
		return []any{field(args[0]), field(args[1])}, nil
	}
	if f.fields["version"] != args[0] {
		return int64(0), nil
	}
	f.fields = map[string]string{"version": args[1], "text": args[2]}
	return int64(1), nil
}

func (f *fakeRedis) set(down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = down
}

func TestSharedInvitations(t *testing.T) {
	store := &fakeRedis{}
	key := []byte(strings.Repeat("k", 32))
	one, other := NewShared(store, "inbox:", key), NewShared(store, "inbox:", key)
	if text, changed, err := other.Poll(t.Context()); len(text) != 0 || !changed || err != nil {
		t.Errorf("nothing is stored: got %q, %t, %v", text, changed, err)
	}
	if _, _, err := Add(t.Context(), one, "anna", time.Hour, time.Now()); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(store.fields["text"], "anna") {
		t.Error("the store can read the label")
	}
	text, changed, err := other.Poll(t.Context())
	if r, decodeErr := decodeRegistry(text); !changed || err != nil || decodeErr != nil || len(r.entries) != 1 {
		t.Errorf("got %q, %t, %v, %v, want one invitation", text, changed, err, decodeErr)
	}
	loads := store.loads
	if _, changed, err := other.Poll(t.Context()); changed || err != nil || store.loads != loads {
		t.Errorf("got a change: %t, %v", changed, err)
	}
	for _, wrong := range [][]byte{nil, []byte(strings.Repeat("x", 32))} {
		if _, err := List(t.Context(), NewShared(store, "inbox:", wrong)); !errors.Is(err, errUnreadable) {
			t.Errorf("with another key: got %v, want errUnreadable", err)
		}
	}
}

// TestConcurrentSharedChanges checks that no change of several nodes is lost.
func TestConcurrentSharedChanges(t *testing.T) {
	store := &fakeRedis{}
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			if _, _, err := Add(t.Context(), NewShared(store, "inbox:", nil), fmt.Sprint("label", i), time.Hour, time.Now()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if list, err := List(t.Context(), NewShared(store, "inbox:", nil)); err != nil || len(list) != 4 {
		t.Errorf("got %d invitations, %v, want 4", len(list), err)
	}
}

// TestOutageOfTheStore checks that a server that starts during an outage refuses with 503, and that
// a running one keeps what it has loaded.
func TestOutageOfTheStore(t *testing.T) {
	store := &fakeRedis{down: true}
	a, err := New(Config{Storage: NewShared(store, "inbox:", nil), Store: memstore.New(inbox.Limits{Timeout: time.Hour}), JoinerPrefix: "join-"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"anna", "join-AAAAAAAAAAAAAAAAAAAAAA"} {
		if err := a.Admit("", name, inbox.Payer{}); !errors.Is(err, inbox.ErrStoreUnavailable) {
			t.Errorf("%s: got %v, want ErrStoreUnavailable", name, err)
		}
	}
	store.set(false)
	token, _, err := Add(t.Context(), NewShared(store, "inbox:", nil), "anna", time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	store.set(true)
	if _, err := a.reload(t.Context()); !errors.Is(err, inbox.ErrStoreUnavailable) {
		t.Errorf("got %v, want ErrStoreUnavailable", err)
	}
	if err := a.Admit(token, "anna", inbox.Payer{}); err != nil {
		t.Errorf("during an outage: got %v", err)
	}
}
