package redisstore

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"inbox/inbox"

	"github.com/redis/rueidis"
)

const (
	// replicaTimeout bounds the wait of a step for replicas. Together with the step
	// itself it must fit into callTimeout.
	replicaTimeout = 600 * time.Millisecond
	// degradedReplicaTimeout replaces replicaTimeout while replicas are known to be too
	// few, so that most steps fail fast; see degradedParts.
	degradedReplicaTimeout = 50 * time.Millisecond
	// maxReplicaWaits bounds the concurrent waits for replicas. Each has its own
	// connection, because WAIT blocks all later commands on a connection.
	maxReplicaWaits = 64
	// slotTimeout bounds the wait for such a connection.
	slotTimeout = 300 * time.Millisecond
)

var (
	// errUnreplicated reports a step that was executed, but can be lost in a failover.
	errUnreplicated = fmt.Errorf("%w: too few replicas acknowledged the change", inbox.ErrStoreUnavailable)
	// errTooManyWaits reports a step that was not executed.
	errTooManyWaits = fmt.Errorf("%w: too many requests are waiting for replicas", inbox.ErrStoreUnavailable)
)

// stepResult is the result of a step and its wait for replicas.
type stepResult struct {
	answer []rueidis.RedisMessage
	err    error
}

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
	done := make(chan stepResult, 1)
	go func() {
		defer func() { <-s.replicaSlots }()
		c, release := sess.Dedicate()
		defer release()
		answer, err := s.runOn(ctx, c, op, part, keys, argv)
		broken := err != nil && ctx.Err() != nil
		done <- stepResult{answer, err}
		if broken { // its reply can still arrive, so the connection must not be reused
			c.Close()
		}
	}()
	select {
	case r := <-done:
		return r.answer, r.err
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

// degradedParts records which parts of the store have too few replicas. In a cluster a
// part is a bucket, because each master has its own replicas; otherwise the store is
// the single part 0.
type degradedParts struct {
	mu      sync.Mutex
	parts   map[int]bool
	probing bool // whether a step tests if a degraded part has recovered
}

// replicaWait is the wait of one step for the replicas of a part.
type replicaWait struct {
	part    int
	timeout time.Duration
	isProbe bool
}

// begin returns how long a step waits. While a part is degraded, one step at a time
// waits long enough for distant replicas; the others wait briefly.
func (d *degradedParts) begin(part int) replicaWait {
	d.mu.Lock()
	defer d.mu.Unlock()
	tooFew := d.parts[part]
	if tooFew && d.probing {
		return replicaWait{part, degradedReplicaTimeout, false}
	}
	d.probing = d.probing || tooFew
	return replicaWait{part, replicaTimeout, tooFew}
}

// end records the result of a wait. It reports whether the first part became degraded
// or the last one recovered. A failed brief wait proves nothing.
func (d *degradedParts) end(w replicaWait, tooFew, gaveUp bool) (changed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := len(d.parts)
	if w.isProbe {
		d.probing = false
	}
	switch {
	case gaveUp:
	case !tooFew:
		delete(d.parts, w.part)
	case w.timeout == replicaTimeout:
		d.parts[w.part] = true
	}
	return (before == 0) != (len(d.parts) == 0)
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
