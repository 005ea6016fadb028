package redisstore

import (
	"context"
	"fmt"
	"strings"
	"time"

	"inbox/inbox"

	"github.com/redis/rueidis"
)

const (
	// replicaPatience is how long a step waits for replicas. With the step itself
	// it has to fit into patience.
	replicaPatience = 600 * time.Millisecond
	// fewPatience is that while the last step met too few, so that one after the
	// other is answered soon. It is enough for replicas that are back.
	fewPatience = 50 * time.Millisecond
	// maxWaits is how many steps wait for replicas at once, each on a connection
	// of its own: WAIT holds up all that comes behind it on one.
	maxWaits = 64
	// turnPatience is how long one waits for such a connection.
	turnPatience = 300 * time.Millisecond
	// lookAgainAfter is when a held poll looks for a message that could not be
	// handed out, for want of replicas.
	lookAgainAfter = time.Second
)

var (
	// errUnreplicated is a step that was done, and may not outlive a failover.
	errUnreplicated = fmt.Errorf("%w: too few replicas have what was done", inbox.ErrStoreAway)
	// errCrowded is a step that was not begun.
	errCrowded = fmt.Errorf("%w: too many requests wait for its replicas", inbox.ErrStoreAway)
)

// runAndWait runs a step, and returns once replicas have what it did. They have
// what it saw, too: a receiver must not know of an ID that a failover takes back,
// for the next message would have it, and be taken for one that was read.
func (s *Store) runAndWait(ctx context.Context, l *link, op string, keys, argv []string) (answer []rueidis.RedisMessage, err error) {
	turn := time.NewTimer(turnPatience)
	defer turn.Stop()
	select {
	case s.waits <- struct{}{}:
		defer func() { <-s.waits }()
	case <-turn.C:
		return nil, errCrowded
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c, release := l.Dedicate()
	defer release()
	result := c.Do(ctx, c.B().Evalsha().Sha1(scriptSHA).Numkeys(int64(len(keys))).Key(keys...).Arg(argv...).Build())
	if said, ok := rueidis.IsRedisErr(result.Error()); ok && said.IsNoScript() {
		result = c.Do(ctx, c.B().Eval().Script(mailboxScript).Numkeys(int64(len(keys))).Key(keys...).Arg(argv...).Build())
	}
	if answer, err = result.ToArray(); err != nil || !succeeded(op, answer) {
		return answer, err
	}
	return answer, s.awaitReplicas(ctx, c)
}

// awaitReplicas waits until enough of them have all that the connection did and
// saw. Whatever happens to the wait, that was done.
func (s *Store) awaitReplicas(ctx context.Context, c rueidis.DedicatedClient) error {
	patience := replicaPatience
	if s.few.Load() {
		patience = fewPatience
	}
	n, err := c.Do(ctx, c.B().Wait().Numreplicas(int64(s.replicas)).Timeout(patience.Milliseconds()).Build()).AsInt64()
	if ctx.Err() != nil && err != nil {
		return errUnreplicated // who asked gave up: it says nothing of the replicas
	}
	few := err != nil || n < int64(s.replicas)
	if s.few.Swap(few) != few {
		s.noteReplicas(few, n, err)
	}
	if few {
		return errUnreplicated
	}
	return nil
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
func (s *Store) noteReplicas(few bool, n int64, err error) {
	if !few {
		s.log.Info("enough replicas have what the store did", "store", s.address)
		return
	}
	s.log.Warn("too few replicas have what the store did, so requests are told to come back", "store", s.address,
		"replicas", n, "want", s.replicas, "err", err)
}
