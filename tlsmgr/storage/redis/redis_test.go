//go:build unix

package redis

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"inbox/tlsmgr/storage"
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
	s, err := New(c, "test:", bytes.Repeat([]byte{7}, 32), slog.New(slog.DiscardHandler))
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
	below, err := s.List(ctx, "a")
	if want := []string{"a/b/c", "a/b/d", "a/e"}; err != nil || !slices.Equal(below, want) {
		t.Errorf("list: got %v, %v, want %v", below, err, want)
	}
	if err := s.Delete(ctx, "a/b"); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]bool{"a/b/c": false, "a/b": false, "a": false, "a/e": true, "ab": true} {
		if _, err := s.Load(ctx, key); (err == nil) != want {
			t.Errorf("load %s: got %v, want a value: %v", key, err, want)
		}
	}
	if below, err := s.List(ctx, "a/b"); err != nil || len(below) != 0 {
		t.Errorf("list nothing: got %v, %v", below, err)
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
	other, err := New(client, "test:", bytes.Repeat([]byte{8}, 32), nil)
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
	if _, err := New(client, "test:", []byte("short"), nil); err == nil {
		t.Error("New with a short key: got no error")
	}
	if err := s.Store(ctx, "big", make([]byte, maxValueBytes+1)); err == nil {
		t.Error("Store with a value over 1 MiB: got no error")
	}
}

// mustLock acquires a free lock.
func mustLock(t *testing.T, s *Storage, name string) storage.Lease {
	t.Helper()
	l, err := s.TryLock(t.Context(), name)
	if err != nil {
		t.Fatalf("TryLock: got %v, want the lock", err)
	}
	return l
}

func TestLockIsExclusive(t *testing.T) {
	t.Parallel()
	client, _ := startRedis(t)
	a, b := newStorage(t, client), newStorage(t, client)
	var holders, maxHolders, acquired atomic.Int32
	var wg sync.WaitGroup
	for _, s := range []*Storage{a, b, a, b} {
		wg.Go(func() {
			for range 100 {
				l, err := s.TryLock(t.Context(), "name")
				if errors.Is(err, storage.ErrLocked) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				acquired.Add(1)
				maxHolders.Store(max(maxHolders.Load(), holders.Add(1)))
				time.Sleep(time.Millisecond)
				holders.Add(-1)
				l.Release()
			}
		})
	}
	wg.Wait()
	if maxHolders.Load() != 1 || acquired.Load() < 2 {
		t.Errorf("got %d concurrent holders of the lock, %d in all, want 1 at a time", maxHolders.Load(), acquired.Load())
	}
}

func TestReleasedLockIsFree(t *testing.T) {
	t.Parallel()
	client, _ := startRedis(t)
	a, b := newStorage(t, client), newStorage(t, client)
	l := mustLock(t, a, "name")
	if _, err := b.TryLock(t.Context(), "name"); !errors.Is(err, storage.ErrLocked) {
		t.Errorf("TryLock of a held lock: got %v, want ErrLocked", err)
	}
	if locked, err := b.IsLocked(t.Context(), "name"); !locked || err != nil {
		t.Errorf("IsLocked of a held lock: got %v, %v, want true", locked, err)
	}
	l.Release()
	if locked, err := b.IsLocked(t.Context(), "name"); locked || err != nil {
		t.Errorf("IsLocked of a released lock: got %v, %v, want false", locked, err)
	}
	if err := l.Err(); err != nil {
		t.Errorf("a released lease: got %v, want no error", err)
	}
}

// A lease is lost when another node has taken the lock, and Release does not release
// the lock of the other node.
func TestLeaseIsLost(t *testing.T) {
	t.Parallel()
	client, _ := startRedis(t)
	s := newStorage(t, client)
	l := mustLock(t, s, "name")
	client.command(t, "SET", s.lockPrefix+"name", "another's token")
	select {
	case <-l.Done():
	case <-time.After(LeaseDuration):
		t.Error("Done was not closed")
	}
	if err := l.Err(); !errors.Is(err, storage.ErrLeaseLost) {
		t.Errorf("Err: got %v, want ErrLeaseLost", err)
	}
	l.Release()
	if token := client.command(t, "GET", s.lockPrefix+"name"); token != "another's token" {
		t.Errorf("got token %q, want that of the other node", token)
	}
}

// Writes of a node that was paused past the end of its lease fail with ErrLeaseLost and
// end the lease.
func TestWriteAfterLostLockFails(t *testing.T) {
	t.Parallel()
	client, _ := startRedis(t)
	s, ctx := newStorage(t, client), t.Context()
	for name, write := range map[string]func(storage.Lease) error{
		"store":      func(l storage.Lease) error { return l.Store(ctx, "a/key", []byte("old")) },
		"delete":     func(l storage.Lease) error { return l.Delete(ctx, "a") },
		"quarantine": func(l storage.Lease) error { return l.Quarantine(ctx, "a/key") },
	} {
		l := mustLock(t, s, name)
		if err := l.Store(ctx, "a/key", []byte("first holder")); err != nil {
			t.Fatalf("store while the lock is held: %v", err)
		}
		client.command(t, "SET", s.lockPrefix+name, "another's token")
		if err := s.Store(ctx, "a/key", []byte("next holder")); err != nil {
			t.Fatal(err)
		}
		if err := write(l); !errors.Is(err, storage.ErrLeaseLost) || !errors.Is(l.Err(), storage.ErrLeaseLost) {
			t.Errorf("%s: got %v and %v, want ErrLeaseLost and a lost lease", name, err, l.Err())
		}
		if value, err := s.Load(ctx, "a/key"); err != nil || string(value) != "next holder" {
			t.Errorf("%s: got value %q (%v), want that of the next holder", name, value, err)
		}
		l.Release()
	}
}

// TryLock fails if the clock differs from the store's, since nodes share the times of
// orders.
func TestLockRequiresAccurateClock(t *testing.T) {
	redis, _ := startRedis(t)
	s := newStorage(t, redis)
	for _, skew := range []time.Duration{time.Hour, -time.Hour, 2 * time.Minute} {
		s.now = func() time.Time { return time.Now().Add(skew) }
		if _, err := s.TryLock(t.Context(), "lock"); err == nil || !strings.Contains(err.Error(), "clock") {
			t.Errorf("clock skew %v: got %v, want an error about the clock", skew, err)
		}
	}
	s.now = func() time.Time { return time.Now().Add(10 * time.Second) }
	mustLock(t, s, "lock").Release()
}

// A lease is lost before it expires if the store is unavailable.
func TestLockExpiresWithoutStore(t *testing.T) {
	t.Parallel()
	client, server := startRedis(t)
	l := mustLock(t, newStorage(t, client), "name")
	_ = server.Process.Kill()
	began := time.Now()
	select {
	case <-l.Done():
	case <-time.After(LeaseDuration + time.Second):
	}
	if took := time.Since(began); took > LeaseDuration-leaseMargin+500*time.Millisecond {
		t.Errorf("got a lease of %v without the store, want less than %v", took, LeaseDuration)
	}
	l.Release()
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
	if _, err := s.TryLock(t.Context(), "name"); err == nil {
		t.Fatal("TryLock: got no error")
	}
	mustLock(t, s, "name").Release()
}
