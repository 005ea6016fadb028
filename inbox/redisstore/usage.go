package redisstore

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

const (
	// refreshEvery is the interval between refreshes. It bounds how long the changes of
	// other nodes and the end of an outage go unnoticed.
	refreshEvery = time.Second
	// refreshShare limits refreshes of a large store to a twentieth of the time.
	refreshShare = 20
	// maxRefreshInterval bounds the interval that results from refreshShare.
	maxRefreshInterval = time.Minute
	// bucketsPerPipeline is the number of buckets that one pipeline reads.
	bucketsPerPipeline = 16
	// reclaimEvery limits how often requests sweep a full store, because clients can
	// repeat a rejected request at any rate. Above maxReclaimSums sums, most of which
	// belong to payers, even that costs too much.
	reclaimEvery   = 100 * time.Millisecond
	maxReclaimSums = 20_000
	// sweepBatch is the number of mailboxes that one script checks.
	sweepBatch = 20
)

// refreshUsage refreshes the sums periodically and logs when the store becomes
// unavailable or available. It returns when ctx ends or the store has another secret.
func (s *Store) refreshUsage(ctx context.Context, sess *session) {
	wasUnavailable, took := false, time.Duration(0)
	for ctx.Err() == nil && s.checkIdentity(ctx, sess) {
		unavailable := s.Ready() != nil
		switch {
		case unavailable && !wasUnavailable:
			s.outages.Add(1)
			s.log.Warn("store unavailable", "store", s.address, "err", s.outageErr())
		case !unavailable && wasUnavailable:
			s.log.Info("store available again", "store", s.address)
			s.tasks.Go(func() { s.watches.recheck(ctx) })
		}
		wasUnavailable = unavailable
		s.waitForRefresh(ctx, max(refreshEvery, refreshShare*took))
		s.usage.mu.Lock()
		took = s.readUsage(ctx, sess)
		s.usage.mu.Unlock()
	}
}

// waitForRefresh pauses for d, or only briefly once a request has found the store
// unavailable: a refresh detects its return.
func (s *Store) waitForRefresh(ctx context.Context, d time.Duration) {
	for end := time.Now().Add(min(d, maxRefreshInterval)); ctx.Err() == nil && time.Now().Before(end); {
		pause(ctx, min(retryEvery, time.Until(end)))
		if s.Ready() != nil {
			return
		}
	}
}

// checkUsage returns nil if every bucket can be read.
func (s *Store) checkUsage(ctx context.Context, sess *session) error {
	s.usage.mu.Lock()
	defer s.usage.mu.Unlock()
	s.readUsage(ctx, sess)
	if s.usage.err != nil {
		return fmt.Errorf("read usage: %w", s.usage.err)
	}
	return nil
}

func (s *Store) outageErr() error {
	s.usage.mu.Lock()
	defer s.usage.mu.Unlock()
	return s.usage.err
}

// reclaim sweeps the store for a request that hit a limit, unless this was just done or
// the store is so large that the request must wait for the next refresh.
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

// readUsage sweeps every bucket and updates the sums, and returns how long that took. A
// bucket that cannot be read becomes unavailable and keeps its last sums.
func (s *Store) readUsage(ctx context.Context, sess *session) time.Duration {
	began := time.Now()
	s.ledger.beginRefresh()
	var wg sync.WaitGroup
	var parts [buckets / bucketsPerPipeline]error
	timedOut := false
	for i := range parts {
		part := func() { parts[i] = s.readUsagePart(ctx, sess, i*bucketsPerPipeline, began) }
		if timedOut { // the others run concurrently, so timeouts do not add up
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

// readUsagePart reads the sums of one pipeline of buckets. The timeout applies to a
// pipeline and not to the whole store, because the sums of a million payers are 40 MB.
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

// sweep sweeps some buckets. It returns those that have more to sweep, and an error of
// those that could not be read.
func (s *Store) sweep(ctx context.Context, sess *session, wanted []int) (more []int, reason error) {
	calls := make([]scriptCall, len(wanted))
	for i, bucket := range wanted {
		calls[i] = scriptCall{bucket, []string{"sweep", strconv.Itoa(sweepBatch)}}
	}
	for i, result := range s.runScripts(ctx, sess, calls) {
		bucket := wanted[i]
		n, err := s.applySweep(bucket, result)
		if err != nil {
			reason = err
		} else if n == sweepBatch {
			more = append(more, bucket)
		}
	}
	return more, reason
}

// applySweep stores the sums of one bucket and returns how many of its mailboxes were
// checked. A bucket with an error or an unexpected reply becomes unavailable to
// requests.
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
