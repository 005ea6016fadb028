package doctor

import (
	"context"
	"errors"
	"testing"
	"time"

	"inbox/inbox/redisstore"
)

func TestDoctorFindsInStore(t *testing.T) {
	well := redisstore.ServerReport{Address: "redis.example.net:6379", Engine: "Valkey", Version: "8.1.1", UsedBytes: 1 << 20, MaxBytes: 1 << 30, Policy: "noeviction", AppendOnly: true, Fsync: "always"}
	report := func(spoil func(*redisstore.Report, *redisstore.ServerReport)) func(*stage) {
		return func(s *stage) {
			server := well
			r := redisstore.Report{Address: "redis://redis.example.net:6379", Kind: "standalone"}
			spoil(&r, &server)
			r.Servers = []redisstore.ServerReport{server}
			s.Store = func(context.Context) (redisstore.Report, error) { return r, nil }
		}
	}
	server := func(spoil func(*redisstore.ServerReport)) func(*stage) {
		return report(func(_ *redisstore.Report, s *redisstore.ServerReport) { spoil(s) })
	}
	ahead := func(d time.Duration) func(*stage) {
		return report(func(r *redisstore.Report, _ *redisstore.ServerReport) { r.Ahead = d })
	}
	nameless := func(s *stage) {
		ahead(time.Hour)(s)
		s.Domains = nil
	}
	examineAll(t, []spoiled{
		{"good", server(func(*redisstore.ServerReport) {}), expect{"store", Fine, "Valkey 8.1.1; it refuses what its 1024 MiB do not hold", ""}},
		{"away", func(s *stage) {
			s.Store = func(context.Context) (redisstore.Report, error) {
				return redisstore.Report{}, errors.New("connect: refused")
			}
		}, expect{"store", Failed, "cannot be used: connect: refused", "Make sure that it runs"}},
		{"another key", report(func(r *redisstore.Report, _ *redisstore.ServerReport) { r.OtherKey = true }), expect{"store", Failed, "have another key", "-store-key-file"}},
		{"unused", report(func(r *redisstore.Report, _ *redisstore.ServerReport) { r.Fresh = true }), expect{"store", Fine, "No server has used it yet", ""}},
		{"behind", ahead(time.Hour), expect{"store", Failed, "1h0m0s behind that of the store. So no certificate is ordered", "timedatectl"}},
		{"ahead", ahead(-40 * time.Second), expect{"store", Warned, "40s ahead of that of the store", "timedatectl"}},
		{"behind, without a name", nameless, expect{"store", Warned, "1h0m0s behind", "timedatectl"}},
		{"old", server(func(s *redisstore.ServerReport) { s.Engine, s.Version, s.TooOld = "Redis", "5.0.7", true }), expect{"store", Failed, "It is Redis 5.0.7", "Use Redis 6.0"}},
		{"alone", report(func(r *redisstore.Report, _ *redisstore.ServerReport) { r.Replicas = 1 }), expect{"store", Failed, "It has 0 replicas that are up to date, and -store-replicas wants 1", "more replicas"}},
		{"unbound", server(func(s *redisstore.ServerReport) { s.MaxBytes = 0 }), expect{"store", Warned, "no bound", "Set maxmemory"}},
		{"evicting", server(func(s *redisstore.ServerReport) { s.Policy = "allkeys-lru" }), expect{"store", Failed, "drops mailboxes", "noeviction"}},
		{"nearly full", server(func(s *redisstore.ServerReport) { s.UsedBytes = 1000 << 20 }), expect{"store", Warned, "1000 of its 1024 MiB", "Raise maxmemory"}},
		{"forgetful", server(func(s *redisstore.ServerReport) { s.AppendOnly = false }), expect{"store", Warned, "its restart loses all mailboxes", "appendonly yes"}},
		{"on a full disk", server(func(s *redisstore.ServerReport) { s.WriteFailed = true }), expect{"store", Failed, "cannot write", "disk is full"}},
		{"every second", server(func(s *redisstore.ServerReport) { s.Fsync = "everysec" }), expect{"store", Warned, "appendfsync everysec", "appendfsync always"}},
	})
}
