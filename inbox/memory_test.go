package inbox_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"inbox/inbox"
	"inbox/inbox/storetest"
)

func TestMemoryKeepsTheContract(t *testing.T) {
	storetest.Run(t, storetest.Engine{
		New:    func(t *testing.T, limits inbox.Limits) inbox.Store { return inbox.NewMemory(limits) },
		Bubble: synctest.Test,
		Tick:   time.Second,
	})
}

// TestFullStoreLooksRarely: requests that meet a limit make it look for expired
// mailboxes ten times a second at most, however many they are.
func TestFullStoreLooksRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := inbox.NewMemory(inbox.Limits{Timeout: 50 * time.Millisecond, MaxInboxes: 1})
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
