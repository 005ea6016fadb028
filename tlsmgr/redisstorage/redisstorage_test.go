//go:build unix

package redisstorage

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"
)

// redisClient implements Client with rueidis.
type redisClient struct{ rueidis.Client }

func (n redisClient) Do(ctx context.Context, command []string, key string, args ...string) (any, error) {
	reply, err := n.Client.Do(ctx, n.B().Arbitrary(command...).Keys(key).Args(args...).Build()).ToAny()
	if rueidis.IsRedisNil(err) {
		return nil, nil
	}
	return reply, err
}

func (n redisClient) command(t *testing.T, args ...string) string {
	t.Helper()
	reply, err := n.Do(t.Context(), args[:1], args[1], args[2:]...)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := reply.(string)
	return text
}

// startRedis starts a Redis server on a Unix socket.
func startRedis(t *testing.T) (redisClient, *exec.Cmd) {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("requires redis-server: apt-get install redis-server")
		}
		t.Skip("requires redis-server: apt-get install redis-server")
	}
	socket := filepath.Join(t.TempDir(), "s")
	server := exec.Command(program, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", filepath.Dir(socket))
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{socket}, DisableCache: true, ForceSingleClient: true,
			DialCtxFn: func(ctx context.Context, _ string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
				return d.DialContext(ctx, "unix", socket)
			}})
		if err == nil {
			t.Cleanup(client.Close)
			return redisClient{client}, server
		}
		if time.Since(began) > 10*time.Second {
			t.Fatalf("redis-server does not respond: %v", err)
		}
	}
}

