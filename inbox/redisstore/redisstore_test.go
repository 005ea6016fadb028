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

// TestMain ignores goroutines of the client that sleep for a while after it is closed.
func TestMain(m *testing.M) {
	// Tests mostly wait, each for its own servers, so more than GOMAXPROCS run in parallel.
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*clusterClient)._refresh.func2"),
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*call).DelayDo.func1"))
}

// tick is the time unit of the contract. Redis has a resolution of milliseconds; the
// rest is tolerance for a busy machine.
const tick = 100 * time.Millisecond

func TestRedisFulfillsContract(t *testing.T) {
	t.Parallel()
	runContract(t, Config{}, func() cluster { return cluster{startServer(t)} })
}

func TestClusterFulfillsContract(t *testing.T) {
	t.Parallel()
	runContract(t, Config{Key: []byte("a key of the nodes, of 32 bytes.")}, func() cluster { return startCluster(t, 0) })
}

// runContract runs each test on one of a few stores, which no other test uses
// meanwhile.
func runContract(t *testing.T, cfg Config, start func() cluster) {
	const storeCount = 3
	free := make(chan cluster, storeCount)
	for range storeCount {
		free <- start()
	}
	join := func(t *testing.T, s inbox.Store) inbox.Store {
		first := s.(*Store)
		cfg := cfg
		cfg.Limits = first.limits
		return newStore(t, first.address, cfg)
	}
	storetest.Run(t, storetest.Engine{Tick: tick, Parallel: true, Join: join, New: func(t *testing.T, limits inbox.Limits) inbox.Store {
		redis := <-free
		t.Cleanup(func() { free <- redis })
		redis.flush()
		cfg := cfg
		cfg.Limits = limits
		return newStore(t, redis.url(), cfg)
	}})
}

// newStore returns a store that is ready.
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
