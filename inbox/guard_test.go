package inbox_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"inbox/inbox"
	"inbox/inbox/memstore"
)

// recordingGuard is a guard that writes down what it is told, and refuses one kind of
// attempt.
type recordingGuard struct {
	recorded []string
	refused  inbox.Attempt
}

const refuseNothing = inbox.Attempt(-1)

var attempts = map[inbox.Attempt]string{
	inbox.PasswordGuess: "wrong", inbox.PasswordMatch: "right", inbox.NewName: "new", inbox.UnknownRecipient: "missed",
}

func (c *recordingGuard) Allow(_ *http.Request, a inbox.Attempt, _ string) error {
	if a == c.refused {
		return rateLimitedError{}
	}
	return nil
}

func (c *recordingGuard) Record(_ *http.Request, a inbox.Attempt, name string) {
	c.recorded = append(c.recorded, fmt.Sprint(attempts[a], " ", name))
}

// rateLimitedError is a refusal that writes its own answer.
type rateLimitedError struct{}

func (rateLimitedError) Error() string                { return "too often" }
func (rateLimitedError) Refuse(w http.ResponseWriter) { w.WriteHeader(http.StatusTooManyRequests) }

// testWithGuard runs a test with a store near by and with one far away; alice and
// bob have claimed their names.
func testWithGuard(t *testing.T, test func(*testing.T, *rig, *recordingGuard)) {
	synctest.Test(t, func(t *testing.T) {
		c := &recordingGuard{refused: refuseNothing}
		s := newRig(t, func(cfg *inbox.Config, _ *inbox.Limits) { cfg.Guard = c })
		s.do("alice", "GET", "/inbox?wait=0", "")
		s.do("bob", "GET", "/inbox?wait=0", "")
		c.recorded = nil
		test(t, s, c)
	})
}

// TestGuardRecords what each request turned out as, whoever keeps the store:
// what it is not told costs a guesser nothing.
func TestGuardRecords(t *testing.T) {
	for _, row := range []struct {
		name, user, method, target string
		told                       string
	}{
		{"a new name", "carol", "GET", "/inbox?wait=0", "new carol, right carol"},
		{"an owner", "alice", "GET", "/inbox?wait=0", "right alice"},
		{"a guess", "alice:guess", "GET", "/inbox?wait=0", "wrong alice"},
		{"a guess of a sender", "alice:guess", "POST", "/inbox?to=bob", "wrong alice"},
		{"a guess of a sender who waits", "alice:guess", "POST", "/inbox?to=bob&wait=1", "wrong alice"},
		{"a guess that would give up", "alice:guess", "DELETE", "/inbox", "wrong alice"},
		{"a message", "alice", "POST", "/inbox?to=bob", "right alice"},
		{"a miss", "alice", "POST", "/inbox?to=nobody", "missed nobody, right alice"},
		{"a miss of a new name", "carol", "POST", "/inbox?to=nobody", "missed nobody, new carol, right carol"},
		{"a knock in vain", "alice", "POST", "/inbox?to=nobody&wait=5", "missed nobody, right alice"},
		{"a knock that is let in", "alice", "POST", "/inbox?to=bob&wait=5", "right alice"},
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
				if got := strings.Join(c.recorded, ", "); got != row.told {
					t.Errorf("told %q, want %q", got, row.told)
				}
			})
		})
	}
}

// racingStore is a memory engine at which somebody claims each name in the moment
// after it was found free.
type racingStore struct{ *memstore.Store }

func (h racingStore) OpenNext(ctx context.Context, name string, key inbox.Key, _ uint64) (c inbox.Claim, m inbox.Message, err error) {
	if _, err = h.Open(ctx, name, key, &inbox.Payer{}); err == nil {
		err = inbox.ErrNoInbox
	}
	return c, m, err
}

// TestNameThatAnotherClaimedIsNotNew: it costs nothing that the other paid.
func TestNameThatAnotherClaimedIsNotNew(t *testing.T) {
	c := &recordingGuard{refused: refuseNothing}
	s := newRig(t, func(cfg *inbox.Config, l *inbox.Limits) { cfg.Guard, cfg.Store = c, racingStore{memstore.New(*l)} })
	s.want(s.do("alice", "GET", "/inbox?wait=0", ""), 204, "")
	if got := strings.Join(c.recorded, ", "); got != "right alice" {
		t.Errorf("told %q, want right alice", got)
	}
}

// TestPendingSendEndsEarly: who hangs up has learnt as much as who waited; whom
// the server sends away has not.
func TestPendingSendEndsEarly(t *testing.T) {
	for _, row := range []struct {
		name string
		end  func(*rig, context.CancelFunc)
		told string
	}{
		{"hung up", func(_ *rig, hangUp context.CancelFunc) { hangUp() }, "missed nobody, right alice"},
		{"stopped", func(s *rig, _ context.CancelFunc) { s.EndPolls() }, "right alice"},
	} {
		t.Run(row.name, func(t *testing.T) {
			testWithGuard(t, func(t *testing.T, s *rig, c *recordingGuard) {
				ctx, hangUp := context.WithCancel(t.Context())
				defer hangUp()
				pending := s.start(request("alice", "POST", "/inbox?to=nobody&wait=5", "hello").WithContext(ctx))
				row.end(s, hangUp)
				<-pending
				slices.Sort(c.recorded)
				if got := strings.Join(c.recorded, ", "); got != row.told {
					t.Errorf("told %q, want %q", got, row.told)
				}
			})
		})
	}
}

// TestGuardRefuses: what it refuses is not even tried, and its answer is the
// client's.
func TestGuardRefuses(t *testing.T) {
	for _, row := range []struct {
		name, user, method, target string
		refuses                    inbox.Attempt
		status                     int
	}{
		{"the right password of a poll", "alice", "GET", "/inbox?wait=0", inbox.PasswordGuess, 429},
		{"of a sender", "alice", "POST", "/inbox?to=bob", inbox.PasswordGuess, 429},
		{"of one who gives up", "bob", "DELETE", "/inbox", inbox.PasswordGuess, 429},
		{"a new name", "carol", "GET", "/inbox?wait=0", inbox.NewName, 429},
		{"a new sender", "carol", "POST", "/inbox?to=bob", inbox.NewName, 429},
		{"no owner, for it is not new", "alice", "GET", "/inbox?wait=0", inbox.NewName, 204},
		{"a message that would arrive", "alice", "POST", "/inbox?to=bob", inbox.UnknownRecipient, 429},
		{"a knock", "alice", "POST", "/inbox?to=bob&wait=5", inbox.UnknownRecipient, 429},
		{"no poll, for it misses nobody", "alice", "GET", "/inbox?wait=0", inbox.UnknownRecipient, 204},
	} {
		t.Run(row.name, func(t *testing.T) {
			testWithGuard(t, func(t *testing.T, s *rig, c *recordingGuard) {
				c.refused = row.refuses
				began := time.Now()
				s.want(s.do(row.user, row.method, row.target, "hello"), row.status, "")
				if row.refuses == inbox.PasswordGuess && len(c.recorded) > 0 {
					t.Errorf("told %q of a password that may not be compared", c.recorded)
				}
				if took := time.Since(began); took != 0 {
					t.Errorf("took %v, want no wait", took)
				}
				c.refused = refuseNothing
				s.want(s.do("bob", "GET", "/inbox?wait=0", ""), 204, "") // nothing was left for him
			})
		})
	}
}
