// Package ratelimit limits what one network address can ask of a server:
// connections at once and per second before a TLS handshake ([Listener]),
// requests per second ([Limiter], [Requests]), requests held open at once
// ([Held]), frames and records that ask for nothing ([Pieces]) and guesses at passwords ([Passwords]). [Clients] says which
// address asks, also behind proxies.
//
// An address is a /32 of IPv4 or a /64 of IPv6; the /48 around the latter has
// sixteen budgets, since whoever has a /48 has 65536 of them.
//
// The package knows nothing of what it protects. What a caller must know: all
// tables are bounded, and an attacker with many addresses can fill them but
// cannot make them forget anybody's debt.
package ratelimit

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

const (
	// limiterShards keeps requests that run at once out of each other's way.
	limiterShards = 32
	// networkFactor is how many budgets of an address an IPv6 /48 has.
	networkFactor = 16
	// overflowBuckets are shared by those for whom a full table has no room.
	overflowBuckets = 256
	// evictTries is how many of the longest unused entries a newcomer to a full
	// table looks at; one in debt must not shield those behind it.
	evictTries = 8
)

// DefaultTableSize is how many addresses in debt a Limiter remembers when its
// config does not say. Each takes about 200 bytes, so 25 MiB when full.
const DefaultTableSize = 128 << 10

// Budget is a token bucket: Burst tokens, refilled by PerSecond. A PerSecond
// of zero is no limit.
type Budget struct {
	PerSecond float64
	Burst     int
}

// Limiter keeps a token bucket for every address that used some of its tokens.
// A bucket that is full again is the same as none and is the only kind that is
// dropped. When all are in debt and the table is full, newcomers share
// overflow buckets by a keyed hash, so that an attacker can neither evict a
// debt nor choose whom to share with. All methods may be called concurrently.
// Time is an argument; it may stand still but should not run backwards.
type Limiter struct {
	budget   Budget
	seed     maphash.Seed
	perShard int
	total    atomic.Int64 // buckets in all shards: mostly none, which is quickly asked
	shards   [limiterShards]limiterShard
}

type limiterShard struct {
	mu       sync.Mutex
	buckets  map[key]*bucket
	oldest   *bucket // in order of last use
	newest   *bucket
	overflow [overflowBuckets / limiterShards]*rate.Limiter
}

type bucket struct {
	key          key
	limiter      *rate.Limiter
	older, newer *bucket
}

// Result is what a limiter says of one request.
type Result struct {
	// OK is whether it may go on.
	OK bool
	// Wait is how long until it may, when it may not.
	Wait time.Duration
}

// NewLimiter returns a limiter that remembers at most size addresses; zero is
// [DefaultTableSize].
func NewLimiter(budget Budget, size int) *Limiter {
	if size <= 0 {
		size = DefaultTableSize
	}
	l := &Limiter{budget: budget, seed: maphash.MakeSeed(), perShard: max(1, size/limiterShards)}
	for i := range l.shards {
		l.shards[i].buckets = make(map[key]*bucket)
	}
	return l
}

// Budget returns what each address may use.
func (l *Limiter) Budget() Budget { return l.budget }

// Take takes a token of the address, and one of its network, or refuses.
func (l *Limiter) Take(addr netip.Addr, now time.Time) Result {
	for _, k := range keysOf(addr) {
		if res := l.take(k, now); !res.OK {
			return res
		}
	}
	return Result{OK: true}
}

// Ready says what Take would, and takes nothing.
func (l *Limiter) Ready(addr netip.Addr, now time.Time) Result {
	for _, k := range keysOf(addr) {
		if res := l.ready(k, now); !res.OK {
			return res
		}
	}
	return Result{OK: true}
}

// Charge takes a token even if there is none: the address is in debt then, and
// waits all the longer. It is for what is known only afterwards, as a wrong
// password is.
func (l *Limiter) Charge(addr netip.Addr, now time.Time) {
	for _, k := range keysOf(addr) {
		l.charge(k, now)
	}
}

// chargeN takes n tokens even if there are none, and returns how long until they
// are there. An address that already owes more than most owes no more by it.
func (l *Limiter) chargeN(addr netip.Addr, n int, maxDebt time.Duration, now time.Time) (wait time.Duration) {
	if l.budget.PerSecond <= 0 || n <= 0 {
		return 0
	}
	for _, k := range keysOf(addr) {
		if k != (key{}) {
			wait = max(wait, l.chargeKeyN(k, n, maxDebt, now))
		}
	}
	return wait
}

// Len returns how many addresses the limiter remembers.
func (l *Limiter) Len() int { return int(l.total.Load()) }

// Sweep forgets buckets that are full again. Nothing depends on when it is
// called; it gives memory back after a flood.
func (l *Limiter) Sweep(now time.Time) {
	for i := range l.shards {
		for l.sweepBatch(&l.shards[i], now) {
		}
	}
}

