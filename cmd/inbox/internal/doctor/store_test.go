package doctor

import (
	"context"
	"errors"
	"testing"
	"time"

	"inbox/inbox/redisstore"
)

func TestDoctorChecksStore(t *testing.T) {
	healthy := redisstore.ServerReport{Address: "redis.example.net:6379", Product: "Valkey", Version: "8.1.1", UsedBytes: 1 << 20, MaxBytes: 1 << 30, EvictionPolicy: "noeviction", AppendOnly: true, Fsync: "always"}
	report := func(change func(*redisstore.Report, *redisstore.ServerReport)) func(*testEnv) {
		return func(s *testEnv) {
			server := healthy
			r := redisstore.Report{Address: "redis://redis.example.net:6379", Kind: "standalone"}
			change(&r, &server)
			r.Servers = []redisstore.ServerReport{server}
			s.Store = func(context.Context) (redisstore.Report, error) { return r, nil }
		}
	}
	server := func(change func(*redisstore.ServerReport)) func(*testEnv) {
		return report(func(_ *redisstore.Report, s *redisstore.ServerReport) { change(s) })
	}
	ahead := func(d time.Duration) func(*testEnv) {
		return report(func(r *redisstore.Report, _ *redisstore.ServerReport) { r.ClockSkew = d })
	}
	withoutDomains := func(s *testEnv) {
		ahead(time.Hour)(s)
		s.Domains = nil
	}
	runCases(t, []testCase{
		{"good", server(func(*redisstore.ServerReport) {}), expect{"store", OK, "Valkey 8.1.1 with 1024 MiB of memory", ""}},
		{"down", func(s *testEnv) {
			s.Store = func(context.Context) (redisstore.Report, error) {
				return redisstore.Report{}, errors.New("connect: refused")
			}
		}, expect{"store", Failure, "The store is unusable: connect: refused", "Make sure that it runs"}},
		{"another key", report(func(r *redisstore.Report, _ *redisstore.ServerReport) { r.KeyMismatch = true }), expect{"store", Failure, "with a different key", "-store-key-file"}},
		{"unused", report(func(r *redisstore.Report, _ *redisstore.ServerReport) { r.Unused = true }), expect{"store", OK, "No node has used the store yet", ""}},
		{"behind", ahead(time.Hour), expect{"store", Failure, "1h0m0s behind the clock of the store. No certificates are ordered", "timedatectl"}},
		{"ahead", ahead(-40 * time.Second), expect{"store", Warning, "40s ahead of the clock of the store", "timedatectl"}},
		{"behind, without domains", withoutDomains, expect{"store", Warning, "1h0m0s behind", "timedatectl"}},
		{"old", server(func(s *redisstore.ServerReport) { s.Product, s.Version, s.TooOld = "Redis", "5.0.7", true }), expect{"store", Failure, "Redis 5.0.7 is too old", "Use Redis 6.0"}},
		{"no replicas", report(func(r *redisstore.Report, _ *redisstore.ServerReport) { r.Replicas = 1 }), expect{"store", Failure, "0 replicas are up to date, but -store-replicas is 1", "Add replicas"}},
		{"no memory limit", server(func(s *redisstore.ServerReport) { s.MaxBytes = 0 }), expect{"store", Warning, "not limited", "Set maxmemory"}},
		{"evicting", server(func(s *redisstore.ServerReport) { s.EvictionPolicy = "allkeys-lru" }), expect{"store", Failure, "evicts mailboxes", "noeviction"}},
		{"nearly full", server(func(s *redisstore.ServerReport) { s.UsedBytes = 1000 << 20 }), expect{"store", Warning, "1000 of 1024 MiB", "Raise maxmemory"}},
		{"no append-only file", server(func(s *redisstore.ServerReport) { s.AppendOnly = false }), expect{"store", Warning, "its restart loses all mailboxes", "appendonly yes"}},
		{"full disk", server(func(s *redisstore.ServerReport) { s.WriteFailed = true }), expect{"store", Failure, "cannot write", "the disk is full"}},
		{"synced every second", server(func(s *redisstore.ServerReport) { s.Fsync = "everysec" }), expect{"store", Warning, "appendfsync everysec", "appendfsync always"}},
	})
}
