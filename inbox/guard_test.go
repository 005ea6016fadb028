package inbox_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"inbox/inbox"
	"inbox/inbox/memstore"
)

// recordingGuard records attempts and refuses one kind of them.
type recordingGuard struct {
	recorded []string
	refused  inbox.Attempt
	reserved int
}

const refuseNothing = inbox.Attempt(-1)

var attempts = map[inbox.Attempt]string{
	inbox.PasswordGuess: "wrong", inbox.PasswordMatch: "right", inbox.NewName: "new", inbox.UnknownRecipient: "missed",
	inbox.NewCode: "new code", inbox.UnknownCode: "missed code",
}

func (c *recordingGuard) Allow(_ *http.Request, a inbox.Attempt, _ string) error {
	if a == c.refused {
		return rateLimitedError{}
	}
	return nil
}

func (c *recordingGuard) Reserve(*http.Request, inbox.Attempt, string) (bool, error) {
	c.reserved++
	return true, nil
}

func (c *recordingGuard) Release(*http.Request, inbox.Attempt, string) { c.reserved-- }

func (c *recordingGuard) Record(_ *http.Request, a inbox.Attempt, name string) {
	c.recorded = append(c.recorded, fmt.Sprint(attempts[a], " ", name))
}

// rateLimitedError writes its own response.
type rateLimitedError struct{}

func (rateLimitedError) Error() string                { return "too often" }
func (rateLimitedError) Refuse(w http.ResponseWriter) { w.WriteHeader(http.StatusTooManyRequests) }

// testWithGuard runs a test in which alice, bob and code-1 have claimed their names. Names that
// begin with code- are codes.
func testWithGuard(t *testing.T, test func(*testing.T, *rig, *recordingGuard)) {
	synctest.Test(t, func(t *testing.T) {
		c := &recordingGuard{refused: refuseNothing}
		s := newRig(t, func(cfg *inbox.Config, _ *inbox.Limits) { cfg.Guard, cfg.CodePrefix = c, "code-" })
		s.do("alice", "GET", "/inbox?wait=0", "")
		s.do("bob", "GET", "/inbox?wait=0", "")
		s.do("code-1", "GET", "/inbox?wait=0", "")
		c.recorded = nil
		test(t, s, c)
		if c.reserved != 0 {
			t.Errorf("got %d reservations left, want none", c.reserved)
		}
	})
}

// TestGuardRecords checks what the guard records for each request: an attempt
// that is not recorded costs nothing.
func TestGuardRecords(t *testing.T) {
	for _, row := range []struct {
		name, user, method, target string
		recorded                   string
	}{
		{"a new name", "carol", "GET", "/inbox?wait=0", "new carol, right carol"},
		{"an owner", "alice", "GET", "/inbox?wait=0", "right alice"},
		{"a guess", "alice:guess", "GET", "/inbox?wait=0", "wrong alice"},
		{"a guess of a sender", "alice:guess", "POST", "/inbox?to=bob", "wrong alice"},
		{"a guess of a pending send", "alice:guess", "POST", "/inbox?to=bob&wait=1", "wrong alice"},
		{"a guess of a DELETE", "alice:guess", "DELETE", "/inbox", "wrong alice"},
		{"a message", "alice", "POST", "/inbox?to=bob", "right alice"},
		{"an unknown recipient", "alice", "POST", "/inbox?to=unclaimed", "missed unclaimed, right alice"},
		{"an unknown recipient of a new name", "carol", "POST", "/inbox?to=unclaimed", "missed unclaimed, new carol, right carol"},
		{"a pending send that times out", "alice", "POST", "/inbox?to=unclaimed&wait=5", "missed unclaimed, right alice"},
		{"a pending send that is delivered", "alice", "POST", "/inbox?to=bob&wait=5", "right alice"},
		{"a new code", "code-2", "GET", "/inbox?wait=0", "new code code-2, right code-2"},
		{"a new code that is released", "code-2", "DELETE", "/inbox", "new code code-2, right code-2"},
		{"a new code as the sender", "code-2", "POST", "/inbox?to=code-1", "new code code-2, right code-2"},
		{"a wrong password for a code", "code-1:guess", "GET", "/inbox?wait=0", "wrong code-1"},
		{"a message to a code", "alice", "POST", "/inbox?to=code-1", "right alice"},
		{"an unknown code", "alice", "POST", "/inbox?to=code-2", "missed code code-2, right alice"},
		{"an unknown code, escaped", "alice", "POST", "/inbox?to=%63ode%2D2", "missed code code-2, right alice"},
		{"a pending send to a code that times out", "alice", "POST", "/inbox?to=code-2&wait=5", "missed code code-2, right alice"},
		{"a code with a wrong password of the sender", "alice:guess", "POST", "/inbox?to=code-2", "wrong alice"},
	} {
		t.Run(row.name, func(t *testing.T) {
			testWithGuard(t, func(t *testing.T, s *rig, c *recordingGuard) {
				user, password, wrong := strings.Cut(row.user, ":")
				r := request(user, row.method, row.target, "hello")
				if wrong {
					r.SetBasicAuth(user, password)
				}
				<-s.start(r)
				slices.Sort(c.recorded)
				if got := strings.Join(c.recorded, ", "); got != row.recorded {
					t.Errorf("recorded %q, want %q", got, row.recorded)
				}
			})
		})
	}
}

