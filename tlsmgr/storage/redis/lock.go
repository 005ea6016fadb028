package redis

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"inbox/tlsmgr/storage"
)

// leaseMargin is how long before it expires a lease is lost. It allows for clock
// drift and for calls in progress.
const leaseMargin = 2 * time.Second

// The token ensures that only the holder can renew or release a lock: after the lease
// has expired, the lock can hold the token of another node.
const (
	renewScript   = `if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0`
	releaseScript = `if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0`
	// fencedWriteScript writes only while the lock has the holder's token. A node that
	// was paused past the end of its lease writes nothing.
	fencedWriteScript = `if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end return redis.call(ARGV[2], KEYS[2], unpack(ARGV, 3))`
)

// lease is a lock that is held, and renewed until it is released or lost.
type lease struct {
	Storage
	key, token string
	ctx        context.Context // of the renewal; it ends when the lease is released or lost
	cancel     context.CancelFunc
	renewDone  chan struct{} // closed when the renewal goroutine has ended
	released   atomic.Bool
}

var _ storage.Lease = (*lease)(nil)

// MaxClockSkew is the largest difference between the clocks of a node and the store at
// which TryLock succeeds, because nodes share the times of orders.
const MaxClockSkew = time.Minute

// checkClock returns an error if this node's clock differs from the store's, which all
// nodes share, by more than MaxClockSkew.
func (s *Storage) checkClock(ctx context.Context) error {
	sentAt := s.now()
	reply, err := s.do(ctx, []string{"EVAL", "return redis.call('TIME')[1]", "1"}, s.valuesKey)
	if err != nil {
		return err
	}
	text, _ := reply.(string)
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return fmt.Errorf("unexpected reply to TIME: %T", reply)
	}
	if skew := time.Unix(seconds, 0).Sub(sentAt); skew.Abs() > MaxClockSkew {
		return fmt.Errorf("the clocks of this server and the store differ by %v, and no certificate is ordered with a wrong clock; "+
			"synchronize both (timedatectl set-ntp true)", skew.Abs().Round(time.Second))
	}
	return nil
}

// TryLock implements [storage.Storage]. It returns an error if this node's clock
// differs from the store's by more than [MaxClockSkew]. The lease is lost shortly before
// [LeaseDuration] has passed since the last successful renewal.
func (s *Storage) TryLock(ctx context.Context, name string) (storage.Lease, error) {
	if err := s.checkClock(ctx); err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	l := &lease{Storage: *s, key: s.lockPrefix + name, token: rand.Text(), renewDone: make(chan struct{})}
	l.Storage.write = l.fencedWrite
	sentAt := time.Now()
	reply, err := s.do(ctx, []string{"SET"}, l.key, l.token, "NX", "PX", milliseconds(LeaseDuration))
	if err != nil {
		l.unlock() // the store can have executed the command although the reply was lost
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	if reply == nil {
		return nil, storage.ErrLocked
	}
	l.ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go l.renew(sentAt)
	return l, nil
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// renew renews the lock until its context ends, and ends the context before another
// node can take the lock. It relies on the local clock, since the store can be
// unavailable.
func (l *lease) renew(acquiredAt time.Time) {
	defer close(l.renewDone)
	defer l.cancel()
	expiry := time.AfterFunc(time.Until(acquiredAt.Add(LeaseDuration-leaseMargin)), l.cancel)
	defer expiry.Stop()
	ticker := time.NewTicker(LeaseDuration / 5)
	defer ticker.Stop()
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-ticker.C:
		}
		sentAt := time.Now()
		renewed, err := l.do(l.ctx, []string{"EVAL", renewScript, "1"}, l.key, l.token, milliseconds(LeaseDuration))
		if err == nil && renewed != int64(1) {
			return // expired; another node can hold it
		}
		if err == nil && !expiry.Reset(time.Until(sentAt.Add(LeaseDuration-leaseMargin))) {
			return // renewed too late: the context has ended
		}
	}
}

// Done is closed when the lease is lost or released.
func (l *lease) Done() <-chan struct{} { return l.ctx.Done() }

// Err returns [storage.ErrLeaseLost] once the lease is lost.
func (l *lease) Err() error {
	if l.ctx.Err() != nil && !l.released.Load() {
		return storage.ErrLeaseLost
	}
	return nil
}

// Release implements [storage.Lease]. It can block for [CallTimeout].
func (l *lease) Release() {
	l.released.Store(l.ctx.Err() == nil)
	l.cancel()
	<-l.renewDone
	l.unlock()
}

// unlock tries once to release the lock. If that fails, the lease expires.
func (l *lease) unlock() {
	_, _ = l.do(context.Background(), []string{"EVAL", releaseScript, "1"}, l.key, l.token)
}

// fencedWrite runs a write command on the hash of values only while the lock is held.
func (l *lease) fencedWrite(ctx context.Context, command string, args ...string) error {
	reply, err := l.do(ctx, []string{"EVAL", fencedWriteScript, "2"}, l.key, append([]string{l.valuesKey, l.token, command}, args...)...)
	if err == nil && reply == int64(-1) {
		l.cancel()
		return storage.ErrLeaseLost
	}
	return err
}

// IsLocked implements [storage.Storage].
func (s *Storage) IsLocked(ctx context.Context, name string) (bool, error) {
	n, err := s.do(ctx, []string{"EXISTS"}, s.lockPrefix+name)
	return n == int64(1), err
}
