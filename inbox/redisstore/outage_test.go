//go:build linux

package redisstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"inbox/inbox"
)

// wantUnavailable checks that every method returns ErrStoreUnavailable within two
// seconds.
func wantUnavailable(t *testing.T, s *Store, c inbox.Claim) {
	t.Helper()
	calls := map[string]func() error{
		"open":    func() error { _, err := s.Open(t.Context(), "bob", bobsKey, &inbox.Payer{}); return err },
		"put":     func() error { return tryPut(t, s, "bob", inbox.Message{From: "alice"}) },
		"next":    func() error { _, err := s.Next(t.Context(), c, 0); return err },
		"discard": func() error { return s.Discard(t.Context(), c, 1) },
		"close":   func() error { return s.Close(t.Context(), c) },
	}
	for name, call := range calls {
		began := time.Now()
		if err := call(); !errors.Is(err, inbox.ErrStoreUnavailable) {
			t.Errorf("%s: got %v, want ErrStoreUnavailable", name, err)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("%s: took %v, want two seconds at most", name, took)
		}
	}
}

func TestStoreUnavailableAtStart(t *testing.T) {
	t.Parallel()
	requireRedis(t)
	port := freePort(t)
	s := startStore(t, fmt.Sprintf("redis://127.0.0.1:%d", port), Config{})
	wantUnavailable(t, s, inbox.Claim{Name: "bob", Epoch: 1})
	if s.Ready() == nil {
		t.Error("got a ready store, want it unavailable")
	}
	redis := &server{t: t, port: port, dir: t.TempDir()}
	redis.start()
	t.Cleanup(redis.kill)
	eventually(t, "the store is ready", func() bool { return s.Ready() == nil })
	open(t, s, "bob")
}

// A store that is killed and restarted with its append-only file keeps everything that
// was acknowledged.
func TestKilledRedisLosesNothing(t *testing.T) {
	t.Parallel()
	redis := startServer(t, "--appendonly", "yes", "--appendfsync", "always")
	s := newStore(t, "redis://"+redis.addr(), Config{})
	bob, carol := open(t, s, "bob"), open(t, s, "carol")
	sent := 0
	process := redis.cmd.Process
	stop := time.AfterFunc(150*time.Millisecond, func() { process.Kill() })
	defer stop.Stop()
	for {
		_, err := s.Put(t.Context(), "bob", inbox.Message{From: "alice", Body: fmt.Append(nil, sent)}, 0)
		if errors.Is(err, inbox.ErrStoreUnavailable) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		sent++
	}
	redis.kill()
	if sent == 0 {
		t.Fatal("got no message accepted before the kill")
	}
	waiting := startNext(t, s, carol, 15*time.Second) // fails: the store is unavailable
	wantUnavailable(t, s, bob)
	if res := <-waiting; !errors.Is(res.err, inbox.ErrStoreUnavailable) {
		t.Fatalf("got %v, want ErrStoreUnavailable", res.err)
	}
	redis.start()
	eventually(t, "the store is available again", func() bool { return s.Ready() == nil })
	var last uint64
	for i := range sent {
		last = wantNext(t, s, bob, last, fmt.Sprint(i)).ID
	}
	// The store can have accepted one more message whose reply was lost.
	if m, err := s.Next(t.Context(), bob, last); err == nil && string(m.Body) != fmt.Sprint(sent) {
		t.Fatalf("got %q after the last acknowledged message", m.Body)
	}
	t.Logf("%d messages acknowledged before the kill, none lost", sent)
}

func TestWaitingPollsSurviveRestart(t *testing.T) {
	t.Parallel()
	redis := startServer(t, "--appendonly", "yes", "--appendfsync", "always")
	s := newStore(t, "redis://"+redis.addr(), Config{})
	bob := open(t, s, "bob")
	waiting := startNext(t, s, bob, 30*time.Second)
	redis.kill()
	time.Sleep(time.Second)
	redis.start()
	eventually(t, "the store is available again", func() bool { return s.Ready() == nil })
	put(t, s, "bob", "hello")
	if res := <-waiting; res.err != nil || string(res.Body) != "hello" || res.took > 8*time.Second {
		t.Fatalf("got %q, %v after %v, want hello within eight seconds", res.Body, res.err, res.took)
	}
}

// A message that arrives while the subscription is down is found when it is restored.
func TestLostSubscriptionMissesNothing(t *testing.T) {
	t.Parallel()
	redis := startServer(t)
	s := newStore(t, "redis://"+redis.addr(), Config{})
	bob := open(t, s, "bob")
	waiting := startNext(t, s, bob, 30*time.Second)
	for range 5 {
		// In this order: the new subscription makes the poll look and register again.
		redis.do("HDEL", bucketKey(s.session.Load().locate("bob").bucket)+":d:"+s.session.Load().locate("bob").tag, "w")
		redis.do("CLIENT", "KILL", "TYPE", "pubsub")
	}
	put(t, s, "bob", "hello") // no wake-up is published
	if res := <-waiting; res.err != nil || string(res.Body) != "hello" || res.took > 8*time.Second {
		t.Fatalf("got %q, %v after %v, want hello before the next recheck", res.Body, res.err, res.took)
	}
}

