package inbox_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"inbox/inbox"
)

// TestSendOfAStream checks the sends of a connection whose password was checked.
func TestSendOfAStream(t *testing.T) {
	for _, row := range []struct {
		name, to string
		wait     time.Duration
		during   func(s *rig, hangUp context.CancelFunc)
		want     error
		took     time.Duration
		recorded string
	}{
		{"stored", "bob", 0, nil, nil, 0, ""},
		{"no such name", "carol", 0, nil, inbox.ErrNoInbox, 0, "missed carol"},
		{"no such code", "code-2", 0, nil, inbox.ErrNoInbox, 0, "missed code code-2"},
		{"waits in vain", "carol", 5 * time.Second, nil, inbox.ErrNoInbox, 5 * time.Second, "missed carol"},
		{"waits for the name", "carol", 5 * time.Second, func(s *rig, _ context.CancelFunc) { s.do("carol", "GET", "/inbox?wait=0", "") },
			nil, time.Second, "new carol, right carol"},
		{"waits while the server stops", "carol", 5 * time.Second, func(s *rig, _ context.CancelFunc) { s.EndPolls() },
			inbox.ErrStopping, time.Second, ""},
		{"hangs up", "carol", 5 * time.Second, func(_ *rig, hangUp context.CancelFunc) { hangUp() },
			context.Canceled, time.Second, "missed carol"},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				guard := &recordingGuard{refused: refuseNothing}
				s := newRig(t, func(c *inbox.Config, _ *inbox.Limits) { c.Guard, c.CodePrefix = guard, "code-" })
				s.do("bob", "GET", "/inbox?wait=0", "")
				guard.recorded = nil
				ctx, hangUp := context.WithCancel(t.Context())
				defer hangUp()
				if row.during != nil {
					time.AfterFunc(time.Second, func() { row.during(s, hangUp) })
				}
				began := time.Now()
				err := s.Send(request("alice", "GET", "/inbox", "").WithContext(ctx), row.to, inbox.Message{From: "alice"}, row.wait)
				if took := time.Since(began); !errors.Is(err, row.want) || took != row.took {
					t.Errorf("got %v after %v, want %v after %v", err, took, row.want, row.took)
				}
				synctest.Wait()
				slices.Sort(guard.recorded)
				if got := strings.Join(guard.recorded, ", "); got != row.recorded || guard.reserved != 0 {
					t.Errorf("recorded %q with %d reservations left, want %q", got, guard.reserved, row.recorded)
				}
			})
		})
	}
}
