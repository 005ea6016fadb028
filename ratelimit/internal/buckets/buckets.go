// Package buckets is a bounded table of token buckets, one for each client, network or other key.
package buckets

import (
	"hash/maphash"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

const (
	// numShards reduces lock contention between concurrent requests.
	numShards = 32
	// numOverflow buckets are shared by keys that a full table has no room for.
	numOverflow = 256
	// evictTries is how many of the least recently used buckets a full table examines
	// for eviction, so that a bucket in debt does not shield those behind it.
	evictTries = 8
)

// Table keeps a bucket for each key that has used tokens. A full bucket is equivalent to no
// bucket, and only full buckets are evicted. When all buckets are in debt and the table is full,
// new keys share overflow buckets by a keyed hash, so that an attacker can neither evict a debt
// nor choose with whom to share. All methods can be called concurrently. Time is an argument; it
// must not run backwards.
type Table struct {
	perSecond float64
	burst     int
	seed      maphash.Seed
	perShard  int
	total     atomic.Int64 // buckets in all shards; usually zero, which is cheap to check
	shards    [numShards]shard
}

type shard struct {
	mu       sync.Mutex
	buckets  map[Key]*bucket
	oldest   *bucket // list by last use
	newest   *bucket
	overflow [numOverflow / numShards]*rate.Limiter
}

type bucket struct {
	key          Key
	limiter      *rate.Limiter // nil once the bucket is evicted
	older, newer *bucket
}

// Entry is the place of a key in a table. It remembers the bucket that it found there last. A
// bucket that the table evicts loses its tokens, so that entries of one key never use two. An
// Entry can be used concurrently, but belongs to its table, and must not be copied once it is used.
type Entry struct {
	key    Key
	hash   uint64
	bucket *bucket // guarded by the shard's mu
}

// Result is the decision of a table.
type Result struct {
	OK   bool          // a token is available
	Wait time.Duration // until a token is available, if OK is false
	Used float64       // how much of its burst the bucket has used, from 0 to 1
}

// New returns a table of at most size buckets with so many tokens, refilled at perSecond tokens
// per second. A perSecond of zero is no limit.
func New(perSecond float64, burst, size int) *Table {
	t := &Table{perSecond: perSecond, burst: burst, seed: maphash.MakeSeed(), perShard: max(1, size/numShards)}
	for i := range t.shards {
		t.shards[i].buckets = make(map[Key]*bucket)
	}
	return t
}

// Entry returns the place of a key. The hash is keyed, so that a client cannot predict which keys
// collide.
func (t *Table) Entry(k Key) Entry {
	if t.perSecond <= 0 || k == (Key{}) {
		return Entry{}
	}
	return Entry{key: k, hash: maphash.Comparable(t.seed, k)}
}

// IsLimited reports whether the entry has a bucket.
func (e *Entry) IsLimited() bool { return e.key != (Key{}) }

// Len returns the number of buckets.
func (t *Table) Len() int { return int(t.total.Load()) }

// Take takes a token.
func (t *Table) Take(e *Entry, now time.Time) Result {
	if !e.IsLimited() {
		return Result{OK: true}
	}
	s := t.lock(e)
	defer s.mu.Unlock()
	b := t.bucketLocked(s, e, now)
	if b.AllowN(now, 1) {
		return Result{OK: true, Used: 1 - b.TokensAt(now)/float64(b.Burst())}
	}
	return Result{Wait: timeUntil(b, 1, now), Used: 1}
}

// Ready returns what Take would return, but takes no token.
func (t *Table) Ready(e *Entry, now time.Time) Result {
	if t.Len() == 0 || !e.IsLimited() {
		return Result{OK: true}
	}
	s := t.lock(e)
	defer s.mu.Unlock()
	b := t.existingLocked(s, e)
	if b == nil || b.TokensAt(now) >= 1 {
		return Result{OK: true}
	}
	return Result{Wait: timeUntil(b, 1, now)}
}

// Tokens returns how many tokens a bucket has. It is negative in debt.
func (t *Table) Tokens(e *Entry, now time.Time) float64 {
	if !e.IsLimited() {
		return math.Inf(1)
	}
	s := t.lock(e)
	defer s.mu.Unlock()
	if b := t.existingLocked(s, e); b != nil {
		return b.TokensAt(now)
	}
	return float64(t.burst * e.key.factor())
}

// Charge takes n tokens even if they are not available, at most the burst, unless the bucket owes
// more than maxDebt. It returns how long until the debt is paid.
func (t *Table) Charge(e *Entry, n int, maxDebt time.Duration, now time.Time) time.Duration {
	if n <= 0 || !e.IsLimited() {
		return 0
	}
	s := t.lock(e)
	defer s.mu.Unlock()
	b := t.bucketLocked(s, e, now)
	if owed := timeUntil(b, 0, now); owed > maxDebt {
		return owed
	}
	b.ReserveN(now, min(n, b.Burst()))
	return timeUntil(b, 0, now)
}

// Sweep drops full buckets, to free memory after a flood. Results do not depend on when it
// is called.
func (t *Table) Sweep(now time.Time) {
	for i := range t.shards {
		for t.sweepBatch(&t.shards[i], now) {
		}
	}
}

// sweepBatch drops a few buckets, so that no request waits long for the lock. It reports
// whether more could be full.
func (t *Table) sweepBatch(s *shard, now time.Time) bool {
	const batch = 64
	s.mu.Lock()
	defer s.mu.Unlock()
	for range batch {
		if s.oldest == nil || !t.dropIfFullLocked(s, s.oldest, now) {
			return false
		}
	}
	return true
}

func (t *Table) lock(e *Entry) *shard {
	s := &t.shards[e.hash%numShards]
	s.mu.Lock()
	return s
}

// existingLocked returns the bucket of the key, or the one that it shares; nil if it has none yet.
func (t *Table) existingLocked(s *shard, e *Entry) *rate.Limiter {
	if b := s.findLocked(e); b != nil {
		return b.limiter
	}
	if len(s.buckets) < t.perShard {
		return nil
	}
	return *s.sharedLocked(e)
}

// bucketLocked returns the bucket of the key, created if there is room for it, or a shared one.
func (t *Table) bucketLocked(s *shard, e *Entry, now time.Time) *rate.Limiter {
	b := s.findLocked(e)
	if b == nil {
		if len(s.buckets) >= t.perShard && !t.evictLocked(s, now) {
			return t.overflowLocked(s, e)
		}
		b = &bucket{key: e.key, limiter: t.newLimiter(e.key.factor())}
		s.buckets[e.key], e.bucket = b, b
		t.total.Add(1)
		defer t.shrinkLocked(s, now)
	}
	s.useLocked(b)
	return b.limiter
}

// findLocked returns the key's own bucket, or nil.
func (s *shard) findLocked(e *Entry) *bucket {
	if e.bucket == nil || e.bucket.limiter == nil {
		e.bucket = s.buckets[e.key]
	}
	return e.bucket
}

func (t *Table) newLimiter(factor int) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(t.perSecond*float64(factor)), t.burst*factor)
}

