package redisstore

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"inbox/inbox"

	"github.com/redis/rueidis"
)

const (
	// refreshEvery is how often a node asks what the others did, and how long
	// a store that was away may be back unnoticed.
	refreshEvery = time.Second
	// refreshShare bounds the time that refreshing a large store takes to a
	// twentieth.
	refreshShare = 20
	// maxRefreshInterval is the longest that a node knows nothing of what others do.
	maxRefreshInterval = time.Minute
	// bucketsPerPipeline is how many buckets are asked in one pipeline.
	bucketsPerPipeline = 16
	// reclaimEvery bounds how often a full store is swept for a request, for one
	// who is refused may ask as often as he likes. With more than reclaimMost
	// sums, of which most are payers', that would still be too much work.
	reclaimEvery   = 100 * time.Millisecond
	maxReclaimSums = 20_000
	// sweepBatch mailboxes are ended in one script.
	sweepBatch = 20
)

// usageCache is what the store said of its sums when it was last asked.
type usageCache struct {
	mu        sync.Mutex // held while it is asked
	last      [buckets]sums
	refreshed time.Time
	sumCount  atomic.Int64 // sums of all buckets
	err       error        // that some of them did not answer
}

// refreshUsage asks the store again and again, and notes which of it is there. It
// returns when ctx ends, or the store has another secret.
func (s *Store) refreshUsage(ctx context.Context, sess *session) {
	wasUnavailable, took := false, time.Duration(0)
	for ctx.Err() == nil && s.checkIdentity(ctx, sess) {
		unavailable := s.Ready() != nil
		switch {
		case unavailable && !wasUnavailable:
			s.outages.Add(1)
			s.log.Warn("the store, or a part of it, is away", "store", s.address, "err", s.outageErr())
		case !unavailable && wasUnavailable:
			s.log.Info("the store is back", "store", s.address)
			s.tasks.Go(func() { s.waiters.wakeAll(ctx) })
		}
		wasUnavailable = unavailable
		s.waitForRefresh(ctx, max(refreshEvery, refreshShare*took))
		s.usage.mu.Lock()
		took = s.readUsage(ctx, sess)
		s.usage.mu.Unlock()
	}
}

// waitForRefresh pauses, but not for long once a request found the store away: whether it
// is back is only found out by asking.
func (s *Store) waitForRefresh(ctx context.Context, d time.Duration) {
	for end := time.Now().Add(min(d, maxRefreshInterval)); ctx.Err() == nil && time.Now().Before(end); {
		pause(ctx, min(retryEvery, time.Until(end)))
		if s.Ready() != nil {
			return
		}
	}
}

// checkUsage is nil when every part of the store does what it is told.
func (s *Store) checkUsage(ctx context.Context, sess *session) error {
	s.usage.mu.Lock()
	defer s.usage.mu.Unlock()
	s.readUsage(ctx, sess)
	if s.usage.err != nil {
		return fmt.Errorf("ask for its sums: %w", s.usage.err)
	}
	return nil
}

func (s *Store) outageErr() error {
	s.usage.mu.Lock()
	defer s.usage.mu.Unlock()
	return s.usage.err
}

// checkBuckets is Ready, of a store that was found.
func (s *Store) checkBuckets() error {
	for i := range s.unavailable {
		if s.unavailable[i].Load() {
			return fmt.Errorf("%w: a part of %s", inbox.ErrStoreUnavailable, s.address)
		}
	}
	return nil
}

// reclaim sweeps for a request that met a limit, unless that was just done, or
// the store is so large that it waits for the next look.
func (s *Store) reclaim(ctx context.Context) {
	sess := s.session.Load()
	if sess == nil || s.usage.sumCount.Load() > maxReclaimSums {
		return
	}
	s.usage.mu.Lock()
	defer s.usage.mu.Unlock()
	if time.Since(s.usage.refreshed) >= reclaimEvery {
		s.readUsage(ctx, sess)
	}
}

// readUsage sweeps every bucket and takes in its sums. A bucket that does not
// answer is away, and counts with what it last said. It returns what it took.
func (s *Store) readUsage(ctx context.Context, sess *session) time.Duration {
	began := time.Now()
	s.ledger.beginRefresh()
	var wg sync.WaitGroup
	var parts [buckets / bucketsPerPipeline]error
	timedOut := false
	for i := range parts {
		part := func() { parts[i] = s.readUsagePart(ctx, sess, i*bucketsPerPipeline, began) }
		if timedOut { // not one time-out after the other
			wg.Go(part)
			continue
		}
		part()
		timedOut = parts[i] != nil
	}
	wg.Wait()
	s.usage.err = cmp.Or(parts[:]...)
	s.ledger.replace(&s.usage.last)
	size := 0
	for i := range s.usage.last {
		size += len(s.usage.last[i].values)
	}
	s.usage.sumCount.Store(int64(size))
	s.usage.refreshed = time.Now()
	return s.usage.refreshed.Sub(began)
}

// readUsagePart reads the books of some buckets. It is a part of them that has to
// come in time: those of a million payers are 40 MB in all.
func (s *Store) readUsagePart(ctx context.Context, sess *session, from int, began time.Time) (err error) {
	callCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	var wanted []int
	for i := range bucketsPerPipeline {
		wanted = append(wanted, from+i)
	}
	for again := true; again; again = len(wanted) > 0 && err == nil && time.Since(began) < callTimeout {
		wanted, err = s.sweep(callCtx, sess, wanted)
	}
	return err
}

// sweep asks some buckets and returns those that have more to sweep, and the
// last error of those that did not answer.
func (s *Store) sweep(ctx context.Context, sess *session, wanted []int) (more []int, reason error) {
	commands := make(rueidis.Commands, len(wanted))
	for i, bucket := range wanted {
		commands[i] = sess.B().Evalsha().Sha1(scriptSHA).Numkeys(1).Key(bucketKey(bucket)).
			Arg("sweep", strconv.FormatInt(s.limits.Timeout.Milliseconds(), 10), s.node, strconv.Itoa(sweepBatch)).Build()
	}
	for i, result := range sess.DoMulti(ctx, commands...) {
		bucket := wanted[i]
		if answer, ok := rueidis.IsRedisErr(result.Error()); ok && answer.IsNoScript() {
			result = s.script.Exec(ctx, sess, []string{bucketKey(bucket)},
				[]string{"sweep", strconv.FormatInt(s.limits.Timeout.Milliseconds(), 10), s.node, strconv.Itoa(sweepBatch)})
		}
		n, err := s.applySweep(bucket, result)
		if err != nil {
			reason = err
		} else if n == sweepBatch {
			more = append(more, bucket)
		}
	}
	return more, reason
}

// applySweep takes in what one bucket answered, and returns how many mailboxes were
// looked at in it. One that does anything else than what it is asked is away, as
// far as requests are concerned.
func (s *Store) applySweep(bucket int, result rueidis.RedisResult) (int64, error) {
	n, current, err := readSweep(result)
	s.unavailable[bucket].Store(err != nil)
	if err == nil {
		s.usage.last[bucket] = current
	}
	return n, err
}

func readSweep(result rueidis.RedisResult) (n int64, current sums, err error) {
	answer, err := result.ToArray()
	if err != nil {
		return 0, current, err
	}
	if len(answer) != 2 {
		return 0, current, errUnexpectedReply
	}
	if n, err = answer[0].AsInt64(); err != nil {
		return 0, current, errUnexpectedReply
	}
	current, err = readSums(answer[1])
	return n, current, err
}
