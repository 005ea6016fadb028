package redisstorage

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// lockPollInterval is how often Lock retries to take a lock.
const lockPollInterval = 500 * time.Millisecond

// leaseMargin is how long before the lease expires its context ends. It allows for
// clock drift and for calls in progress.
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

// ErrLockLost is wrapped by the errors of Store and Delete for the context of a lock
// that is no longer held.
var ErrLockLost = errors.New("lock expired or taken by another node")

// leaseKey is the context key of the lease that a context belongs to.
type leaseKey struct{ storage *Storage }

// lease is a held lock. It is renewed until it is released or lost.
type lease struct {
	context.Context // ends when the lock is released or lost
	cancel          context.CancelFunc
	storage         *Storage
	key, token      string
	renewDone       chan struct{} // closed when the renewal goroutine has ended
}

func (l *lease) Value(key any) any {
	if key == (leaseKey{l.storage}) {
		return l
	}
	return l.Context.Value(key)
}

// write runs a write command on the hash of values. With the context of a lock it
// fails with ErrLockLost if the lock is no longer held.
func (s *Storage) write(ctx context.Context, command string, args ...string) error {
	l, locked := ctx.Value(leaseKey{s}).(*lease)
	if !locked {
		_, err := s.do(ctx, []string{command}, s.valuesKey, args...)
		return err
	}
	reply, err := s.do(ctx, []string{"EVAL", fencedWriteScript, "2"}, l.key, append([]string{s.valuesKey, l.token, command}, args...)...)
	if err == nil && reply == int64(-1) {
		l.cancel()
		return ErrLockLost
	}
	return err
}

// maxClockSkew is the largest accepted difference between the clocks of a node and the
// store, because nodes share the times of orders.
const maxClockSkew = time.Minute

// checkClock returns an error if this node's clock differs from the store's, which all
// nodes share, by more than maxClockSkew.
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
	if skew := time.Unix(seconds, 0).Sub(sentAt); skew.Abs() > maxClockSkew {
		return fmt.Errorf("the clocks of this server and the store differ by %v, and no certificate is ordered with a wrong clock; "+
			"synchronize both (timedatectl set-ntp true)", skew.Abs().Round(time.Second))
	}
	return nil
}

// TryLock takes a lock if it is free, without waiting. It returns an error if this
// node's clock differs from the store's by more than a minute.
//
// lockCtx ends with ctx or when the lock is lost, which happens shortly before
// [LeaseDuration] has passed since the last successful renewal. Work under the lock
// must stop then. unlock must be called once; it can block for [CallTimeout].
func (s *Storage) TryLock(ctx context.Context, name string) (lockCtx context.Context, unlock func(), acquired bool, err error) {
	if err := s.checkClock(ctx); err != nil {
		return nil, nil, false, fmt.Errorf("lock %s: %w", name, err)
	}
	l, err := s.acquire(ctx, name)
	if l == nil || err != nil {
		return nil, nil, false, err
	}
	return l, func() { s.endLease(l) }, true, nil
}

// acquire takes a lock, or returns nil, nil if it is held.
func (s *Storage) acquire(ctx context.Context, name string) (*lease, error) {
	l := &lease{key: s.lockPrefix + name, token: rand.Text(), renewDone: make(chan struct{}), storage: s}
	sentAt := time.Now()
	reply, err := s.do(ctx, []string{"SET"}, l.key, l.token, "NX", "PX", milliseconds(LeaseDuration))
	if err != nil {
		// The store can have executed the command although the reply was lost.
		s.release(l)
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	if reply == nil {
		return nil, nil
	}
	l.Context, l.cancel = context.WithCancel(ctx)
	go s.renew(l, sentAt)
	return l, nil
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// renew renews a lock until its context ends, and ends the context before another
// node can take the lock. It relies on the local clock, since the store can be
// unavailable.
func (s *Storage) renew(l *lease, acquiredAt time.Time) {
	defer close(l.renewDone)
	defer l.cancel()
	expiry := time.AfterFunc(time.Until(acquiredAt.Add(LeaseDuration-leaseMargin)), l.cancel)
	defer expiry.Stop()
	ticker := time.NewTicker(LeaseDuration / 5)
	defer ticker.Stop()
	for {
		select {
		case <-l.Done():
			return
		case <-ticker.C:
		}
		sentAt := time.Now()
		renewed, err := s.do(l, []string{"EVAL", renewScript, "1"}, l.key, l.token, milliseconds(LeaseDuration))
		if err == nil && renewed != int64(1) {
			return // expired; another node can hold it
		}
		if err == nil && !expiry.Reset(time.Until(sentAt.Add(LeaseDuration-leaseMargin))) {
			return // renewed too late: the context has ended
		}
	}
}

// endLease stops the renewal and releases the lock.
func (s *Storage) endLease(l *lease) {
	l.cancel()
	<-l.renewDone
	s.release(l)
}

// release tries once to release a lock. If that fails, the lease expires.
func (s *Storage) release(l *lease) {
	_, _ = s.do(context.Background(), []string{"EVAL", releaseScript, "1"}, l.key, l.token)
}

// IsLocked reports whether a lock is held, by any node.
func (s *Storage) IsLocked(ctx context.Context, name string) (bool, error) {
	n, err := s.do(ctx, []string{"EXISTS"}, s.lockPrefix+name)
	return n == int64(1), err
}

// Lock takes a lock and holds it until [Storage.Unlock]. It waits until the lock is
// free or ctx ends.
func (s *Storage) Lock(ctx context.Context, name string) error {
	for {
		l, err := s.acquire(context.WithoutCancel(ctx), name)
		if l != nil {
			s.mu.Lock()
			s.leases[name] = l
			s.mu.Unlock()
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("lock %s: %w", name, errors.Join(ctx.Err(), err))
		case <-time.After(lockPollInterval):
		}
	}
}

// Unlock releases a lock taken by [Storage.Lock]. It returns an error if this Storage
// does not hold the lock.
func (s *Storage) Unlock(_ context.Context, name string) error {
	s.mu.Lock()
	l := s.leases[name]
	delete(s.leases, name)
	s.mu.Unlock()
	if l == nil {
		return fmt.Errorf("unlock %s: not held", name)
	}
	s.endLease(l)
	return nil
}
