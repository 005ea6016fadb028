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
	// refreshLatest is the longest that a node knows nothing of what others do.
	refreshLatest = time.Minute
	// sweepAtOnce is how many buckets are asked in one pipeline.
	sweepAtOnce = 16
	// reclaimEvery bounds how often a full store is swept for a request, for one
	// who is refused may ask as often as he likes. With more than reclaimMost
	// sums, of which most are payers', that would still be too much work.
	reclaimEvery = 100 * time.Millisecond
	reclaimMost  = 20_000
	// sweepBatch mailboxes are ended in one script.
	sweepBatch = 20
)

// books is what the store said of its sums when it was last asked.
type books struct {
	mu    sync.Mutex // held while it is asked
	last  [buckets]sums
	ended time.Time
	size  atomic.Int64 // sums of all buckets
	why   error        // that some of them did not answer
}

// keepBooks asks the store again and again, and notes which of it is there. It
// returns when ctx ends, or the store has another secret.
func (s *Store) keepBooks(ctx context.Context, l *link) {
	wasAway, took := false, time.Duration(0)
	for ctx.Err() == nil && s.checkIdentity(ctx, l) {
		away := s.Ready() != nil
		switch {
		case away && !wasAway:
			s.outages.Add(1)
			s.log.Warn("the store, or a part of it, is away", "store", s.address, "err", s.whyAway())
		case !away && wasAway:
			s.log.Info("the store is back", "store", s.address)
			s.done.Go(func() { s.waiters.wakeAll(ctx) })
		}
		wasAway = away
		s.rest(ctx, max(refreshEvery, refreshShare*took))
		s.books.mu.Lock()
		took = s.readBooks(ctx, l)
		s.books.mu.Unlock()
	}
}

// rest pauses, but not for long once a request found the store away: whether it
// is back is only found out by asking.
func (s *Store) rest(ctx context.Context, d time.Duration) {
	for end := time.Now().Add(min(d, refreshLatest)); ctx.Err() == nil && time.Now().Before(end); {
		pause(ctx, min(retryEvery, time.Until(end)))
		if s.Ready() != nil {
			return
		}
	}
}

// firstBooks is nil when every part of the store does what it is told.
func (s *Store) firstBooks(ctx context.Context, l *link) error {
	s.books.mu.Lock()
	defer s.books.mu.Unlock()
	s.readBooks(ctx, l)
	if s.books.why != nil {
		return fmt.Errorf("ask for its sums: %w", s.books.why)
	}
	return nil
}

func (s *Store) whyAway() error {
	s.books.mu.Lock()
	defer s.books.mu.Unlock()
	return s.books.why
}

// partsAway is Ready, of a store that was found.
func (s *Store) partsAway() error {
	for i := range s.away {
		if s.away[i].Load() {
			return fmt.Errorf("%w: a part of %s", inbox.ErrStoreAway, s.address)
		}
	}
	return nil
}

// reclaim sweeps for a request that met a limit, unless that was just done, or
// the store is so large that it waits for the next look.
func (s *Store) reclaim(ctx context.Context) {
	l := s.link.Load()
	if l == nil || s.books.size.Load() > reclaimMost {
		return
	}
	s.books.mu.Lock()
	defer s.books.mu.Unlock()
	if time.Since(s.books.ended) >= reclaimEvery {
		s.readBooks(ctx, l)
	}
}

// readBooks sweeps every bucket and takes in its sums. A bucket that does not
// answer is away, and counts with what it last said. It returns what it took.
func (s *Store) readBooks(ctx context.Context, l *link) time.Duration {
	began := time.Now()
	s.ledger.begin()
	var rest sync.WaitGroup
	var parts [buckets / sweepAtOnce]error
	late := false
	for i := range parts {
		part := func() { parts[i] = s.readPart(ctx, l, i*sweepAtOnce, began) }
		if late { // not one time-out after the other
			rest.Go(part)
			continue
		}
		part()
		late = parts[i] != nil
	}
	rest.Wait()
	s.books.why = cmp.Or(parts[:]...)
	s.ledger.replace(&s.books.last)
	size := 0
	for i := range s.books.last {
		size += len(s.books.last[i].held)
	}
	s.books.size.Store(int64(size))
	s.books.ended = time.Now()
	return s.books.ended.Sub(began)
}

// readPart reads the books of some buckets. It is a part of them that has to
// come in time: those of a million payers are 40 MB in all.
func (s *Store) readPart(ctx context.Context, l *link, from int, began time.Time) (err error) {
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	var wanted []int
	for i := range sweepAtOnce {
		wanted = append(wanted, from+i)
	}
	for again := true; again; again = len(wanted) > 0 && err == nil && time.Since(began) < patience {
		wanted, err = s.sweep(asking, l, wanted)
	}
	return err
}

// sweep asks some buckets and returns those that have more to sweep, and the
// last error of those that did not answer.
func (s *Store) sweep(ctx context.Context, l *link, wanted []int) (more []int, why error) {
	commands := make(rueidis.Commands, len(wanted))
	for i, bucket := range wanted {
		commands[i] = l.B().Evalsha().Sha1(scriptSHA).Numkeys(1).Key(bucketKey(bucket)).
			Arg("sweep", strconv.FormatInt(s.limits.Timeout.Milliseconds(), 10), s.node, strconv.Itoa(sweepBatch)).Build()
	}
	for i, result := range l.DoMulti(ctx, commands...) {
		bucket := wanted[i]
		if answer, ok := rueidis.IsRedisErr(result.Error()); ok && answer.IsNoScript() {
			result = s.script.Exec(ctx, l, []string{bucketKey(bucket)},
				[]string{"sweep", strconv.FormatInt(s.limits.Timeout.Milliseconds(), 10), s.node, strconv.Itoa(sweepBatch)})
		}
		n, err := s.swept(bucket, result)
		if err != nil {
			why = err
		} else if n == sweepBatch {
			more = append(more, bucket)
		}
	}
	return more, why
}

// swept takes in what one bucket answered, and returns how many mailboxes were
// looked at in it. One that does anything else than what it is asked is away, as
// far as requests are concerned.
func (s *Store) swept(bucket int, result rueidis.RedisResult) (int64, error) {
	n, held, err := readSweep(result)
	s.away[bucket].Store(err != nil)
	if err == nil {
		s.books.last[bucket] = held
	}
	return n, err
}

func readSweep(result rueidis.RedisResult) (n int64, held sums, err error) {
	answer, err := result.ToArray()
	if err != nil {
		return 0, held, err
	}
	if len(answer) != 2 {
		return 0, held, errGarbage
	}
	if n, err = answer[0].AsInt64(); err != nil {
		return 0, held, errGarbage
	}
	held, err = readSums(answer[1])
	return n, held, err
}
