//go:build linux

package redisstore

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"inbox/inbox"
	"inbox/inbox/memstore"
)

// BenchmarkRelay measures a message from one peer to another, acknowledged with the
// next request, as a handler sends it: with the memory engine, and with one to three
// nodes.
func BenchmarkRelay(b *testing.B) {
	b.Run("memory", func(b *testing.B) { relay(b, memstore.New(limits)) })
	b.Run("redis", func(b *testing.B) { relayNodes(b, cluster{startServer(b)}, Config{}) })
	b.Run("sealed", func(b *testing.B) { relayNodes(b, cluster{startServer(b)}, Config{Key: sharedKey}) })
	b.Run("always", func(b *testing.B) {
		relayNodes(b, cluster{startServer(b, "--appendonly", "yes", "--appendfsync", "always")}, Config{})
	})
	b.Run("replica", func(b *testing.B) { relayReplicated(b, 0) })
	b.Run("replica waited for", func(b *testing.B) { relayReplicated(b, 1) })
	b.Run("cluster", func(b *testing.B) { relayNodes(b, startCluster(b, 0), Config{}) })
}

func relayReplicated(b *testing.B, wanted int) {
	master := startServer(b, "--repl-diskless-sync-delay", "0")
	relayNodes(b, cluster{master, startReplica(b, master)}, Config{Replicas: wanted})
}

// cpuTime returns the CPU time used by the servers of the store and by this process.
func (c cluster) cpuTime(b testing.TB) (store, self time.Duration) {
	for _, s := range c {
		for _, found := range cpuFields.FindAllStringSubmatch(s.do("INFO", "cpu"), -1) {
			seconds, err := strconv.ParseFloat(found[1], 64)
			if err != nil {
				b.Fatal(err)
			}
			store += time.Duration(seconds * 1e9)
		}
	}
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return store, time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

var cpuFields = regexp.MustCompile(`used_cpu_(?:user|sys):([0-9.]+)`)

var limits = inbox.Limits{
	Timeout: 3600e9, Capacity: 100, MaxInboxes: 100_000, MaxQueuedBytes: 256 << 20, MaxQueuedBytesPerPayer: 32 << 20,
}

func relayNodes(b *testing.B, redis cluster, cfg Config) {
	for n := 1; n <= 3; n++ {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			cfg.Limits = limits
			url := redis.url()
			if strings.HasPrefix(b.Name(), "BenchmarkRelay/replica") {
				url = redis[:1].url()
			}
			var stores []inbox.Store
			for range n {
				stores = append(stores, newStore(b, url, cfg))
			}
			store, self := redis.cpuTime(b)
			relay(b, stores...)
			storeAfter, selfAfter := redis.cpuTime(b)
			b.ReportMetric(float64(storeAfter-store)/1e3/float64(b.N), "store-µs/message")
			b.ReportMetric(float64(selfAfter-self)/1e3/float64(b.N), "nodes-µs/message")
		})
	}
}

var pairs atomic.Int64

// relay runs 32 pairs of peers, distributed over the nodes. One operation is a whole
// message, which takes four steps of a store.
func relay(b *testing.B, stores ...inbox.Store) {
	b.SetParallelism(16)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		n := pairs.Add(1)
		alice, bob := fmt.Sprint("alice", n), fmt.Sprint("bob", n)
		from, to := stores[int(n)%len(stores)], stores[int(n+1)%len(stores)]
		payer := inbox.Payer{Client: alice}
		for _, name := range []string{alice, bob} {
			if _, err := from.Open(context.Background(), name, bobsKey, &payer); err != nil {
				b.Error(err)
				return
			}
		}
		m, last := inbox.Message{From: alice, Body: make([]byte, 1500), Payer: payer}, uint64(0)
		for pb.Next() {
			var err error
			if err = send(from, alice, bob, m); err == nil {
				last, err = receive(to, bob, last)
			}
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}

func send(s inbox.Store, from, to string, m inbox.Message) error {
	_, _, err := s.OpenPut(context.Background(), from, bobsKey, to, m)
	return err
}

func receive(s inbox.Store, name string, ack uint64) (uint64, error) {
	_, m, err := s.OpenNext(context.Background(), name, bobsKey, ack, inbox.Client{})
	return m.ID, err
}

// BenchmarkWake measures a message to a peer that waits at another node.
func BenchmarkWake(b *testing.B) {
	url := "redis://" + startServer(b).addr()
	from, to := newStore(b, url, Config{Limits: limits}), newStore(b, url, Config{Limits: limits})
	c := open(b, to, "bob")
	var last uint64
	for b.Loop() {
		got := make(chan error, 1)
		go func() {
			m, err := inbox.WaitNext(context.Background(), to, c, last, 20e9)
			last = m.ID
			got <- errors.Join(err, to.Discard(context.Background(), c, m.ID))
		}()
		_, err := from.Put(context.Background(), "bob", inbox.Message{From: "alice", Body: make([]byte, 1500)}, 0)
		if err = errors.Join(err, <-got); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWatches is the cost of 5,000 watches that are renewed, in store CPU time for
// each renewal.
func BenchmarkWatches(b *testing.B) {
	const n = 5000
	redis := cluster{startServer(b)}
	s := newStore(b, redis.url(), Config{Limits: limits})
	for i := range n {
		stop, err := s.Watch(open(b, s, fmt.Sprint("peer", i)), func(error) {})
		if err != nil {
			b.Fatal(err)
		}
		defer stop()
	}
	due := func() bool {
		s.watches.mu.Lock()
		defer s.watches.mu.Unlock()
		for _, some := range s.watches.byTag {
			if !some[0].registered || some[0].due.IsZero() {
				return true
			}
		}
		return false
	}
	for due() {
		time.Sleep(time.Millisecond)
	}
	before, _ := redis.cpuTime(b)
	for b.Loop() {
		s.watches.recheck(context.Background())
		for due() {
			time.Sleep(time.Millisecond)
		}
	}
	after, _ := redis.cpuTime(b)
	b.ReportMetric(float64(after-before)/1e3/float64(b.N*n), "store-µs/renewal")
}
