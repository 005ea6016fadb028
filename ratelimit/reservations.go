package ratelimit

import (
	"sync"
	"time"
)

// reservations counts the attempts whose outcome is not known yet. Each could fail, so
// a bucket admits no more of them than it has tokens: attempts that begin together
// cannot all pass before the first one fails. An attempt that succeeds has used no
// token. The table has entries for running attempts only.
type reservations struct {
	mu      sync.Mutex
	running map[key]runningAttempts
}

// runningAttempts are the attempts that can still cost a token of one bucket.
type runningAttempts struct {
	count int
	ended chan struct{} // closed when one ends; nil unless another waits for that
}

// attemptKeys are the buckets of one attempt. The zero key is not limited.
type attemptKeys [4]key

// admitLocked returns whether the bucket has a token. Busy reports that all its tokens
// are reserved by running attempts.
func (s *reservations) admitLocked(l *Limiter, k key, now time.Time) (res Result, busy bool) {
	res = l.ready(k, now)
	if n := s.running[k].count; n > 0 && res.OK {
		busy = l.tokens(k, now) < float64(n+1)
	}
	return res, busy
}

func (s *reservations) addLocked(keys attemptKeys) {
	if s.running == nil {
		s.running = make(map[key]runningAttempts)
	}
	for _, k := range keys {
		if k != (key{}) {
			a := s.running[k]
			a.count++
			s.running[k] = a
		}
	}
}

// endedLocked returns a channel that is closed when a running attempt of k ends.
func (s *reservations) endedLocked(k key) <-chan struct{} {
	a := s.running[k]
	if a.ended == nil {
		a.ended = make(chan struct{})
		s.running[k] = a
	}
	return a.ended
}

func (s *reservations) release(keys attemptKeys) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range keys {
		a, ok := s.running[k]
		if !ok {
			continue
		}
		if a.ended != nil {
			close(a.ended)
		}
		if a.count > 1 {
			s.running[k] = runningAttempts{count: a.count - 1}
		} else {
			delete(s.running, k)
		}
	}
}
