package redisstore

import (
	"context"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// runReplicated executes a step and returns once replicas have acknowledged it. This
// includes steps that only read: if a receiver learns an ID that a failover undoes, the
// next message gets the same ID and is taken for one already read.
//
// It returns when ctx ends, but its goroutine can outlive it: connecting and closing in
// the client are not bounded by ctx.
func (s *Store) runReplicated(
	ctx context.Context, sess *session, op string, part int, keys, argv []string,
) ([]rueidis.RedisMessage, error) {
	if err := s.acquireSlot(ctx); err != nil {
		return nil, err
	}
	var answer []rueidis.RedisMessage
	var err error
	done := make(chan struct{})
	go func() {
		defer func() { <-s.replicaSlots }()
		c, release := sess.Dedicate()
		defer release()
		answer, err = s.runOn(ctx, c, op, part, keys, argv)
		broken := err != nil && ctx.Err() != nil
		close(done)
		if broken { // its reply can still arrive, so the connection must not be reused
			c.Close()
		}
	}()
	select {
	case <-done:
		return answer, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// acquireSlot waits for one of the maxReplicaWaits slots.
func (s *Store) acquireSlot(ctx context.Context) error {
	timer := time.NewTimer(slotTimeout)
	defer timer.Stop()
	select {
	case s.replicaSlots <- struct{}{}:
		return nil
	case <-timer.C:
		return errTooManyWaits
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Store) runOn(
	ctx context.Context, c rueidis.DedicatedClient, op string, part int, keys, argv []string,
) ([]rueidis.RedisMessage, error) {
	n := int64(len(keys))
	result := c.Do(ctx, c.B().Evalsha().Sha1(scriptSHA).Numkeys(n).Key(keys...).Arg(argv...).Build())
	if redisErr, ok := rueidis.IsRedisErr(result.Error()); ok && redisErr.IsNoScript() {
		result = c.Do(ctx, c.B().Eval().Script(mailboxScript).Numkeys(n).Key(keys...).Arg(argv...).Build())
	}
	answer, err := result.ToArray()
	if err != nil || !succeeded(op, answer) {
		return answer, err
	}
	return answer, s.awaitReplicas(ctx, c, part)
}

// awaitReplicas waits until enough replicas have acknowledged all that was written and
// read on the connection. If the wait fails, the step was still executed.
func (s *Store) awaitReplicas(ctx context.Context, c rueidis.DedicatedClient, part int) error {
	w := s.degraded.begin(part)
	wait := c.B().Wait().Numreplicas(int64(s.replicas)).Timeout(w.timeout.Milliseconds()).Build()
	n, err := c.Do(ctx, wait).AsInt64()
	tooFew := err != nil || n < int64(s.replicas)
	gaveUp := err != nil && ctx.Err() != nil // canceled by the caller: says nothing about the replicas
	if s.degraded.end(w, tooFew, gaveUp) {
		s.noteReplicas(tooFew, n, err)
	}
	if tooFew {
		return errUnreplicated
	}
	return nil
}

// succeeded reports whether a step did or found what was requested. A reply begins with
// the changes of sums; of two combined steps, the second counts.
func succeeded(op string, answer []rueidis.RedisMessage) bool {
	at := 1
	if strings.HasPrefix(op, "open ") && len(answer) > 5 {
		at = 5
	}
	if len(answer) <= at {
		return false
	}
	status, err := answer[at].ToString()
	return err == nil && status == "ok"
}

// noteReplicas logs the beginning and the end of a shortage of replicas.
func (s *Store) noteReplicas(tooFew bool, n int64, err error) {
	if !tooFew {
		s.log.Info("enough replicas acknowledge writes again", "store", s.address)
		return
	}
	s.log.Warn("too few replicas acknowledge writes; requests get 503", "store", s.address,
		"replicas", n, "want", s.replicas, "err", err)
}
