//go:build linux

package redisstore

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"inbox/inbox"
)

// logBuffer is a log that is read while it is written.
type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// What takes from a full store goes on, or it would stay full for ever.
func TestFullRedisCanBeEmptied(t *testing.T) {
	t.Parallel()
	redis := startServer(t)
	s := newStore(t, "redis://"+redis.addr(), Config{Limits: inbox.Limits{Timeout: 6 * time.Second}})
	bob, carol := open(t, s, "bob"), open(t, s, "carol")
	for i := range 3 {
		put(t, s, "bob", fmt.Sprint(i))
		put(t, s, "carol", "hello")
	}
	redis.do("CONFIG", "SET", "maxmemory", "1")
	if err := s.Put(t.Context(), "bob", inbox.Message{From: "alice"}, 0); !errors.Is(err, inbox.ErrStoreFull) {
		t.Errorf("put: got %v, want ErrStoreFull", err)
	}
	if _, err := s.OpenPut(t.Context(), "bob", bobsKey, "carol", inbox.Message{From: "bob"}); !errors.Is(err, inbox.ErrStoreFull) {
		t.Errorf("open put: got %v, want ErrStoreFull", err)
	}
	if _, err := s.Open(t.Context(), "newcomer", bobsKey, &inbox.Payer{}); !errors.Is(err, inbox.ErrStoreFull) {
		t.Errorf("open of a new name: got %v, want ErrStoreFull", err)
	}
	if _, err := s.Open(t.Context(), "bob", bobsKey, nil); err != nil {
		t.Errorf("open of a name in use: %v", err)
	}
	m := wantNext(t, s, bob, 0, "0")
	m = wantNext(t, s, bob, m.ID, "1")
	if _, m, err := s.OpenNext(t.Context(), "bob", bobsKey, m.ID); err != nil || string(m.Body) != "2" {
		t.Errorf("open next: got %q, %v, want 2", m.Body, err)
	}
	if err := s.Discard(t.Context(), bob, m.ID+1); err != nil {
		t.Errorf("discard: %v", err)
	}
	if res := <-startNext(t, s, bob, 500*time.Millisecond); !errors.Is(res.err, inbox.ErrEmpty) {
		t.Errorf("a poll that waits: got %v, want ErrEmpty", res.err)
	}
	if err := s.Close(t.Context(), carol); err != nil {
		t.Errorf("close: %v", err)
	}
	if s.Ready() != nil {
		t.Errorf("got %v, want a full store to be ready", s.Ready())
	}
	eventually(t, "bob's mailbox expired", func() bool { return s.Stats() == inbox.Stats{} })
	if left := redis.do("KEYS", "*:d:*"); left != "" {
		t.Errorf("got %s left, want no mailbox", left)
	}
}

// A store that forbids what we need is no store that is there.
func TestStoreThatForbidsScripts(t *testing.T) {
	t.Parallel()
	redis := startServer(t)
	redis.user("inbox", "~*", "&*", "+@all", "-@scripting")
	var log logBuffer
	s := startStore(t, "redis://inbox:secret-word@"+redis.addr(), Config{Logger: log.logger()})
	eventually(t, "the log tells why", func() bool { return strings.Contains(log.String(), "NOPERM") })
	if s.Ready() == nil {
		t.Error("got ready, want it not to be")
	}
	redis.do("ACL", "SETUSER", "inbox", "+@scripting")
	eventually(t, "the store is ready", func() bool { return s.Ready() == nil })
	bob := open(t, s, "bob")
	redis.do("ACL", "SETUSER", "inbox", "-evalsha", "-eval")
	eventually(t, "it is not ready any more", func() bool { return s.Ready() != nil })
	wantUnavailable(t, s, bob)
	redis.do("ACL", "SETUSER", "inbox", "+@scripting")
	eventually(t, "it is ready again", func() bool { return s.Ready() == nil })
	put(t, s, "bob", "hello")
	if strings.Contains(log.String(), "secret-word") {
		t.Errorf("got the password in the log:\n%s", log.String())
	}
}

// minimalACL is what docs/scale.md says that a user of the store may have to do.
var minimalACL = []string{"resetkeys", "~inbox:*", "resetchannels", "&inbox:n:*", "nocommands", "+@read", "+@write", "+@scripting", "+@pubsub", "+@connection", "+time", "+info", "+cluster"}