// A hung store, which accepts connections and does not answer, is unavailable too.
func TestHungRedis(t *testing.T) {
	t.Parallel()
	redis := startServer(t)
	s := newStore(t, "redis://"+redis.addr(), Config{})
	bob := open(t, s, "bob")
	redis.signal(syscall.SIGSTOP)
	wantUnavailable(t, s, bob)
	redis.signal(syscall.SIGCONT)
	eventually(t, "the store is available again", func() bool { return s.Ready() == nil })
	carol := open(t, s, "carol") // bob's pending steps can have been executed
	put(t, s, "carol", "hello")
	wantNext(t, s, carol, 0, "hello")
}

func TestFlushedStoreEndsPolls(t *testing.T) {
	t.Parallel()
	redis := startServer(t)
	s := newStore(t, "redis://"+redis.addr(), Config{})
	bob := open(t, s, "bob")
	waiting := startNext(t, s, bob, 2*time.Second)
	redis.do("FLUSHALL")
	if res := <-waiting; !errors.Is(res.err, inbox.ErrClaimEnded) || res.took > 4*time.Second {
		t.Fatalf("got %v after %v, want ErrClaimEnded when the wait ends", res.err, res.took)
	}
	waiting = startNext(t, s, open(t, s, "bob"), 20*time.Second)
	redis.do("FLUSHALL")
	if res := <-waiting; !errors.Is(res.err, inbox.ErrClaimEnded) || res.took > 8*time.Second {
		t.Fatalf("got %v after %v, want ErrClaimEnded within eight seconds", res.err, res.took)
	}
	again := open(t, s, "bob")
	put(t, s, "bob", "hello")
	wantNext(t, s, again, 0, "hello")
	eventually(t, "the sums are correct again", func() bool { return s.Stats().Inboxes == 1 })
	other := newStore(t, "redis://"+redis.addr(), Config{}) // reads the restored secret
	if c := open(t, other, "bob"); c.Epoch != again.Epoch {
		t.Fatalf("got claim %+v at a new node, want %+v", c, again)
	}
}

func TestFlushedScriptIsLoadedAgain(t *testing.T) {
	t.Parallel()
	redis := startServer(t)
	s := newStore(t, "redis://"+redis.addr(), Config{})
	for i := range 20 {
		redis.do("SCRIPT", "FLUSH")
		c := open(t, s, "bob")
		redis.do("SCRIPT", "FLUSH")
		put(t, s, "bob", fmt.Sprint(i))
		redis.do("SCRIPT", "FLUSH")
		m := wantNext(t, s, c, 0, fmt.Sprint(i))
		if err := s.Discard(t.Context(), c, m.ID); err != nil {
			t.Fatal(err)
		}
	}
}

// Shutdown ends watches, so that a stream does not wait for messages that never come.
func TestShutdownEndsWatches(t *testing.T) {
	t.Parallel()
	s := newStore(t, "redis://"+startServer(t).addr(), Config{})
	ended := make(chan error, 2)
	if _, err := s.Watch(open(t, s, "bob"), func(end error) { ended <- end }); err != nil {
		t.Fatal(err)
	}
	s.Shutdown()
	if end := <-ended; end != inbox.ErrStopping {
		t.Errorf("got %v, want ErrStopping", end)
	}
	if _, err := s.Watch(inbox.Claim{Name: "bob"}, func(error) {}); !errors.Is(err, inbox.ErrStoreUnavailable) {
		t.Errorf("watch after the end: got %v, want ErrStoreUnavailable", err)
	}
}

func TestFullRedisRejectsMessages(t *testing.T) {
	t.Parallel()
	redis := startServer(t, "--maxmemory", "4mb", "--maxmemory-policy", "noeviction")
	s := newStore(t, "redis://"+redis.addr(), Config{})
	c := open(t, s, "bob")
	var err error
	for i := 0; err == nil && i < 1000; i++ {
		_, err = s.Put(t.Context(), "bob", inbox.Message{From: "alice", Body: make([]byte, 64<<10)}, 0)
	}
	if !errors.Is(err, inbox.ErrStoreFull) {
		t.Fatalf("got %v, want ErrStoreFull", err)
	}
	if s.Ready() != nil {
		t.Fatalf("got %v, want a full store to be ready", s.Ready())
	}
	_ = c
}

