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

// Report is the result of [Examine].
type Report struct {
	Address string // without credentials
	Kind    string // standalone, sentinel or cluster
	Servers []ServerReport
	// ClockSkew is how far the store's clock is ahead of the local one.
	ClockSkew time.Duration
	// Unused reports that no node has used the store yet. KeyMismatch reports that the
	// nodes using it have a key other than cfg.Key.
	Unused, KeyMismatch bool
	// Replicas is cfg.Replicas.
	Replicas int
}

// ServerReport describes one master of the store.
type ServerReport struct {
	Address                 string
	Product, Version        string // Redis or Valkey; other engines identify as Redis
	TooOld                  bool   // older than MinRedisVersion
	UsedBytes, MaxBytes     int64  // MaxBytes is 0 if unlimited
	EvictionPolicy          string
	AppendOnly, WriteFailed bool
	Fsync                   string // empty if CONFIG GET is not permitted
	Replicas                int    // up to date; queried only if cfg.Replicas > 0
}

// probeScript requires the same permissions as mailbox.lua. It changes nothing: the key
// that it deletes never exists, and no node subscribes to its channel.
const probeScript = `redis.call('DEL', KEYS[1] .. ':')
redis.call('PUBLISH', 'inbox:n:doctor', '!')
return redis.call('TIME')`

// Examine inspects a store as a node would find it and changes nothing there. The error
// says why a node could not use the store. Examine takes a few seconds at most, plus
// one second for each unresponsive server of a cluster.
func Examine(ctx context.Context, cfg Config) (r Report, err error) {
	r.Address, r.Replicas = cfg.Address.String(), cfg.Replicas
	client, err := rueidis.NewClient(cfg.Address.clientOption())
	if err != nil {
		return r, fmt.Errorf("connect: %w", err)
	}
	defer client.Close()
	callCtx, cancel := context.WithTimeout(ctx, 2*callTimeout)
	defer cancel()
	r.Kind = string(client.Mode())
	if err := r.measureClockSkew(callCtx, client); err != nil {
		return r, err
	}
	if err := r.checkKey(callCtx, client, cfg.Key); err != nil {
		return r, err
	}
	for address, srv := range client.Nodes() {
		if err := r.inspectServer(ctx, address, srv); err != nil {
			return r, err
		}
	}
	slices.SortFunc(r.Servers, func(a, b ServerReport) int { return strings.Compare(a.Address, b.Address) })
	return r, nil
}

// measureClockSkew runs the probe in every bucket, because each can be on another
// server.
func (r *Report) measureClockSkew(ctx context.Context, client rueidis.Client) error {
	var commands rueidis.Commands
	for i := range buckets {
		commands = append(commands, client.B().Eval().Script(probeScript).Numkeys(1).Key(bucketKey(i)).Build())
	}
	asked := time.Now()
	for _, result := range client.DoMulti(ctx, commands...) {
		clock, err := result.AsStrSlice()
		if err != nil {
			return fmt.Errorf("run a script that writes and publishes: %w", err)
		}
		seconds, err := strconv.ParseInt(clock[0], 10, 64)
		if err != nil {
			return errUnexpectedReply
		}
		if ahead := time.Unix(seconds, 0).Sub(asked).Round(time.Second); ahead.Abs() > r.ClockSkew.Abs() {
			r.ClockSkew = ahead
		}
	}
	return nil
}

func (r *Report) checkKey(ctx context.Context, client rueidis.Client, key []byte) error {
	stored, err := client.Do(ctx, client.B().Get().Key(secretKey).Build()).ToString()
	if rueidis.IsRedisNil(err) {
		r.Unused = true
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the secret: %w", err)
	}
	want := "secret "
	if key != nil {
		want = "sealed " + hex.EncodeToString(derive(key, "check"))
	}
	r.KeyMismatch = !strings.HasPrefix(stored, want)
	return nil
}

// inspectServer adds a report on a server, unless it is a replica.
func (r *Report) inspectServer(ctx context.Context, address string, srv rueidis.Client) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	info, err := fetchInfo(ctx, srv)
	if err != nil {
		return fmt.Errorf("INFO from %s: %w", address, err)
	}
	if info["role"] == "slave" {
		return nil
	}
	p := productOf(info)
	s := ServerReport{
		Address: address, Product: p.name, Version: p.version, TooOld: p.tooOld(), EvictionPolicy: info["maxmemory_policy"],
		AppendOnly: info["aof_enabled"] == "1", WriteFailed: info["aof_last_write_status"] == "err",
	}
	s.UsedBytes, _ = strconv.ParseInt(info["used_memory"], 10, 64) // 0 if missing
	s.MaxBytes, _ = strconv.ParseInt(info["maxmemory"], 10, 64)
	if config, err := srv.Do(ctx, srv.B().ConfigGet().Parameter("appendfsync").Build()).AsStrMap(); err == nil {
		s.Fsync = config["appendfsync"]
	}
	if r.Replicas > 0 {
		wait := srv.B().Wait().Numreplicas(int64(r.Replicas)).Timeout(replicaTimeout.Milliseconds()).Build()
		n, err := srv.Do(ctx, wait).AsInt64()
		if err != nil {
			return fmt.Errorf("WAIT for replicas of %s: %w", address, err)
		}
		s.Replicas = int(n)
	}
	r.Servers = append(r.Servers, s)
	return nil
}