func TestLeastRights(t *testing.T) {
	t.Parallel()
	redis := startServer(t)
	redis.user("inbox", minimalACL...)
	var log logBuffer
	s := newStore(t, "redis://inbox:secret-word@"+redis.addr(), Config{Logger: log.logger()})
	bob := open(t, s, "bob")
	got := startNext(t, s, bob, 9*time.Second)
	put(t, s, "bob", "hello")
	if res := <-got; res.err != nil || string(res.Body) != "hello" || res.took > 5*time.Second {
		t.Errorf("got %q, %v after %v, want hello at once", res.Body, res.err, res.took)
	}
	if strings.Contains(log.String(), "WARN") {
		t.Errorf("got a warning:\n%s", log.String())
	}
}

// A user has no channels unless it is given some.
func TestStoreThatForbidsChannels(t *testing.T) {
	t.Parallel()
	redis := startServer(t)
	if !redis.user("inbox", "~*", "resetchannels", "+@all") {
		t.Skip("needs Redis 6.2: before, every user may publish anywhere")
	}
	var log logBuffer
	s := startStore(t, "redis://inbox:secret-word@"+redis.addr(), Config{Logger: log.logger()})
	eventually(t, "the log tells why", func() bool { return strings.Contains(log.String(), "publish: NOPERM") })
	if s.Ready() == nil {
		t.Error("got ready, want it not to be")
	}
}

// A replica refuses what writes; a master may become one.
func TestReplicaIsUnavailable(t *testing.T) {
	t.Parallel()
	redis := startServer(t, "--repl-diskless-sync-delay", "0")
	s := newStore(t, "redis://"+redis.addr(), Config{})
	bob := open(t, s, "bob")
	put(t, s, "bob", "hello")
	bucket := s.session.Load().locate("bob").bucket
	eventually(t, "looks have nothing to write", func() bool { return redis.do("PTTL", bucketKey(bucket)+":s") > "0" })
	redis.do("REPLICAOF", "127.0.0.1", "1")
	eventually(t, "it is away", func() bool { return s.unavailable[bucket].Load() })
	wantUnavailable(t, s, bob)
	for range 100 { // also while nobody asks, and there is nothing to write
		if s.Ready() == nil {
			t.Fatal("it is ready, want it to be away as long as it is a replica")
		}
		time.Sleep(20 * time.Millisecond)
	}
	redis.do("REPLICAOF", "NO", "ONE")
	eventually(t, "it is ready again", func() bool { return s.Ready() == nil })
	wantNext(t, s, bob, 0, "hello")
}

// A server that was started anew with an empty store, and met another's new
// secret there, goes over to that by itself.
func TestStoreWithAnotherSecret(t *testing.T) {
	t.Parallel()
	redis := startServer(t)
	a := newStore(t, "redis://"+redis.addr(), Config{})
	waiting := startNext(t, a, open(t, a, "bob"), 20*time.Second)
	redis.do("EVAL", "redis.call('FLUSHALL'); redis.call('SET', KEYS[1], 'secret ' .. string.rep('ab', 32))", "1", secretKey)
	b := newStore(t, "redis://"+redis.addr(), Config{})
	eventually(t, "both have one secret", func() bool {
		sess := a.session.Load()
		return sess != nil && sess.identity == b.session.Load().identity
	})
	eventually(t, "the store is ready", func() bool { return a.Ready() == nil })
	if res := <-waiting; !errors.Is(res.err, inbox.ErrClaimEnded) || res.took > 10*time.Second {
		t.Errorf("poll of the store as it was: got %v after %v, want ErrClaimOver soon", res.err, res.took)
	}
	c := open(t, a, "bob")
	put(t, b, "bob", "hello")
	wantNext(t, a, c, 0, "hello")
	got := startNext(t, a, c, 5*time.Second) // it hears again
	if err := b.Discard(t.Context(), c, c.Epoch); err != nil {
		t.Fatal(err)
	}
	if res := <-got; res.err != nil {
		t.Fatal(res.err)
	}
}

// Somebody else wrote into a mailbox: what is whole in it comes, and it ends.
func TestDamagedMailbox(t *testing.T) {
	t.Parallel()
	redis := startServer(t)
	s := newStore(t, "redis://"+redis.addr(), Config{Limits: inbox.Limits{Timeout: 4 * time.Second}})
	bob := open(t, s, "bob")
	p := s.session.Load().locate("bob")
	data := bucketKey(p.bucket) + ":d:" + p.tag
	for i := range 4 {
		put(t, s, "bob", fmt.Sprint(i))
	}
	redis.do("HSET", data, fmt.Sprint("m", bob.Epoch), "nonsense")
	redis.do("HDEL", data, fmt.Sprint("q", bob.Epoch+1))
	redis.do("HDEL", data, fmt.Sprint("m", bob.Epoch+2))
	m := wantNext(t, s, bob, 0, "1")
	m = wantNext(t, s, bob, m.ID, "3")
	redis.do("HSET", data, "f", "nonsense")
	if _, err := s.Next(t.Context(), bob, m.ID, 0); !errors.Is(err, inbox.ErrClaimEnded) {
		t.Errorf("next: got %v, want ErrClaimOver of a mailbox that is no mailbox", err)
	}
	eventually(t, "nothing of it is left", func() bool { return s.Stats() == inbox.Stats{} })
	open(t, s, "bob")
}

