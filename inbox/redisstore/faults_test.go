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

// logBuffer is a log buffer that is safe for concurrent use.
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

// Steps that free memory succeed in a full store; otherwise it would stay full.
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
	if _, err := s.Put(t.Context(), "bob", inbox.Message{From: "alice"}, 0); !errors.Is(err, inbox.ErrStoreFull) {
		t.Errorf("put: got %v, want ErrStoreFull", err)
	}
	if _, _, err := s.OpenPut(t.Context(), "bob", bobsKey, "carol", inbox.Message{From: "bob"}); !errors.Is(err, inbox.ErrStoreFull) {
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
	if _, m, err := s.OpenNext(t.Context(), "bob", bobsKey, m.ID, inbox.Client{}); err != nil || string(m.Body) != "2" {
		t.Errorf("open next: got %q, %v, want 2", m.Body, err)
	}
	if err := s.Discard(t.Context(), bob, m.ID+1); err != nil {
		t.Errorf("discard: %v", err)
	}
	if res := <-startNext(t, s, bob, 500*time.Millisecond); !errors.Is(res.err, inbox.ErrEmpty) {
		t.Errorf("waiting poll: got %v, want ErrEmpty", res.err)
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

// A store that refuses required commands counts as unavailable.
func TestScriptsNotPermitted(t *testing.T) {
	t.Parallel()
	redis := startServer(t)
	redis.user("inbox", "~*", "&*", "+@all", "-@scripting")
	var log logBuffer
	s := startStore(t, "redis://inbox:secret-word@"+redis.addr(), Config{Logger: log.logger()})
	eventually(t, "the log contains the reason", func() bool { return strings.Contains(log.String(), "NOPERM") })
	if s.Ready() == nil {
		t.Error("got a ready store, want it unavailable")
	}
	redis.do("ACL", "SETUSER", "inbox", "+@scripting")
	eventually(t, "the store is ready", func() bool { return s.Ready() == nil })
	bob := open(t, s, "bob")
	redis.do("ACL", "SETUSER", "inbox", "-evalsha", "-eval")
	eventually(t, "the store is unavailable", func() bool { return s.Ready() != nil })
	wantUnavailable(t, s, bob)
	redis.do("ACL", "SETUSER", "inbox", "+@scripting")
	eventually(t, "the store is available again", func() bool { return s.Ready() == nil })
	put(t, s, "bob", "hello")
	if strings.Contains(log.String(), "secret-word") {
		t.Errorf("got the password in the log:\n%s", log.String())
	}
}

// minimalACL is the minimal set of permissions that docs/scale.md documents.
var minimalACL = []string{
	"resetkeys", "~inbox:*", "resetchannels", "&inbox:n:*", "nocommands",
	"+@read", "+@write", "+@scripting", "+@pubsub", "+@connection", "+time", "+info", "+cluster",
}

func TestMinimalPermissions(t *testing.T) {
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

// Redis grants a new user no channels by default.
func TestChannelsNotPermitted(t *testing.T) {
	t.Parallel()
	redis := startServer(t)
	if !redis.user("inbox", "~*", "resetchannels", "+@all") {
		t.Skip("requires Redis 6.2: older versions have no channel permissions")
	}
	var log logBuffer
	s := startStore(t, "redis://inbox:secret-word@"+redis.addr(), Config{Logger: log.logger()})
	eventually(t, "the log contains the reason", func() bool {
		return strings.Contains(log.String(), "publish: NOPERM")
	})
	if s.Ready() == nil {
		t.Error("got a ready store, want it unavailable")
	}
}

// A master that becomes a replica rejects writes, so the store is unavailable.
func TestReplicaIsUnavailable(t *testing.T) {
	t.Parallel()
	redis := startServer(t, "--repl-diskless-sync-delay", "0")
	s := newStore(t, "redis://"+redis.addr(), Config{})
	bob := open(t, s, "bob")
	put(t, s, "bob", "hello")
	bucket := s.session.Load().locate("bob").bucket
	eventually(t, "sweeps have nothing to write", func() bool { return redis.do("PTTL", bucketKey(bucket)+":s") > "0" })
	redis.do("REPLICAOF", "127.0.0.1", "1")
	eventually(t, "the store is unavailable", func() bool { return s.unavailable[bucket].Load() })
	wantUnavailable(t, s, bob)
	for range 100 { // also without requests, and with nothing to write
		if s.Ready() == nil {
			t.Fatal("got a ready store, want it unavailable while it is a replica")
		}
		time.Sleep(20 * time.Millisecond)
	}
	redis.do("REPLICAOF", "NO", "ONE")
	eventually(t, "the store is available again", func() bool { return s.Ready() == nil })
	wantNext(t, s, bob, 0, "hello")
}

// A node adopts the new secret of a store that was emptied and initialized by another
// node.
func TestStoreWithAnotherSecret(t *testing.T) {
	t.Parallel()
	redis := startServer(t)
	a := newStore(t, "redis://"+redis.addr(), Config{})
	waiting := startNext(t, a, open(t, a, "bob"), 20*time.Second)
	redis.do("EVAL", `redis.call('FLUSHALL')
		redis.call('SET', KEYS[1], 'secret ' .. string.rep('ab', 32))`, "1", secretKey)
	b := newStore(t, "redis://"+redis.addr(), Config{})
	eventually(t, "both nodes have the same secret", func() bool {
		sess := a.session.Load()
		return sess != nil && sess.identity == b.session.Load().identity
	})
	eventually(t, "the store is ready", func() bool { return a.Ready() == nil })
	if res := <-waiting; !errors.Is(res.err, inbox.ErrClaimEnded) || res.took > 10*time.Second {
		t.Errorf("poll of an old claim: got %v after %v, want ErrClaimEnded within ten seconds", res.err, res.took)
	}
	c := open(t, a, "bob")
	put(t, b, "bob", "hello")
	wantNext(t, a, c, 0, "hello")
	got := startNext(t, a, c, 5*time.Second) // the new subscription works
	if err := b.Discard(t.Context(), c, c.Epoch); err != nil {
		t.Fatal(err)
	}
	if res := <-got; res.err != nil {
		t.Fatal(res.err)
	}
}

// Another user of the store changed a mailbox: intact messages are delivered, and a
// mailbox with invalid fields ends.
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
	if _, err := s.Next(t.Context(), bob, m.ID); !errors.Is(err, inbox.ErrClaimEnded) {
		t.Errorf("next: got %v, want ErrClaimEnded of an invalid mailbox", err)
	}
	eventually(t, "the sums are zero", func() bool { return s.Stats() == inbox.Stats{} })
	open(t, s, "bob")
}

// A node delivers messages that another node accepted, even if they exceed its own
// limit.
func TestLargerMessageOfAnotherNode(t *testing.T) {
	t.Parallel()
	redis := startServer(t)
	a := newStore(t, "redis://"+redis.addr(), Config{MaxBodyBytes: 1 << 20})
	b := newStore(t, "redis://"+redis.addr(), Config{MaxBodyBytes: 1 << 10})
	body := strings.Repeat("x", 1<<20)
	bob := open(t, a, "bob")
	put(t, a, "bob", body)
	if m, err := b.Next(t.Context(), bob, 0); err != nil || len(m.Body) != len(body) {
		t.Fatalf("got %d bytes, %v, want %d", len(m.Body), err, len(body))
	}
}

// A long refresh must not delay the detection that the store is available again.
func TestSlowStoreRecoversQuickly(t *testing.T) {
	t.Parallel()
	redis := startServer(t)
	s := newStore(t, "redis://"+redis.addr(), Config{})
	bob := open(t, s, "bob")
	for range 3 { // make a sweep take about a second
		redis.signal(syscall.SIGSTOP)
		time.Sleep(1100 * time.Millisecond)
		redis.signal(syscall.SIGCONT)
		time.Sleep(100 * time.Millisecond)
	}
	redis.signal(syscall.SIGSTOP)
	wantUnavailable(t, s, bob)
	redis.signal(syscall.SIGCONT)
	began := time.Now()
	eventually(t, "the store is available again", func() bool { return s.Ready() == nil })
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("the store was unavailable for %v after it answered again, want three seconds at most", took)
	}
}

// An idle store causes no writes: each would go to the append-only file and to all
// replicas.
func TestIdleStoreWritesLittle(t *testing.T) {
	t.Parallel()
	redis := startServer(t, "--appendonly", "yes")
	s := newStore(t, "redis://"+redis.addr(), Config{})
	open(t, s, "bob")
	time.Sleep(2 * time.Second)
	size := func() (n int) {
		found := regexp.MustCompile(`aof_current_size:(\d+)`).FindStringSubmatch(redis.do("INFO", "persistence"))
		if found == nil {
			t.Fatal("INFO has no aof_current_size")
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

// The sums of this many payers take longer to read than the timeout of one call, so
// they are read in several pipelines.
func TestSumsOfManyPayers(t *testing.T) {
	t.Parallel()
	const each = 2500 // per bucket; 320,000 in total
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
	// Repeated rejected requests must not each read all sums.
	s.ledger.mu.Lock()
	s.ledger.limits.MaxInboxes = 1
	s.ledger.mu.Unlock()
	var took time.Duration
	eventually(t, "the store is available throughout", func() bool {
		before, _ := cluster{redis}.cpuTime(t)
		for range 20 {
			_, err := s.Open(t.Context(), "carol", bobsKey, &inbox.Payer{})
			if errors.Is(err, inbox.ErrStoreUnavailable) {
				return false // busy machine: measure again
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
		t.Errorf("two seconds of rejected requests cost %v of CPU time, want one second at most", took)
	}
}
