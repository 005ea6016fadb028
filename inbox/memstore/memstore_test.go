package memstore_test

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"inbox/inbox"
	"inbox/inbox/memstore"
	"inbox/inbox/storetest"
)

func TestContract(t *testing.T) {
	storetest.Run(t, storetest.Engine{
		New:    func(t *testing.T, limits inbox.Limits) inbox.Store { return memstore.New(limits) },
		Bubble: synctest.Test,
		Tick:   time.Second,
	})
}

// TestReclaimIsLimited checks that requests that meet a limit sweep the store at most
// ten times a second.
func TestReclaimIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := memstore.New(inbox.Limits{Timeout: 50 * time.Millisecond, MaxInboxes: 1})
		open := func(name string) error {
			_, err := m.Open(t.Context(), name, inbox.Key{}, &inbox.Payer{})
			return err
		}
		for _, step := range []struct {
			after time.Duration
			name  string
			want  error
		}{
			{time.Second, "alice", nil},
			{10 * time.Millisecond, "bob", inbox.ErrTooManyInboxes}, // swept: nothing has expired
			{90 * time.Millisecond, "bob", inbox.ErrTooManyInboxes}, // alice has, but it is too early to sweep
			{10 * time.Millisecond, "bob", nil},
		} {
			time.Sleep(step.after)
			if err := open(step.name); !errors.Is(err, step.want) {
				t.Errorf("open %s: got %v, want %v", step.name, err, step.want)
			}
		}
	})
}

// TestMemoryIsReleased checks that a flood of names leaves neither mailboxes nor large
// tables once they have expired.
func TestMemoryIsReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := memstore.New(inbox.Limits{Timeout: time.Minute})
		before := heapBytes()
		const names = 200_000
		for i := range names {
			if _, err := m.Open(t.Context(), strconv.Itoa(i), inbox.Key{}, &inbox.Payer{}); err != nil {
				t.Fatal(err)
			}
		}
		full := int64(heapBytes() - before)
		time.Sleep(time.Minute)
		if n := m.Sweep(); n != names {
			t.Errorf("swept %d mailboxes, want %d", n, names)
		}
		if left := int64(heapBytes() - before); left > full/20 {
			t.Errorf("%d bytes are left of %d, want less than a twentieth", left, full)
		}
		runtime.KeepAlive(m)
	})
}

// TestEveryMethodFreesAnExpiredMailbox checks that the first step on an expired
// mailbox refunds what it held, once.
func TestEveryMethodFreesAnExpiredMailbox(t *testing.T) {
	for name, find := range map[string]func(*memstore.Store, inbox.Claim){
		"Open": func(m *memstore.Store, c inbox.Claim) { m.Open(context.Background(), c.Name, inbox.Key{}, nil) },
		"Put":  func(m *memstore.Store, c inbox.Claim) { m.Put(context.Background(), c.Name, inbox.Message{}, 0) },
		"Put with a wait": func(m *memstore.Store, c inbox.Claim) {
			m.Put(context.Background(), c.Name, inbox.Message{}, time.Second)
		},
		"Next":    func(m *memstore.Store, c inbox.Claim) { m.Next(context.Background(), c, 0) },
		"Watch":   func(m *memstore.Store, c inbox.Claim) { m.Watch(c, func(error) {}) },
		"Discard": func(m *memstore.Store, c inbox.Claim) { m.Discard(context.Background(), c, 1) },
		"Close":   func(m *memstore.Store, c inbox.Claim) { m.Close(context.Background(), c) },
		"Sweep":   func(m *memstore.Store, _ inbox.Claim) { m.Sweep() },
	} {
		synctest.Test(t, func(t *testing.T) {
			m := memstore.New(inbox.Limits{Timeout: time.Minute})
			c, err := m.Open(t.Context(), "bob", inbox.Key{}, &inbox.Payer{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := m.Put(t.Context(), "bob", inbox.Message{Body: []byte("hello")}, 0); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			for range 2 {
				if find(m, c); m.Stats() != (inbox.Stats{}) {
					t.Errorf("%s: got %+v, want nothing held", name, m.Stats())
				}
			}
		})
	}
}