// Another server may allow larger messages; a message that was accepted comes.
func TestLargerMessageOfAnotherNode(t *testing.T) {
	t.Parallel()
	redis := startServer(t)
	a := newStore(t, "redis://"+redis.addr(), Config{MaxBodyBytes: 1 << 20})
	b := newStore(t, "redis://"+redis.addr(), Config{MaxBodyBytes: 1 << 10})
	body := strings.Repeat("x", 1<<20)
	bob := open(t, a, "bob")
	put(t, a, "bob", body)
	if m, err := b.Next(t.Context(), bob, 0, 0); err != nil || len(m.Body) != len(body) {
		t.Fatalf("got %d bytes, %v, want %d", len(m.Body), err, len(body))
	}
}

// However long the books took, a store that hiccupped is back soon.
func TestSlowStoreIsBackSoon(t *testing.T) {
	t.Parallel()
	redis := startServer(t)
	s := newStore(t, "redis://"+redis.addr(), Config{})
	bob := open(t, s, "bob")
	for range 3 { // whatever it was doing, its sweep took the better part of a second
		redis.signal(syscall.SIGSTOP)
		time.Sleep(1100 * time.Millisecond)
		redis.signal(syscall.SIGCONT)
		time.Sleep(100 * time.Millisecond)
	}
	redis.signal(syscall.SIGSTOP)
	wantUnavailable(t, s, bob)
	redis.signal(syscall.SIGCONT)
	began := time.Now()
	eventually(t, "the store is back", func() bool { return s.Ready() == nil })
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("the store was away for %v after it answered again, want three seconds at most", took)
	}
}

// What nobody uses costs no writes: each would be in the append-only file, and
// at every replica.
func TestIdleStoreWritesLittle(t *testing.T) {
	t.Parallel()
	redis := startServer(t, "--appendonly", "yes")
	s := newStore(t, "redis://"+redis.addr(), Config{})
	open(t, s, "bob")
	time.Sleep(2 * time.Second)
	size := func() (n int) {
		found := regexp.MustCompile(`aof_current_size:(\d+)`).FindStringSubmatch(redis.do("INFO", "persistence"))
		if found == nil {
			t.Fatal("no aof_current_size")
		}
		n, _ = strconv.Atoi(found[1])
		return n
	}
	before := size()
	time.Sleep(3 * time.Second)
	if grew := size() - before; grew > 0 {
		t.Errorf("the append-only file grew by %d bytes in three idle seconds, want none", grew)
	}
}

// The sums of so many payers do not come in the time that one call may take.
// They come in parts.
func TestSumsOfManyPayers(t *testing.T) {
	t.Parallel()
	const each = 2500 // in a bucket: 320,000 in all
	redis := startServer(t)
	for bucket := range buckets {
		redis.do("EVAL", `for i = 1, ARGV[1] do
			redis.call('HSET', KEYS[1] .. ':s', 'n', i, string.format('i:%016d', i), 1, string.format('I:%016d', i), 1)
			redis.call('ZADD', KEYS[1] .. ':x', 9999999999999, i)
		end`, "1", bucketKey(bucket), fmt.Sprint(each))
	}
	s := newStore(t, "redis://"+redis.addr(), Config{})
	if n := s.Stats().Inboxes; n != each*buckets {
		t.Errorf("got %d inboxes, want %d", n, each*buckets)
	}
	open(t, s, "bob")
	// One who is refused, again and again, does not have it all read for him.
	s.ledger.mu.Lock()
	s.ledger.limits.MaxInboxes = 1
	s.ledger.mu.Unlock()
	var took time.Duration
	eventually(t, "a store that is there for all of it", func() bool {
		before, _ := cluster{redis}.cpuTime(t)
		for range 20 {
			_, err := s.Open(t.Context(), "carol", bobsKey, &inbox.Payer{})
			if errors.Is(err, inbox.ErrStoreUnavailable) {
				return false // the machine is busy, and all is read again
			}
			if !errors.Is(err, inbox.ErrTooManyInboxes) {
				t.Errorf("got %v, want ErrTooManyInboxes", err)
			}
			time.Sleep(reclaimEvery)
		}
		after, _ := (cluster{redis}).cpuTime(t)
		took = after - before
		return true
	})
	if took > time.Second {
		t.Errorf("refusing for two seconds took the store %v, want a second at most", took)
	}
}