func newStorage(t *testing.T, c Client) *Storage {
	t.Helper()
	s, err := New(c, "test:", bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStorage(t *testing.T) {
	t.Parallel()
	client, _ := startRedis(t)
	s, ctx := newStorage(t, client), t.Context()
	if _, err := s.Load(ctx, "a/b"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("load a missing value: got %v, want fs.ErrNotExist", err)
	}
	for _, key := range []string{"a/b/c", "a/b/d", "a/e", "ab"} {
		if err := s.Store(ctx, key, []byte("value of "+key)); err != nil {
			t.Fatal(err)
		}
	}
	if value, err := s.Load(ctx, "a/b/c"); err != nil || string(value) != "value of a/b/c" {
		t.Errorf("load: got %q, %v", value, err)
	}
	info, err := s.Stat(ctx, "a/b/c")
	if err != nil || info.Size != 14 || !info.IsTerminal || time.Since(info.Modified) > time.Minute {
		t.Errorf("stat: got %+v, %v", info, err)
	}
	if info, err := s.Stat(ctx, "a/b"); err != nil || info.IsTerminal {
		t.Errorf("stat of a path: got %+v, %v", info, err)
	}
	recursive, err := s.List(ctx, "a", true)
	if want := []string{"a/b/c", "a/b/d", "a/e"}; err != nil || !slices.Equal(recursive, want) {
		t.Errorf("list recursively: got %v, %v, want %v", recursive, err, want)
	}
	direct, err := s.List(ctx, "a", false)
	if want := []string{"a/b", "a/e"}; err != nil || !slices.Equal(direct, want) {
		t.Errorf("list: got %v, %v, want %v", direct, err, want)
	}
	if err := s.Delete(ctx, "a/b"); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]bool{"a/b/c": false, "a/b": false, "a": true, "a/e": true, "ab": true} {
		if got := s.Exists(ctx, key); got != want {
			t.Errorf("exists %s: got %v, want %v", key, got, want)
		}
	}
	if err := s.Delete(ctx, "a/b"); err != nil {
		t.Errorf("delete a missing value: got %v, want no error", err)
	}
}

func TestValuesAreEncryptedAndBoundToKey(t *testing.T) {
	t.Parallel()
	client, _ := startRedis(t)
	s, ctx := newStorage(t, client), t.Context()
	if err := s.Store(ctx, "key", []byte("PRIVATE KEY")); err != nil {
		t.Fatal(err)
	}
	raw := client.command(t, "HGET", s.valuesKey, "key")
	if raw == "" || strings.Contains(raw, "PRIVATE") {
		t.Fatalf("got %q in Redis, want the value encrypted", raw)
	}
	client.command(t, "HSET", s.valuesKey, "other", raw, "short", "x")
	other, err := New(client, "test:", bytes.Repeat([]byte{8}, 32))
	if err != nil {
		t.Fatal(err)
	}
	for name, load := range map[string]func() ([]byte, error){
		"under another name":          func() ([]byte, error) { return s.Load(ctx, "other") },
		"too short":                   func() ([]byte, error) { return s.Load(ctx, "short") },
		"with another encryption key": func() ([]byte, error) { return other.Load(ctx, "key") },
	} {
		if value, err := load(); !errors.Is(err, ErrDecrypt) || value != nil {
			t.Errorf("%s: got %q, %v, want ErrDecrypt", name, value, err)
		}
	}
	if _, err := New(client, "test:", []byte("short")); err == nil {
		t.Error("New with a short key: got no error")
	}
	if err := s.Store(ctx, "big", make([]byte, maxValueBytes+1)); err == nil {
		t.Error("Store with a value over 1 MiB: got no error")
	}
}

func TestLockIsExclusive(t *testing.T) {
	t.Parallel()
	client, _ := startRedis(t)
	a, b := newStorage(t, client), newStorage(t, client)
	var mu sync.Mutex
	holders, maxHolders := 0, 0
	var wg sync.WaitGroup
	for _, s := range []*Storage{a, b, a, b} {
		wg.Go(func() {
			for range 3 {
				if err := s.Lock(t.Context(), "name"); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				holders++
				maxHolders = max(maxHolders, holders)
				mu.Unlock()
				mu.Lock()
				holders--
				mu.Unlock()
				if err := s.Unlock(t.Context(), "name"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if maxHolders != 1 {
		t.Errorf("got %d concurrent holders of the lock, want 1", maxHolders)
	}
	if err := a.Unlock(t.Context(), "name"); err == nil {
		t.Error("Unlock of a free lock: got no error")
	}
}

func TestLockHonorsContext(t *testing.T) {
	t.Parallel()
	client, _ := startRedis(t)
	a, b := newStorage(t, client), newStorage(t, client)
	_, unlock, acquired, err := a.TryLock(t.Context(), "name")
	if err != nil || !acquired {
		t.Fatalf("TryLock: got %v, %v, want the lock", acquired, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := b.Lock(ctx, "name"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Lock: got %v, want context.DeadlineExceeded", err)
	}
	if _, _, acquired, err := b.TryLock(t.Context(), "name"); acquired || err != nil {
		t.Errorf("TryLock of a held lock: got %v, %v, want false", acquired, err)
	}
	unlock()
	if locked, err := b.IsLocked(t.Context(), "name"); locked || err != nil {
		t.Errorf("IsLocked of a released lock: got %v, %v, want false", locked, err)
	}
}

// The context of a lock ends when another node has taken the lock, and unlock does not
// release the lock of the other node.
func TestLostLockCancelsContext(t *testing.T) {
	t.Parallel()
	client, _ := startRedis(t)
	s, ctx := newStorage(t, client), t.Context()
	lockCtx, unlock, acquired, err := s.TryLock(ctx, "name")
	if err != nil || !acquired {
		t.Fatalf("TryLock: got %v, %v, want the lock", acquired, err)
	}
	client.command(t, "SET", s.lockPrefix+"name", "another's token")
	select {
	case <-lockCtx.Done():
	case <-time.After(LeaseDuration):
		t.Error("the context of a lost lock did not end")
	}
	unlock()
	if token := client.command(t, "GET", s.lockPrefix+"name"); token != "another's token" {
		t.Errorf("got token %q, want that of the other node", token)
	}
}

// Writes of a node that was paused past the end of its lease fail with ErrLockLost and
// end the context of its lock.
func TestWriteAfterLostLockFails(t *testing.T) {
	t.Parallel()
	client, _ := startRedis(t)
	s := newStorage(t, client)
	for name, write := range map[string]func(context.Context) error{
		"store":  func(lockCtx context.Context) error { return s.Store(lockCtx, "a/key", []byte("old")) },
		"delete": func(lockCtx context.Context) error { return s.Delete(lockCtx, "a") },
	} {
		lockCtx, unlock, acquired, err := s.TryLock(t.Context(), name)
		if err != nil || !acquired {
			t.Fatalf("TryLock: got %v, %v, want the lock", acquired, err)
		}
		writeCtx := context.WithoutCancel(context.WithValue(lockCtx, redisClient{}, "derived"))
		if err := s.Store(writeCtx, "a/key", []byte("first holder")); err != nil {
			t.Fatalf("store while the lock is held: %v", err)
		}
		client.command(t, "SET", s.lockPrefix+name, "another's token")
		if err := s.Store(t.Context(), "a/key", []byte("next holder")); err != nil {
			t.Fatal(err)
		}
		if err := write(writeCtx); !errors.Is(err, ErrLockLost) || lockCtx.Err() == nil {
			t.Errorf("%s: got %v, context error %v, want ErrLockLost and an ended context", name, err, lockCtx.Err())
		}
		if value, err := s.Load(t.Context(), "a/key"); err != nil || string(value) != "next holder" {
			t.Errorf("%s: got value %q (%v), want that of the next holder", name, value, err)
		}
		unlock()
	}
}

// TryLock fails if the clock differs from the store's, since nodes share the times of
// orders.
func TestLockRequiresAccurateClock(t *testing.T) {
	redis, _ := startRedis(t)
	s := newStorage(t, redis)
	for _, skew := range []time.Duration{time.Hour, -time.Hour, 2 * time.Minute} {
		s.now = func() time.Time { return time.Now().Add(skew) }
		if _, _, acquired, err := s.TryLock(t.Context(), "lock"); acquired || err == nil || !strings.Contains(err.Error(), "clock") {
			t.Errorf("clock skew %v: got %v, %v, want an error about the clock", skew, acquired, err)
		}
	}
	s.now = func() time.Time { return time.Now().Add(10 * time.Second) }
	_, unlock, acquired, err := s.TryLock(t.Context(), "lock")
	if err != nil || !acquired {
		t.Fatalf("clock skew 10 s: got %v, %v, want the lock", acquired, err)
	}
	unlock()
}

// The context of a lock ends before its lease expires if the store is unavailable.
func TestLockExpiresWithoutStore(t *testing.T) {
	t.Parallel()
	client, server := startRedis(t)
	lockCtx, unlock, acquired, err := newStorage(t, client).TryLock(t.Context(), "name")
	if err != nil || !acquired {
		t.Fatalf("TryLock: got %v, %v, want the lock", acquired, err)
	}
	_ = server.Process.Kill()
	began := time.Now()
	select {
	case <-lockCtx.Done():
	case <-time.After(LeaseDuration + time.Second):
	}
	if took := time.Since(began); took > LeaseDuration-leaseMargin+500*time.Millisecond {
		t.Errorf("got a lock context of %v without the store, want less than the lease of %v", took, LeaseDuration)
	}
	unlock()
}

func TestCallsTimeOutWhenStoreHangs(t *testing.T) {
	t.Parallel()
	client, server := startRedis(t)
	s := newStorage(t, client)
	suspend(t, server)
	began := time.Now()
	if _, err := s.Load(context.Background(), "key"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load: got %v, want a timeout", err)
	}
	if took := time.Since(began); took > CallTimeout+time.Second {
		t.Errorf("Load took %v, want at most %v", took, CallTimeout)
	}
}

// lostReplyClient executes the first SET command, but returns an error instead of its
// reply.
type lostReplyClient struct {
	Client
	sets int
}

func (u *lostReplyClient) Do(ctx context.Context, command []string, key string, args ...string) (any, error) {
	reply, err := u.Client.Do(ctx, command, key, args...)
	if command[0] == "SET" {
		if u.sets++; u.sets == 1 {
			return nil, errors.New("connection reset")
		}
	}
	return reply, err
}

// A lock taken by a command whose reply was lost is released at once.
func TestLockAfterLostReply(t *testing.T) {
	redis, _ := startRedis(t)
	s := newStorage(t, &lostReplyClient{Client: redis})
	if _, _, acquired, err := s.TryLock(t.Context(), "name"); err == nil || acquired {
		t.Fatalf("TryLock: got %v, %v, want an error", acquired, err)
	}
	_, unlock, acquired, err := s.TryLock(t.Context(), "name")
	if err != nil || !acquired {
		t.Fatalf("next TryLock: got %v, %v, want the lock", acquired, err)
	}
	unlock()
}