// sweepBatch drops a few, so that no request waits long for the lock, and
// reports whether there may be more.
func (l *Limiter) sweepBatch(s *limiterShard, now time.Time) bool {
	const batch = 64
	s.mu.Lock()
	defer s.mu.Unlock()
	for range batch {
		if s.oldest == nil || !l.dropIfFullLocked(s, s.oldest, now) {
			return false
		}
	}
	return true
}

func (l *Limiter) take(k key, now time.Time) Result {
	if l.budget.PerSecond <= 0 || k == (key{}) {
		return Result{OK: true}
	}
	hash := k.hash(l.seed)
	s := &l.shards[hash%limiterShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	b := l.bucketLocked(s, k, hash, now)
	if b.AllowN(now, 1) {
		return Result{OK: true}
	}
	return Result{Wait: timeUntil(b, 1, now)}
}

func (l *Limiter) ready(k key, now time.Time) Result {
	if l.total.Load() == 0 || k == (key{}) {
		return Result{OK: true}
	}
	hash := k.hash(l.seed)
	s := &l.shards[hash%limiterShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.overflow[hash/limiterShards%uint64(len(s.overflow))]
	if known := s.buckets[k]; known != nil {
		b = known.limiter
	} else if len(s.buckets) < l.perShard {
		return Result{OK: true}
	}
	if b == nil || b.TokensAt(now) >= 1 {
		return Result{OK: true}
	}
	return Result{Wait: timeUntil(b, 1, now)}
}

func (l *Limiter) charge(k key, now time.Time) {
	if l.budget.PerSecond <= 0 || k == (key{}) {
		return
	}
	hash := k.hash(l.seed)
	s := &l.shards[hash%limiterShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	l.bucketLocked(s, k, hash, now).ReserveN(now, 1)
}

func (l *Limiter) chargeKeyN(k key, n int, maxDebt time.Duration, now time.Time) time.Duration {
	hash := k.hash(l.seed)
	s := &l.shards[hash%limiterShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	b := l.bucketLocked(s, k, hash, now)
	if owed := timeUntil(b, 0, now); owed > maxDebt {
		return owed
	}
	b.ReserveN(now, min(n, b.Burst()))
	return timeUntil(b, 0, now)
}

// bucketLocked returns the bucket of k, made if there is room for it, else one
// that it shares.
func (l *Limiter) bucketLocked(s *limiterShard, k key, hash uint64, now time.Time) *rate.Limiter {
	b := s.buckets[k]
	if b == nil {
		if len(s.buckets) >= l.perShard && !l.evictLocked(s, now) {
			return l.overflowLocked(s, hash)
		}
		b = &bucket{key: k, limiter: l.newBucket(k)}
		s.buckets[k] = b
		l.total.Add(1)
	}
	s.useLocked(b)
	// Whoever made no debt lately makes room even while there is some, so that
	// the table is as small as the traffic is.
	l.dropIfFullLocked(s, s.oldest, now)
	return b.limiter
}

func (l *Limiter) newBucket(k key) *rate.Limiter {
	factor := 1
	if k.isNetwork() {
		factor = networkFactor
	}
	return rate.NewLimiter(rate.Limit(l.budget.PerSecond*float64(factor)), l.budget.Burst*factor)
}

func (l *Limiter) overflowLocked(s *limiterShard, hash uint64) *rate.Limiter {
	b := &s.overflow[hash/limiterShards%uint64(len(s.overflow))]
	if *b == nil {
		*b = rate.NewLimiter(rate.Limit(l.budget.PerSecond), l.budget.Burst)
	}
	return *b
}

// evictLocked drops one bucket that is full again, if it finds one.
func (l *Limiter) evictLocked(s *limiterShard, now time.Time) bool {
	b := s.oldest
	for range evictTries {
		if b == nil {
			return false
		}
		newer := b.newer
		if l.dropIfFullLocked(s, b, now) {
			return true
		}
		b = newer
	}
	return false
}

// dropIfFullLocked forgets a bucket other than the newest if it is full.
func (l *Limiter) dropIfFullLocked(s *limiterShard, b *bucket, now time.Time) bool {
	if b == s.newest || b.limiter.TokensAt(now) < float64(b.limiter.Burst()) {
		return false
	}
	s.unlinkLocked(b)
	delete(s.buckets, b.key)
	l.total.Add(-1)
	return true
}

func (s *limiterShard) useLocked(b *bucket) {
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

func (s *limiterShard) unlinkLocked(b *bucket) {
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

// timeUntil is how long until b has so many tokens.
func timeUntil(b *rate.Limiter, tokens float64, now time.Time) time.Duration {
	missing := tokens - b.TokensAt(now)
	return time.Duration(missing / float64(b.Limit()) * float64(time.Second))
}