func (t *Table) overflowLocked(s *shard, e *Entry) *rate.Limiter {
	b := s.sharedLocked(e)
	if *b == nil {
		*b = t.newLimiter(1)
	}
	return *b
}

// sharedLocked returns the bucket that the key uses while the table is full. It can be nil.
func (s *shard) sharedLocked(e *Entry) **rate.Limiter {
	return &s.overflow[e.hash/numShards%uint64(len(s.overflow))]
}

// shrinkLocked drops full buckets even while there is room, so that the table is as small as the
// traffic: two for each new one.
func (t *Table) shrinkLocked(s *shard, now time.Time) {
	for range 2 {
		t.dropIfFullLocked(s, s.oldest, now)
	}
}

// evictLocked drops one full bucket and reports whether it found one.
func (t *Table) evictLocked(s *shard, now time.Time) bool {
	b := s.oldest
	for range evictTries {
		if b == nil {
			return false
		}
		newer := b.newer
		if t.dropIfFullLocked(s, b, now) {
			return true
		}
		b = newer
	}
	return false
}

// dropIfFullLocked drops a full bucket, unless it is the newest. What remains of it is small, as
// entries can refer to it.
func (t *Table) dropIfFullLocked(s *shard, b *bucket, now time.Time) bool {
	if b == s.newest || b.limiter.TokensAt(now) < float64(b.limiter.Burst()) {
		return false
	}
	s.unlinkLocked(b)
	delete(s.buckets, b.key)
	b.limiter = nil
	t.total.Add(-1)
	return true
}

func (s *shard) useLocked(b *bucket) {
	if s.newest == b {
		return
	}
	s.unlinkLocked(b)
	b.older = s.newest
	if s.newest != nil {
		s.newest.newer = b
	} else {
		s.oldest = b
	}
	s.newest = b
}

func (s *shard) unlinkLocked(b *bucket) {
	if b.older != nil {
		b.older.newer = b.newer
	} else if s.oldest == b {
		s.oldest = b.newer
	}
	if b.newer != nil {
		b.newer.older = b.older
	} else if s.newest == b {
		s.newest = b.older
	}
	b.older, b.newer = nil, nil
}

// timeUntil returns how long until b has that many tokens.
func timeUntil(b *rate.Limiter, tokens float64, now time.Time) time.Duration {
	missing := tokens - b.TokensAt(now)
	return time.Duration(missing / float64(b.Limit()) * float64(time.Second))
}
