package redisstorage

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// pollLock is how often a lock that is taken is tried again.
const pollLock = 500 * time.Millisecond

// margin is how long before its lock runs out a holder stops, for clocks that
// walk at different speeds and for what it is in the middle of.
const margin = 2 * time.Second

// Only the holder may renew or free a lock: one that was too late finds
// another's token.
const (
	renewScript = `if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0`
	freeScript  = `if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0`
	// changeScript changes values while the lock is still its holder's. Whoever was
	// paused, and does not know yet for how long, changes nothing.
	changeScript = `if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end return redis.call(ARGV[2], KEYS[2], unpack(ARGV, 3))`
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
	renewing        chan struct{} // closed when nobody renews it any more
}

func (l *lease) Value(key any) any {
	if key == (leaseKey{l.storage}) {
		return l
	}
	return l.Context.Value(key)
}

// change runs a command on the values. In the context of a lock it does so only
// while that is held.
func (s *Storage) change(ctx context.Context, command string, args ...string) error {
	l, locked := ctx.Value(leaseKey{s}).(*lease)
	if !locked {
		_, err := s.do(ctx, []string{command}, s.values, args...)
		return err
	}
	done, err := s.do(ctx, []string{"EVAL", changeScript, "2"}, l.key, append([]string{s.values, l.token, command}, args...)...)
	if err == nil && done == int64(-1) {
		l.cancel()
		return ErrLockLost
	}
	return err
}

// maxSkew is how far the clocks of nodes may be apart: what they record of
// orders are times.
const maxSkew = time.Minute

// checkClock holds this node's clock against the store's, which all have in common.
func (s *Storage) checkClock(ctx context.Context) error {
	asked := s.now()
	answer, err := s.do(ctx, []string{"EVAL", "return redis.call('TIME')[1]", "1"}, s.values)
	if err != nil {
		return err
	}
	text, _ := answer.(string)
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return fmt.Errorf("the store tells the time as %T", answer)
	}
	if apart := time.Unix(seconds, 0).Sub(asked); apart.Abs() > maxSkew {
		return fmt.Errorf("this server's clock and the store's are %v apart, and nothing is ordered by a clock that may be wrong; "+
			"set both right (timedatectl set-ntp true)", apart.Abs().Round(time.Second))
	}
	return nil
}

// TryLock takes a lock unless somebody has it. A clock that is more than a minute
// from the store's is an error. The context it returns ends with
// ctx, or when the lock is lost, which is shortly before [Lease] has passed since
// the store was last reached; what needs the lock must stop then. Free must be called once, and may block for
// [CallTime].
func (s *Storage) TryLock(ctx context.Context, name string) (held context.Context, free func(), taken bool, err error) {
	if err := s.checkClock(ctx); err != nil {
		return nil, nil, false, fmt.Errorf("lock %s: %w", name, err)
	}
	l, err := s.take(ctx, name)
	if l == nil || err != nil {
		return nil, nil, false, err
	}
	return l, func() { s.free(l) }, true, nil
}

// take returns nil for a lock that somebody has.
func (s *Storage) take(ctx context.Context, name string) (*lease, error) {
	l := &lease{key: s.locks + name, token: rand.Text(), renewing: make(chan struct{}), storage: s}
	began := time.Now()
	answer, err := s.do(ctx, []string{"SET"}, l.key, l.token, "NX", "PX", milliseconds(Lease))
	if err != nil {
		// It may have been taken all the same.
		s.release(l)
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	if answer == nil {
		return nil, nil
	}
	l.Context, l.cancel = context.WithCancel(ctx)
	go s.renew(l, began)
	return l, nil
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// renew keeps a lock alive until its context ends, and ends that before the
// lock can be another's. Its own clock decides: the store may not be reached.
func (s *Storage) renew(l *lease, began time.Time) {
	defer close(l.renewing)
	defer l.cancel()
	over := time.AfterFunc(time.Until(began.Add(Lease-margin)), l.cancel)
	defer over.Stop()
	ticker := time.NewTicker(Lease / 5)
	defer ticker.Stop()
	for {
		select {
		case <-l.Done():
			return
		case <-ticker.C:
		}
		asked := time.Now()
		kept, err := s.do(l, []string{"EVAL", renewScript, "1"}, l.key, l.token, milliseconds(Lease))
		if err == nil && kept != int64(1) {
			return // it ran out, and may be somebody else's
		}
		if err == nil && !over.Reset(time.Until(asked.Add(Lease-margin))) {
			return // too late: the context has ended
		}
	}
}

// free ends a lease and gives the lock to the next.
func (s *Storage) free(l *lease) {
	l.cancel()
	<-l.renewing
	s.release(l)
}

// release makes one try; a lock that it cannot free runs out by itself.
func (s *Storage) release(l *lease) {
	_, _ = s.do(context.Background(), []string{"EVAL", freeScript, "1"}, l.key, l.token)
}

// Locked is whether anybody holds a lock.
func (s *Storage) Locked(ctx context.Context, name string) (bool, error) {
	n, err := s.do(ctx, []string{"EXISTS"}, s.locks+name)
	return n == int64(1), err
}

// Lock waits for a lock, for as long as ctx lives. It is held until [Storage.Unlock].
func (s *Storage) Lock(ctx context.Context, name string) error {
	for {
		l, err := s.take(context.WithoutCancel(ctx), name)
		if l != nil {
			s.mu.Lock()
			s.held[name] = l
			s.mu.Unlock()
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the lock of %s: %w", name, errors.Join(ctx.Err(), err))
		case <-time.After(pollLock):
		}
	}
}

// Unlock frees a lock that Lock took. One that is not held is an error.
func (s *Storage) Unlock(_ context.Context, name string) error {
	s.mu.Lock()
	l := s.held[name]
	delete(s.held, name)
	s.mu.Unlock()
	if l == nil {
		return fmt.Errorf("unlock %s: it is not held", name)
	}
	s.free(l)
	return nil
}
