package memstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"inbox/inbox"
	"inbox/inbox/memstore"
)

var (
	snapshotKey  = []byte("the key of these tests")
	minuteLimits = inbox.Limits{Timeout: time.Minute}
)

func keyOf(name string) (k inbox.Key) {
	copy(k[:], name)
	return k
}

func open(t *testing.T, m *memstore.Store, name string, payer inbox.Payer) inbox.Claim {
	t.Helper()
	c, err := m.Open(t.Context(), name, keyOf(name), &payer)
	if err != nil {
		t.Fatalf("open %s: %v", name, err)
	}
	return c
}

func put(t *testing.T, m *memstore.Store, to, body string) {
	t.Helper()
	if _, err := m.Put(t.Context(), to, inbox.Message{From: "sender", Body: []byte(body)}, 0); err != nil {
		t.Fatalf("put %s to %s: %v", body, to, err)
	}
}

// readAll reads and discards all messages of a mailbox.
func readAll(t *testing.T, m *memstore.Store, c inbox.Claim) (all []string) {
	t.Helper()
	for {
		msg, err := m.Next(t.Context(), c, 0)
		if errors.Is(err, inbox.ErrEmpty) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(msg.Body))
		if err := m.Discard(t.Context(), c, msg.ID); err != nil {
			t.Fatal(err)
		}
	}
}

func save(t testing.TB, m *memstore.Store) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := m.Save(&b, snapshotKey); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func load(t testing.TB, limits inbox.Limits, snapshot []byte) (*memstore.Store, memstore.SnapshotStats) {
	t.Helper()
	m, stats, err := memstore.Load(limits, bytes.NewReader(snapshot), snapshotKey)
	if err != nil {
		t.Fatal(err)
	}
	return m, stats
}

func TestSnapshotIsComplete(t *testing.T) {
	m := memstore.New(minuteLimits)
	bob, alice := open(t, m, "bob", inbox.Payer{Client: "a", Network: "n"}), open(t, m, "älice", inbox.Payer{})
	large := strings.Repeat("x", 100<<10)
	sent := inbox.Message{From: "älice", ContentType: "application/sdp", Body: []byte("v=0"), Payer: inbox.Payer{Client: "b"}}
	if _, err := m.Put(t.Context(), "bob", sent, 0); err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{"", large, "last"} {
		put(t, m, "bob", body)
	}
	one, _ := m.Next(t.Context(), bob, 0)
	_ = m.Discard(t.Context(), bob, one.ID)
	two, _ := m.Next(t.Context(), bob, 0) // read and not acknowledged

	again, stats := load(t, minuteLimits, save(t, m))
	if want := (memstore.SnapshotStats{Inboxes: 2, Messages: 3}); stats != want {
		t.Errorf("got %+v, want %+v", stats, want)
	}
	if was, is := m.Stats(), again.Stats(); was != is {
		t.Errorf("got stats %+v, want %+v", is, was)
	}
	if _, err := again.Open(t.Context(), "bob", keyOf("another"), nil); !errors.Is(err, inbox.ErrWrongKey) {
		t.Errorf("open with another key: got %v, want ErrWrongKey", err)
	}
	if c := open(t, again, "bob", inbox.Payer{}); c != (inbox.Claim{Name: "bob", Epoch: bob.Epoch}) {
		t.Errorf("got claim %+v, want %+v", c, bob)
	}
	if got, err := again.Next(t.Context(), bob, one.ID); err != nil || got.ID != two.ID {
		t.Errorf("got message %d, %v, want %d again", got.ID, err, two.ID)
	}
	if got := readAll(t, again, bob); !slices.Equal(got, []string{"", large, "last"}) {
		t.Errorf("got %d messages, not those that were queued", len(got))
	}
	if got := readAll(t, again, alice); len(got) > 0 {
		t.Errorf("älice got %q, want nothing", got)
	}
}

