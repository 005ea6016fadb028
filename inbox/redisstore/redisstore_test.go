//go:build linux

package redisstore

import (
	"testing"
	"time"

	"inbox/inbox"
	"inbox/inbox/storetest"

	"go.uber.org/goleak"
)

// The client of the store sleeps a while here and there after its end.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*clusterClient)._refresh.func2"),
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*call).DelayDo.func1"))
}

// tick is what the contract counts in: Redis tells milliseconds, the rest is
// for a busy machine.
const tick = 60 * time.Millisecond

func TestRedisKeepsTheContract(t *testing.T) {
	redis := startServer(t)
	storetest.Run(t, storetest.Engine{Tick: tick, New: func(t *testing.T, limits inbox.Limits) inbox.Store {
		redis.do("FLUSHALL")
		return newStore(t, "redis://"+redis.addr(), Config{Limits: limits})
	}})
}

func TestClusterKeepsTheContract(t *testing.T) {
	redis := startCluster(t, 0)
	storetest.Run(t, storetest.Engine{Tick: tick, New: func(t *testing.T, limits inbox.Limits) inbox.Store {
		redis.flush()
		return newStore(t, redis.url(), Config{Limits: limits, Key: []byte("a key of the nodes, of 32 bytes.")})
	}})
}

// newStore returns a store that is there.
func newStore(t testing.TB, url string, cfg Config) *Store {
	t.Helper()
	s := startStore(t, url, cfg)
	eventually(t, "the store is ready", func() bool { return s.Ready() == nil })
	return s
}

func startStore(t testing.TB, url string, cfg Config) *Store {
	t.Helper()
	var err error
	if cfg.Address, err = ParseAddress(url); err != nil {
		t.Fatal(err)
	}
	if cfg.Limits.Timeout == 0 {
		cfg.Limits.Timeout = time.Minute
	}
	s := New(cfg)
	t.Cleanup(s.Quit)
	return s
}
