//go:build linux

package redisstore

import (
	"flag"
	"testing"
	"time"

	"inbox/inbox"
	"inbox/inbox/storetest"

	"go.uber.org/goleak"
)

// The client of the store sleeps a while here and there after its end.
func TestMain(m *testing.M) {
	// Tests wait more than they work, each for servers of its own.
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*clusterClient)._refresh.func2"),
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*call).DelayDo.func1"))
}

// tick is what the contract counts in: Redis tells milliseconds, the rest is
// for a busy machine.
const tick = 100 * time.Millisecond

func TestRedisKeepsTheContract(t *testing.T) {
	t.Parallel()
	runContract(t, Config{}, func() cluster { return cluster{startServer(t)} })
}

func TestClusterKeepsTheContract(t *testing.T) {
	t.Parallel()
	runContract(t, Config{Key: []byte("a key of the nodes, of 32 bytes.")}, func() cluster { return startCluster(t, 0) })
}

// runContract runs each test on one of a few stores, which it has to itself.
func runContract(t *testing.T, cfg Config, start func() cluster) {
	const storeCount = 3
	free := make(chan cluster, storeCount)
	for range storeCount {
		free <- start()
	}
	storetest.Run(t, storetest.Engine{Tick: tick, Parallel: true, New: func(t *testing.T, limits inbox.Limits) inbox.Store {
		redis := <-free
		t.Cleanup(func() { free <- redis })
		redis.flush()
		cfg := cfg
		cfg.Limits = limits
		return newStore(t, redis.url(), cfg)
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
	t.Cleanup(s.Shutdown)
	return s
}
