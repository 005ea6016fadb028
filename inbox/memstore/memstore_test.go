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

func TestMemoryKeepsTheContract(t *testing.T) {
	storetest.Run(t, storetest.Engine{
		New:    func(t *testing.T, limits inbox.Limits) inbox.Store { return memstore.New(limits) },
		Bubble: synctest.Test,
		Tick:   time.Second,
	})
}

// TestFullStoreLooksRarely: requests that meet a limit make it look for expired
// mailboxes ten times a second at most, however many they are.
func TestFullStoreLooksRarely(t *testing.T) {
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
			{10 * time.Millisecond, "bob", inbox.ErrTooManyInboxes}, // it looked: nothing has expired
			{90 * time.Millisecond, "bob", inbox.ErrTooManyInboxes}, // alice has, but it does not look yet
			{10 * time.Millisecond, "bob", nil},
		} {
			time.Sleep(step.after)
			if err := open(step.name); !errors.Is(err, step.want) {
				t.Errorf("open %s: got %v, want %v", step.name, err, step.want)
			}
		}
	})
}

// TestMemoryComesBack: a flood of names leaves nothing behind once they have
// expired, neither mailboxes nor the tables that held them.
func TestMemoryComesBack(t *testing.T) {
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
			t.Errorf("%d were freed, want %d", n, names)
		}
		if left := int64(heapBytes() - before); left > full/20 {
			t.Errorf("%d bytes are left of %d, want next to nothing", left, full)
		}
		runtime.KeepAlive(m)
	})
}

// TestExpiredMailboxIsFreedByWhoeverFindsIt, with all it held, and once.
func TestExpiredMailboxIsFreedByWhoeverFindsIt(t *testing.T) {
	for name, find := range map[string]func(*memstore.Store, inbox.Claim){
		"Open": func(m *memstore.Store, c inbox.Claim) { m.Open(context.Background(), c.Name, inbox.Key{}, nil) },
		"Put":  func(m *memstore.Store, c inbox.Claim) { m.Put(context.Background(), c.Name, inbox.Message{}, 0) },
		"knock": func(m *memstore.Store, c inbox.Claim) {
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