func TestSavedMessageIsWhole(t *testing.T) {
	m := memstore.New(minuteLimits)
	bob := open(t, m, "bob", inbox.Payer{})
	sent := inbox.Message{From: "Älice %", ContentType: "application/sdp", Body: []byte{0, 0xff, '\n'}}
	if _, err := m.Put(t.Context(), "bob", sent, 0); err != nil {
		t.Fatal(err)
	}
	again, _ := load(t, minuteLimits, save(t, m))
	got, err := again.Next(t.Context(), bob, 0)
	if err != nil || got.From != sent.From || got.ContentType != sent.ContentType || !bytes.Equal(got.Body, sent.Body) {
		t.Errorf("got %+v, %v, want %+v", got, err, sent)
	}
}

// TestSnapshotKeepsIDsUnique checks that IDs are above all earlier ones, including
// those of claims that ended, even when the clock was set back.
func TestSnapshotKeepsIDsUnique(t *testing.T) {
	var last uint64
	var snapshot []byte
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Hour)
		m := memstore.New(minuteLimits)
		gone := open(t, m, "gone", inbox.Payer{})
		put(t, m, "gone", "hello")
		msg, err := m.Next(t.Context(), gone, 0)
		if err != nil || m.Close(t.Context(), gone) != nil {
			t.Fatal(err)
		}
		last, snapshot = msg.ID, save(t, m)
	})
	synctest.Test(t, func(t *testing.T) { // an hour earlier
		m, _ := load(t, minuteLimits, snapshot)
		for _, name := range []string{"gone", "bob", "carol"} {
			if c := open(t, m, name, inbox.Payer{}); c.Epoch <= last {
				t.Errorf("%s: the first ID is %d, want it above %d", name, c.Epoch, last)
			}
		}
	})
}

// TestRestartEndsNoClaim checks that the time without a server does not count, and
// that every claim lives for at least half its timeout afterwards.
func TestRestartEndsNoClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := memstore.New(minuteLimits)
		over := open(t, m, "over", inbox.Payer{})
		time.Sleep(time.Second)
		late := open(t, m, "late", inbox.Payer{})
		time.Sleep(39 * time.Second)
		early := open(t, m, "early", inbox.Payer{})
		time.Sleep(20 * time.Second)
		snapshot := save(t, m)
		time.Sleep(time.Hour)
		m, stats := load(t, minuteLimits, snapshot)
		if stats.Inboxes != 2 {
			t.Errorf("got %d mailboxes, want 2, without the expired one", stats.Inboxes)
		}
		lives := func(c inbox.Claim) bool { return m.Discard(t.Context(), c, 0) == nil }
		want := func(when string, o, l, e bool) {
			if lives(over) != o || lives(late) != l || lives(early) != e {
				t.Errorf("%s: over, late, early live: %v, %v, %v, want %v, %v, %v", when, lives(over), lives(late), lives(early), o, l, e)
			}
		}
		time.Sleep(30*time.Second - time.Nanosecond)
		want("just before half a timeout", false, true, true)
		time.Sleep(time.Nanosecond)
		want("after half a timeout", false, false, true)
		time.Sleep(10*time.Second - time.Nanosecond)
		want("just before its time", false, false, true)
		time.Sleep(time.Nanosecond)
		want("after its time", false, false, false)
		if m.Sweep(); m.Stats() != (inbox.Stats{}) {
			t.Errorf("got %+v after all expired, want nothing", m.Stats())
		}
	})
}

// TestLoadedMailboxesExpireInOrder checks that the order of use is restored, and that
// later uses change it.
func TestLoadedMailboxesExpireInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := memstore.New(minuteLimits)
		for i := range 1000 {
			open(t, m, fmt.Sprint(i), inbox.Payer{})
			time.Sleep(10 * time.Millisecond)
		}
		m, _ = load(t, minuteLimits, save(t, m))
		for i := 0; i < 1000; i += 2 {
			open(t, m, fmt.Sprint(i), inbox.Payer{})
		}
		time.Sleep(time.Minute - time.Millisecond)
		if removed := m.Sweep(); removed != 500 {
			t.Errorf("got %d swept, want the 500 that were not used again", removed)
		}
		time.Sleep(time.Millisecond)
		if removed := m.Sweep(); removed != 500 {
			t.Errorf("got %d swept, want the other 500", removed)
		}
	})
}

func TestSaveClosesTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := memstore.New(minuteLimits)
		bob := open(t, m, "bob", inbox.Payer{})
		put(t, m, "bob", "hello")
		alice := open(t, m, "alice", inbox.Payer{})
		poll, pending := make(chan error), make(chan error)
		go func() { _, err := inbox.WaitNext(context.Background(), m, alice, 0, 20*time.Second); poll <- err }()
		go func() {
			_, err := m.Put(context.Background(), "nobody", inbox.Message{}, 20*time.Second)
			pending <- err
		}()
		synctest.Wait()
		began := time.Now()
		first := save(t, m)
		for name, got := range map[string]error{
			"WaitNext": <-poll, "Put with a wait": <-pending,
			"Put":                      errorOf(m.Put(t.Context(), "bob", inbox.Message{}, 0)),
			"Put to an unclaimed name": errorOf(m.Put(t.Context(), "carol", inbox.Message{}, 0)),
			"Put that would wait":      errorOf(m.Put(t.Context(), "carol", inbox.Message{}, 20*time.Second)),
			"Discard":                  m.Discard(t.Context(), bob, 1<<60),
			"Close":                    m.Close(t.Context(), bob),
			"Next":                     errorOf(m.Next(t.Context(), bob, 0)),
			"Watch":                    errorOf(m.Watch(bob, func(error) {})),
			"Open":                     errorOf(m.Open(t.Context(), "bob", keyOf("bob"), nil)),
			"Open of another":          errorOf(m.Open(t.Context(), "carol", keyOf("carol"), new(inbox.Payer))),
		} {
			if !errors.Is(got, inbox.ErrStopping) {
				t.Errorf("%s: got %v, want ErrStopping", name, got)
			}
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("took %v, want no wait", took)
		}
		if again := save(t, m); !bytes.Equal(first, again) {
			t.Error("a second Save wrote another snapshot")
		}
		time.Sleep(time.Hour)
		if n := m.Sweep(); n != 0 {
			t.Errorf("swept %d mailboxes of a closed store, want none", n)
		}
	})
}

func errorOf[T any](_ T, err error) error { return err }

// TestWhatIsAcceptedIsSaved checks that a snapshot has exactly the messages that were
// accepted before Save closed the store.
func TestWhatIsAcceptedIsSaved(t *testing.T) {
	m := memstore.New(minuteLimits)
	const peers = 32
	var claims [peers]inbox.Claim
	var accepted [peers][]string
	for i := range peers {
		claims[i] = open(t, m, fmt.Sprint(i), inbox.Payer{})
	}
	var wg sync.WaitGroup
	started := make(chan struct{}, peers)
	for i := range peers {
		wg.Go(func() {
			for n := 0; ; n++ {
				body := fmt.Sprint(i, "-", n)
				if _, err := m.Put(context.Background(), fmt.Sprint(i), inbox.Message{Body: []byte(body)}, 0); err != nil {
					return
				}
				if accepted[i] = append(accepted[i], body); n == 10 {
					started <- struct{}{}
				}
				runtime.Gosched() // lets Save run soon, even on one processor
			}
		})
	}
	for range peers {
		<-started
	}
	snapshot := save(t, m)
	wg.Wait()
	again, _ := load(t, minuteLimits, snapshot)
	for i, c := range claims {
		if got := readAll(t, again, c); !slices.Equal(got, accepted[i]) {
			t.Errorf("%d: %d messages were accepted and %d saved", i, len(accepted[i]), len(got))
		}
	}
}