// A master of a cluster dies and its replica takes over: mailboxes and waiting polls
// survive.
func TestClusterFailover(t *testing.T) {
	t.Parallel()
	redis := startCluster(t, 1)
	s := newStore(t, redis.url(), Config{})
	claims := map[string]inbox.Claim{}
	for i := range 30 {
		name := fmt.Sprint("peer", i)
		claims[name] = open(t, s, name)
		put(t, s, name, "hello")
	}
	time.Sleep(500 * time.Millisecond) // replication is asynchronous
	waiting := startNext(t, s, open(t, s, "waiting"), 40*time.Second)
	var victim *server
	for _, srv := range redis {
		if strings.Contains(srv.do("CLUSTER", "NODES"), "myself,master") {
			victim = srv
			break
		}
	}
	victim.kill()
	began := time.Now()
	eventually(t, "all mailboxes are available again", func() bool {
		for _, c := range claims {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			m, err := s.Next(ctx, c, 0)
			cancel()
			if err != nil || string(m.Body) != "hello" {
				return false
			}
		}
		return true
	})
	eventually(t, "the store is ready again", func() bool { return s.Ready() == nil })
	t.Logf("the failover took %v", time.Since(began).Round(time.Millisecond))
	put(t, s, "waiting", "hello")
	if res := <-waiting; res.err != nil || string(res.Body) != "hello" {
		t.Fatalf("got %q, %v, want hello", res.Body, res.err)
	}
}

// After a master dies, Sentinel names the new one.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	master := startServer(t)
	replica := startServer(t, "--replicaof", "127.0.0.1", fmt.Sprint(master.port))
	replica.until("follows", func() bool { return strings.Contains(replica.try("INFO", "replication"), "master_link_status:up") })
	sentinel := startSentinel(t, master)
	s := newStore(t, "redis-sentinel://"+sentinel+"/mymaster", Config{})
	c := open(t, s, "bob")
	put(t, s, "bob", "hello")
	time.Sleep(500 * time.Millisecond)
	master.kill()
	began := time.Now()
	eventually(t, "the message is at the new master", func() bool {
		m, err := s.Next(t.Context(), c, 0)
		return err == nil && string(m.Body) == "hello"
	})
	t.Logf("the failover took %v", time.Since(began).Round(time.Millisecond))
	eventually(t, "the store is ready", func() bool { return s.Ready() == nil })
	waiting := startNext(t, s, open(t, s, "carol"), 9*time.Second)
	put(t, s, "carol", "hello")
	if res := <-waiting; res.err != nil {
		t.Fatal(res.err)
	}
}

// startSentinel returns the address of a Sentinel that monitors master and knows its
// replica.
func startSentinel(t *testing.T, master *server) string {
	t.Helper()
	port := freePort(t)
	config := fmt.Sprintf("port %d\nbind 127.0.0.1\nsentinel monitor mymaster 127.0.0.1 %d 1\n"+
		"sentinel down-after-milliseconds mymaster 500\nsentinel failover-timeout mymaster 3000\n", port, master.port)
	path := writeFile(t, "sentinel.conf", config)
	cmd := exec.Command("redis-server", path, "--sentinel")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	eventually(t, "sentinel sees the replica", func() bool {
		out, _ := exec.Command("redis-cli", "-p", fmt.Sprint(port), "SENTINEL", "replicas", "mymaster").CombinedOutput()
		return strings.Contains(string(out), "flags\nslave")
	})
	return addr
}

func TestEvictionPolicyWarning(t *testing.T) {
	t.Parallel()
	redis := startServer(t, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
	var log strings.Builder
	s := newStore(t, "redis://"+redis.addr(), Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	s.Shutdown()
	if !strings.Contains(log.String(), "maxmemory-policy noeviction") {
		t.Errorf("got log %q, want a warning", log.String())
	}
}

// The deletions and TTLs of a sweep are replicated.
func TestSweepsAreReplicated(t *testing.T) {
	t.Parallel()
	master := startServer(t, "--repl-diskless-sync-delay", "0")
	replica := startReplica(t, master)
	s := newStore(t, "redis://"+master.addr(), Config{Limits: inbox.Limits{Timeout: 200 * time.Millisecond}})
	open(t, s, "bob")
	put(t, s, "bob", "hello")
	bucket := bucketKey(s.session.Load().locate("bob").bucket)
	kept := func(srv *server) bool { return strings.Contains(srv.do("EXISTS", bucket+":x"), "1") }
	replica.until("has the mailbox", func() bool { return kept(replica) })
	eventually(t, "the mailbox has ended", func() bool { return !kept(master) })
	eventually(t, "the deletion is replicated", func() bool {
		return !kept(replica) && replica.do("HGETALL", bucket+":s") == master.do("HGETALL", bucket+":s") &&
			replica.do("PTTL", bucket+":s") > "0"
	})
}