// racingStore is a store in which another request claims each name just after it
// was found free.
type racingStore struct{ *memstore.Store }

func (h racingStore) OpenNext(ctx context.Context, name string, key inbox.Key, ack uint64, r inbox.Client) (c inbox.Claim, m inbox.Message, err error) {
	if _, err = h.Open(ctx, name, key, &inbox.Payer{}); err == nil {
		err = inbox.ErrNoInbox
	}
	return c, m, err
}

// TestConcurrentlyClaimedNameIsNotNew checks that only the request that made the
// claim is charged for it.
func TestConcurrentlyClaimedNameIsNotNew(t *testing.T) {
	c := &recordingGuard{refused: refuseNothing}
	s := newRig(t, func(cfg *inbox.Config, l *inbox.Limits) { cfg.Guard, cfg.Store = c, racingStore{memstore.New(*l)} })
	s.want(s.do("alice", "GET", "/inbox?wait=0", ""), 204, "")
	if got := strings.Join(c.recorded, ", "); got != "right alice" {
		t.Errorf("recorded %q, want right alice", got)
	}
}

// TestPendingSendEndsEarly checks that a client that disconnects is charged like
// one that waited in vain, and one that the server ends is not.
func TestPendingSendEndsEarly(t *testing.T) {
	for _, row := range []struct {
		name     string
		end      func(*rig, context.CancelFunc)
		recorded string
	}{
		{"disconnected", func(_ *rig, hangUp context.CancelFunc) { hangUp() }, "missed unclaimed, right alice"},
		{"stopped", func(s *rig, _ context.CancelFunc) { s.EndPolls() }, "right alice"},
	} {
		t.Run(row.name, func(t *testing.T) {
			testWithGuard(t, func(t *testing.T, s *rig, c *recordingGuard) {
				ctx, hangUp := context.WithCancel(t.Context())
				defer hangUp()
				pending := s.start(request("alice", "POST", "/inbox?to=unclaimed&wait=5", "hello").WithContext(ctx))
				row.end(s, hangUp)
				<-pending
				slices.Sort(c.recorded)
				if got := strings.Join(c.recorded, ", "); got != row.recorded {
					t.Errorf("recorded %q, want %q", got, row.recorded)
				}
			})
		})
	}
}

// disconnectingStore is a store whose client disconnects before it answers.
type disconnectingStore struct {
	*memstore.Store
	disconnect context.CancelFunc
}

func (s disconnectingStore) OpenPut(
	ctx context.Context, name string, key inbox.Key, to string, m inbox.Message,
) (c inbox.Claim, id uint64, err error) {
	c, id, _ = s.Store.OpenPut(ctx, name, key, to, m)
	s.disconnect()
	return c, id, ctx.Err()
}

