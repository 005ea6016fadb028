package redisstorage

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// lockPollInterval is how often a lock that is taken is tried again.
const lockPollInterval = 500 * time.Millisecond

// leaseMargin is how long before its lock runs out a holder stops, for clocks that
// walk at different speeds and for what it is in the middle of.
const leaseMargin = 2 * time.Second

// Only the holder may renew or free a lock: one that was too late finds
// another's token.
const (
	renewScript   = `if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0`
	releaseScript = `if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0`
	// fencedWriteScript changes values while the lock is still its holder's. Whoever was
	// paused, and does not know yet for how long, changes nothing.
	fencedWriteScript = `if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end return redis.call(ARGV[2], KEYS[2], unpack(ARGV, 3))`
)

// ErrLockLost is wrapped by what Store and Delete return for the context of a
// lock that is not held any more.
var ErrLockLost = errors.New("the lock was lost, and may be another node's")

// leaseKey finds in a context the lock that it came with.
type leaseKey struct{ storage *Storage }

// lease is a lock that is held, and renewed until it is freed or lost.
type lease struct {
	context.Context // ends when the lock is freed or lost
	cancel          context.CancelFunc
	storage         *Storage
	key, token      string
	renewDone       chan struct{} // closed when nobody renews it any more
}

func (l *lease) Value(key any) any {
	if key == (leaseKey{l.storage}) {
		return l
	}
	return l.Context.Value(key)
}

// write runs a command on the values. In the context of a lock it does so only
// while that is held.
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

// maxClockSkew is how far the clocks of nodes may be apart: what they record of
// orders are times.
const maxClockSkew = time.Minute

// checkClock holds this node's clock against the store's, which all have in common.
func (s *Storage) checkClock(ctx context.Context) error {
	sentAt := s.now()
	reply, err := s.do(ctx, []string{"EVAL", "return redis.call('TIME')[1]", "1"}, s.valuesKey)
	if err != nil {
		return err
	}
	text, _ := reply.(string)
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return fmt.Errorf("the store tells the time as %T", reply)
	}
	if skew := time.Unix(seconds, 0).Sub(sentAt); skew.Abs() > maxClockSkew {
		return fmt.Errorf("this server's clock and the store's are %v apart, and nothing is ordered by a clock that may be wrong; "+
			"set both right (timedatectl set-ntp true)", skew.Abs().Round(time.Second))
	}
	return nil
}

// TryLock takes a lock unless somebody has it. A clock that is more than a minute
// from the store's is an error. The context it returns ends with
// ctx, or when the lock is lost, which is shortly before [LeaseDuration] has passed since
// the store was last reached; what needs the lock must stop then. Free must be called once, and may block for
// [CallTimeout].
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

// acquire returns nil for a lock that somebody has.
func (s *Storage) acquire(ctx context.Context, name string) (*lease, error) {
	l := &lease{key: s.lockPrefix + name, token: rand.Text(), renewDone: make(chan struct{}), storage: s}
	sentAt := time.Now()
	reply, err := s.do(ctx, []string{"SET"}, l.key, l.token, "NX", "PX", milliseconds(LeaseDuration))
	if err != nil {
		// It may have been taken all the same.
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

// renew keeps a lock alive until its context ends, and ends that before the
// lock can be another's. Its own clock decides: the store may not be reached.
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
			return // it ran out, and may be somebody else's
		}
		if err == nil && !expiry.Reset(time.Until(sentAt.Add(LeaseDuration-leaseMargin))) {
			return // too late: the context has ended
		}
	}
}

// endLease ends a lease and gives the lock to the next.
func (s *Storage) endLease(l *lease) {
	l.cancel()
	<-l.renewDone
	s.release(l)
}

// release makes one try; a lock that it cannot free runs out by itself.
func (s *Storage) release(l *lease) {
	_, _ = s.do(context.Background(), []string{"EVAL", releaseScript, "1"}, l.key, l.token)
}

// IsLocked is whether anybody holds a lock.
func (s *Storage) IsLocked(ctx context.Context, name string) (bool, error) {
	n, err := s.do(ctx, []string{"EXISTS"}, s.lockPrefix+name)
	return n == int64(1), err
}

// Lock waits for a lock, for as long as ctx lives. It is held until [Storage.Unlock].
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
			return fmt.Errorf("wait for the lock of %s: %w", name, errors.Join(ctx.Err(), err))
		case <-time.After(lockPollInterval):
		}
	}
}

// Unlock frees a lock that Lock took. One that is not held is an error.
func (s *Storage) Unlock(_ context.Context, name string) error {
	s.mu.Lock()
	l := s.leases[name]
	delete(s.leases, name)
	s.mu.Unlock()
	if l == nil {
		return fmt.Errorf("unlock %s: it is not held", name)
	}
	s.endLease(l)
	return nil
}
