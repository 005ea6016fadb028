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
	// replicaTimeout is how long a step waits for replicas. With the step itself
	// it has to fit into patience.
	replicaTimeout = 600 * time.Millisecond
	// degradedReplicaTimeout is that while replicas are known to be too few, so that most are
	// answered soon; see shortage.
	degradedReplicaTimeout = 50 * time.Millisecond
	// maxReplicaWaits is how many steps wait for replicas at once, each on a connection
	// of its own: WAIT holds up all that comes behind it on one.
	maxReplicaWaits = 64
	// slotTimeout is how long one waits for such a connection.
	slotTimeout = 300 * time.Millisecond
	// peekAgainAfter is when a held poll looks for a message that could not be
	// handed out, for want of replicas.
	peekAgainAfter = time.Second
)

var (
	// errUnreplicated is a step that was done, and may not outlive a failover.
	errUnreplicated = fmt.Errorf("%w: too few replicas have what was done", inbox.ErrStoreUnavailable)
	// errTooManyWaits is a step that was not begun.
	errTooManyWaits = fmt.Errorf("%w: too many requests wait for its replicas", inbox.ErrStoreUnavailable)
)

// stepResult is what became of a step and the wait for its replicas.
type stepResult struct {
	answer []rueidis.RedisMessage
	err    error
}

// runReplicated runs a step, and returns once replicas have what it did. They have
// what it saw, too: a receiver must not know of an ID that a failover takes back,
// for the next message would have it, and be taken for one that was read.
//
// It ends with ctx, though not the goroutine that it starts: the client connects,
// and tidies a connection up, for as long as it likes.
func (s *Store) runReplicated(ctx context.Context, sess *session, op string, part int, keys, argv []string) ([]rueidis.RedisMessage, error) {
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
		if broken { // what was asked may still be on its way
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

// acquireSlot waits for one of the few places of those who wait for replicas.
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

func (s *Store) runOn(ctx context.Context, c rueidis.DedicatedClient, op string, part int, keys, argv []string) ([]rueidis.RedisMessage, error) {
	result := c.Do(ctx, c.B().Evalsha().Sha1(scriptSHA).Numkeys(int64(len(keys))).Key(keys...).Arg(argv...).Build())
	if redisErr, ok := rueidis.IsRedisErr(result.Error()); ok && redisErr.IsNoScript() {
		result = c.Do(ctx, c.B().Eval().Script(mailboxScript).Numkeys(int64(len(keys))).Key(keys...).Arg(argv...).Build())
	}
	answer, err := result.ToArray()
	if err != nil || !succeeded(op, answer) {
		return answer, err
	}
	return answer, s.awaitReplicas(ctx, c, part)
}

// awaitReplicas waits until enough of them have all that the connection did and
// saw. Whatever happens to the wait, that was done.
func (s *Store) awaitReplicas(ctx context.Context, c rueidis.DedicatedClient, part int) error {
	w := s.degraded.begin(part)
	n, err := c.Do(ctx, c.B().Wait().Numreplicas(int64(s.replicas)).Timeout(w.timeout.Milliseconds()).Build()).AsInt64()
	tooFew := err != nil || n < int64(s.replicas)
	gaveUp := err != nil && ctx.Err() != nil // who asked did: it says nothing of the replicas
	if s.degraded.end(w, tooFew, gaveUp) {
		s.noteReplicas(tooFew, n, err)
	}
	if tooFew {
		return errUnreplicated
	}
	return nil
}

// degradedParts is which parts of the store have too few replicas: buckets of a
// cluster, whose masters each have their own, else the one part 0.
type degradedParts struct {
	mu      sync.Mutex
	parts   map[int]bool
	probing bool // whether a step finds out if one is over
}

// replicaWait is one step's wait for the replicas of a part.
type replicaWait struct {
	part    int
	timeout time.Duration
	isProbe bool
}

// begin says how long a step waits. While replicas are too few one step at a time
// waits long enough for those that are far away, and the others briefly.
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

// end takes in what a wait came to, and is true when that is news: a shortage
// began where none was, or the last is over. A brief wait in vain tells nothing.
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

// succeeded is whether a step did or found what it was asked for. Its answer
// begins with changes of sums; of two steps in one, the second counts.
func succeeded(op string, answer []rueidis.RedisMessage) bool {
	at := 1
	if strings.HasPrefix(op, "open ") && len(answer) > 4 {
		at = 4
	}
	if len(answer) <= at {
		return false
	}
	status, err := answer[at].ToString()
	return err == nil && status == "ok"
}

// noteReplicas logs when replicas begin and cease to be too few.
func (s *Store) noteReplicas(tooFew bool, n int64, err error) {
	if !tooFew {
		s.log.Info("enough replicas have what the store did", "store", s.address)
		return
	}
	s.log.Warn("too few replicas have what the store did, so requests are told to come back", "store", s.address,
		"replicas", n, "want", s.replicas, "err", err)
}
