package redisstore

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// Report is what a look at a store found; see [Examine].
type Report struct {
	Address string // without its secrets
	Kind    string // standalone, sentinel or cluster
	Servers []ServerReport
	// Ahead is how far the store's clock is ahead of this machine's.
	Ahead time.Duration
	// Fresh is whether no node was ever here; OtherKey, whether those that were
	// have another key than cfg.Key.
	Fresh, OtherKey bool
	// Replicas is cfg.Replicas.
	Replicas int
}

// ServerReport is one server that is written to.
type ServerReport struct {
	Address                 string
	Engine, Version         string // Redis or Valkey; others say that they are Redis
	TooOld                  bool   // to be used
	UsedBytes, MaxBytes     int64  // MaxBytes is 0 where there is no bound
	Policy                  string
	AppendOnly, WriteFailed bool
	Fsync                   string // empty where that may not be asked
	Replicas                int    // that have all it has; asked for when there have to be any
}

// probe is harmless and needs the rights that mailboxes need: it deletes what is
// never there, and tells nobody anything.
const probe = `redis.call('DEL', KEYS[1] .. ':'); redis.call('PUBLISH', 'inbox:n:doctor', '!'); return redis.call('TIME')`

// Examine looks at a store as a node would find it, and leaves nothing there. An
// error is why a node could not use it. It ends within a few seconds, or one for
// each server of a cluster.
func Examine(ctx context.Context, cfg Config) (r Report, err error) {
	r.Address, r.Replicas = cfg.Address.String(), cfg.Replicas
	client, err := rueidis.NewClient(cfg.Address.option())
	if err != nil {
		return r, fmt.Errorf("connect: %w", err)
	}
	defer client.Close()
	asking, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	r.Kind = string(client.Mode())
	if err := r.askTime(asking, client); err != nil {
		return r, err
	}
	if err := r.askKey(asking, client, cfg.Key); err != nil {
		return r, err
	}
	for address, one := range client.Nodes() {
		if err := r.askServer(ctx, address, one); err != nil {
			return r, err
		}
	}
	slices.SortFunc(r.Servers, func(a, b ServerReport) int { return strings.Compare(a.Address, b.Address) })
	return r, nil
}

// askTime runs the probe in every bucket: each may be at another server.
func (r *Report) askTime(ctx context.Context, client rueidis.Client) error {
	var commands rueidis.Commands
	for i := range buckets {
		commands = append(commands, client.B().Eval().Script(probe).Numkeys(1).Key(bucketKey(i)).Build())
	}
	asked := time.Now()
	for _, result := range client.DoMulti(ctx, commands...) {
		clock, err := result.AsStrSlice()
		if err != nil {
			return fmt.Errorf("run a script that writes and publishes: %w", err)
		}
		seconds, err := strconv.ParseInt(clock[0], 10, 64)
		if err != nil {
			return errGarbage
		}
		if ahead := time.Unix(seconds, 0).Sub(asked).Round(time.Second); ahead.Abs() > r.Ahead.Abs() {
			r.Ahead = ahead
		}
	}
	return nil
}

func (r *Report) askKey(ctx context.Context, client rueidis.Client, key []byte) error {
	kept, err := client.Do(ctx, client.B().Get().Key(secretKey).Build()).ToString()
	if rueidis.IsRedisNil(err) {
		r.Fresh = true
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the secret: %w", err)
	}
	want := "secret "
	if key != nil {
		want = "sealed " + hex.EncodeToString(derive(key, "check"))
	}
	r.OtherKey = !strings.HasPrefix(kept, want)
	return nil
}

// askServer adds a server, unless it is a replica.
func (r *Report) askServer(ctx context.Context, address string, one rueidis.Client) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	info, err := askInfo(ctx, one)
	if err != nil {
		return fmt.Errorf("ask %s about itself: %w", address, err)
	}
	if info["role"] == "slave" {
		return nil
	}
	e := engineOf(info)
	s := ServerReport{
		Address: address, Engine: e.name, Version: e.version, TooOld: e.tooOld(), Policy: info["maxmemory_policy"],
		AppendOnly: info["aof_enabled"] == "1", WriteFailed: info["aof_last_write_status"] == "err",
	}
	s.UsedBytes, _ = strconv.ParseInt(info["used_memory"], 10, 64) // 0 when it does not say
	s.MaxBytes, _ = strconv.ParseInt(info["maxmemory"], 10, 64)
	if asked, err := one.Do(ctx, one.B().ConfigGet().Parameter("appendfsync").Build()).AsStrMap(); err == nil {
		s.Fsync = asked["appendfsync"]
	}
	if r.Replicas > 0 {
		n, err := one.Do(ctx, one.B().Wait().Numreplicas(int64(r.Replicas)).Timeout(replicaPatience.Milliseconds()).Build()).AsInt64()
		if err != nil {
			return fmt.Errorf("ask %s for its replicas: %w", address, err)
		}
		s.Replicas = int(n)
	}
	r.Servers = append(r.Servers, s)
	return nil
}
