//go:build linux

package redisstore

import (
	"os/exec"
	"strings"
	"testing"

	"inbox/inbox"
)

func examine(t *testing.T, url string, key []byte) (Report, error) {
	t.Helper()
	a, err := ParseAddress(url)
	if err != nil {
		t.Fatal(err)
	}
	return Examine(t.Context(), Config{Address: a, Key: key, Limits: inbox.Limits{Timeout: 1}})
}

func TestExamineChangesNothing(t *testing.T) {
	t.Parallel()
	redis := startServer(t, "--maxmemory", "100mb", "--appendonly", "yes", "--appendfsync", "always", "--requirepass", "secret-word")
	r, err := examine(t, "redis://:secret-word@"+redis.addr(), nil)
	if err != nil || len(r.Servers) != 1 {
		t.Fatalf("got %+v, %v", r, err)
	}
	s := r.Servers[0]
	if s.MaxBytes != 100<<20 || s.UsedBytes == 0 || s.EvictionPolicy != "noeviction" || !s.AppendOnly || s.WriteFailed || s.Fsync != "always" || s.TooOld {
		t.Errorf("got %+v", s)
	}
	// "Redis server v=7.0.15 …", "Valkey server v=8.1.1 …", from the oldest Valkey "Server v=7.2.14 …"
	said, err := exec.Command("redis-server", "--version").Output()
	if engine, _, _ := strings.Cut(string(said), " "); err != nil || !strings.Contains(string(said), "v="+s.Version+" ") || engine != "Server" && s.Product != engine {
		t.Errorf("got %s %s, want %s (%v)", s.Product, s.Version, said, err)
	}
	if !r.Unused || r.KeyMismatch || r.ClockSkew.Abs() > 2e9 {
		t.Errorf("got %+v, want an unused store without clock skew", r)
	}
	if n := redis.try("-a", "secret-word", "--no-auth-warning", "DBSIZE"); n != "0" {
		t.Errorf("got %s keys, want none", n)
	}
}

func TestExamineComparesKeys(t *testing.T) {
	t.Parallel()
	redis := startServer(t)
	newStore(t, "redis://"+redis.addr(), Config{Key: sharedKey})
	other := []byte("another key, also of 32 bytes...")
	for _, c := range []struct {
		key   []byte
		other bool
	}{{sharedKey, false}, {other, true}, {nil, true}} {
		if r, err := examine(t, "redis://"+redis.addr(), c.key); err != nil || r.Unused || r.KeyMismatch != c.other {
			t.Errorf("key %q: got %+v, %v, want key mismatch %v", c.key, r, err, c.other)
		}
	}
}

func TestExamineReturnsErrors(t *testing.T) {
	t.Parallel()
	redis := startServer(t)
	mute := redis.user("mute", "~*", "resetchannels", "+@all")
	redis.user("plain", "~*", "&*", "+@all", "-@scripting")
	replica := startServer(t, "--replicaof", "127.0.0.1", "1")
	refused := map[string]string{
		"no permissions to run": "redis://plain:secret-word@" + redis.addr(),
		"WRONGPASS":             "redis://mute:wrong-secret-word@" + redis.addr(),
		"READONLY":              "redis://" + replica.addr(),
		"refused":               "redis://127.0.0.1:1",
	}
	if mute {
		refused["channel"] = "redis://mute:secret-word@" + redis.addr()
	}
	for what, url := range refused {
		_, err := examine(t, url, nil)
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: got %v, want %s", url, err, what)
		} else if strings.Contains(err.Error(), "secret-word") {
			t.Errorf("%s: the error contains the password: %v", url, err)
		}
	}
}

func TestExamineFindsAllMasters(t *testing.T) {
	t.Parallel()
	redis := startCluster(t, 1)
	r, err := examine(t, "redis://"+redis[0].addr(), nil)
	if err != nil || r.Kind != "cluster" || len(r.Servers) != 3 {
		t.Errorf("got %+v, %v, want three masters", r, err)
	}
}