// TestDisconnectedSendIsAMiss checks that a client is charged that could learn from the
// recipient, and not from the response, that a code exists.
func TestDisconnectedSendIsAMiss(t *testing.T) {
	ctx, disconnect := context.WithCancel(t.Context())
	defer disconnect()
	c := &recordingGuard{refused: refuseNothing}
	s := newRig(t, func(cfg *inbox.Config, l *inbox.Limits) {
		cfg.Guard, cfg.CodePrefix, cfg.Store = c, "code-", disconnectingStore{memstore.New(*l), disconnect}
	})
	s.do("alice", "GET", "/inbox?wait=0", "")
	c.recorded = nil
	func() {
		defer func() { _ = recover() }() // aborted: no response
		s.ServeHTTP(httptest.NewRecorder(), request("alice", "POST", "/inbox?to=code-2", "hello").WithContext(ctx))
	}()
	slices.Sort(c.recorded)
	if got := strings.Join(c.recorded, ", "); got != "missed code code-2, right alice" || c.reserved != 0 {
		t.Errorf("recorded %q with %d reservations left, want a missed code", got, c.reserved)
	}
}

// TestGuardRefuses checks that a refused attempt does not reach the store, and
// that the client gets the response of the guard.
func TestGuardRefuses(t *testing.T) {
	for _, row := range []struct {
		name, user, method, target string
		refuses                    inbox.Attempt
		status                     int
	}{
		{"the right password of a poll", "alice", "GET", "/inbox?wait=0", inbox.PasswordGuess, 429},
		{"the right password of a sender", "alice", "POST", "/inbox?to=bob", inbox.PasswordGuess, 429},
		{"the right password of a DELETE", "bob", "DELETE", "/inbox", inbox.PasswordGuess, 429},
		{"a new name", "carol", "GET", "/inbox?wait=0", inbox.NewName, 429},
		{"a new sender", "carol", "POST", "/inbox?to=bob", inbox.NewName, 429},
		{"an owner is not refused as a new name", "alice", "GET", "/inbox?wait=0", inbox.NewName, 204},
		{"a message to a claimed name", "alice", "POST", "/inbox?to=bob", inbox.UnknownRecipient, 429},
		{"a pending send", "alice", "POST", "/inbox?to=bob&wait=5", inbox.UnknownRecipient, 429},
		{"a poll has no recipient", "alice", "GET", "/inbox?wait=0", inbox.UnknownRecipient, 204},
		{"a message to a code that is claimed", "alice", "POST", "/inbox?to=code-1", inbox.UnknownCode, 429},
		{"a message to a code that is not", "alice", "POST", "/inbox?to=code-2", inbox.UnknownCode, 429},
		{"a pending send to a code", "alice", "POST", "/inbox?to=code-1&wait=5", inbox.UnknownCode, 429},
		{"a code is not limited as a recipient", "alice", "POST", "/inbox?to=code-1", inbox.UnknownRecipient, 200},
		{"a new code", "code-2", "GET", "/inbox?wait=0", inbox.NewCode, 429},
		{"a new code is not limited as a name", "code-2", "GET", "/inbox?wait=0", inbox.NewName, 204},
		{"an owner of a code", "code-1", "GET", "/inbox?wait=0", inbox.NewCode, 204},
	} {
		t.Run(row.name, func(t *testing.T) {
			testWithGuard(t, func(t *testing.T, s *rig, c *recordingGuard) {
				c.refused = row.refuses
				began := time.Now()
				s.want(s.do(row.user, row.method, row.target, "hello"), row.status, "")
				if row.refuses == inbox.PasswordGuess && len(c.recorded) > 0 {
					t.Errorf("recorded %q of a password that was not compared, want nothing", c.recorded)
				}
				if took := time.Since(began); took != 0 {
					t.Errorf("took %v, want no wait", took)
				}
				c.refused = refuseNothing
				s.want(s.do("bob", "GET", "/inbox?wait=0", ""), 204, "") // no message was stored
			})
		})
	}
}
