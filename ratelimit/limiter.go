// Package ratelimit limits what one network address can demand of a server:
//
//   - connections, open and per second, before the TLS handshake ([ConnLimiter]),
//   - TLS handshakes in progress ([HandshakeLimiter]),
//   - TLS records and HTTP/2 frames that carry no request ([FrameLimiter]),
//   - HTTP/2 streams ([StreamLimiter]), requests per second ([RequestLimiter]) and requests in
//     progress, such as long polls ([ConcurrencyLimiter]),
//   - the rest of bodies that were refused ([LingeringClose]),
//   - wrong passwords and other failed attempts ([AttemptLimiter]), also those that run at
//     the same time,
//   - any resource that can be counted ([Share]).
//
// [ClientIP] resolves the address of a request, also behind proxies, and [Payer] turns it
// into pseudonyms for quotas.
//
// One client is an IPv4 address or an IPv6 /64. The /48 around the latter has sixteen
// times the budget of a client, because it contains 65,536 of them.
//
// The package does not depend on what it protects. All tables are bounded: an attacker with
// many addresses can fill them, but cannot evict the debt of another address.
package ratelimit

import (
	"hash/maphash"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

const (
	// limiterShards reduces lock contention between concurrent requests.
	limiterShards = 32
	// networkFactor is the budget of an IPv6 /48, in budgets of an address.
	networkFactor = 16
	// overflowBuckets are shared by addresses that a full table has no room for.
	overflowBuckets = 256
	// evictTries is how many of the least recently used buckets a full table examines
	// for eviction, so that a bucket in debt does not shield those behind it.
	evictTries = 8
)

// DefaultTableSize is the default number of addresses in debt that a [Limiter] remembers.
// Each takes about 200 bytes: 25 MiB when the table is full.
const DefaultTableSize = 128 << 10

// Budget is the size of a token bucket: Burst tokens, refilled at PerSecond tokens per
// second. A PerSecond of zero is no limit.
type Budget struct {
	PerSecond float64
	Burst     int
}

// window returns how long an empty bucket takes to fill.
func (b Budget) window() time.Duration {
	if b.PerSecond <= 0 {
		return 0
	}
	return time.Duration(float64(b.Burst) / b.PerSecond * float64(time.Second))
}

// Limiter keeps a token bucket for each address that has used tokens. A full bucket is
// equivalent to no bucket, and only full buckets are evicted. When all buckets are in debt
// and the table is full, new addresses share overflow buckets by a keyed hash, so that an
// attacker can neither evict a debt nor choose with whom to share. All methods can be
// called concurrently. Time is an argument; it must not run backwards.
type Limiter struct {
	budget   Budget
	seed     maphash.Seed
	perShard int
	total    atomic.Int64 // buckets in all shards; usually zero, which is cheap to check
	shards   [limiterShards]limiterShard
}

type limiterShard struct {
	mu       sync.Mutex
	buckets  map[key]*bucket
	oldest   *bucket // list by last use
	newest   *bucket
	overflow [overflowBuckets / limiterShards]*rate.Limiter
}

type bucket struct {
	key          key
	limiter      *rate.Limiter
	older, newer *bucket
}

// Result is the decision of a limiter.
type Result struct {
	// OK is whether a token is available.
	OK bool
	// Wait is how long until a token is available, if OK is false.
	Wait time.Duration
	// Used is how much of its burst the address or its network has used, from 0 to 1.
	Used float64
}

// NewLimiter returns a limiter that remembers at most size addresses. Zero is
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

// Budget returns the budget of an address.
func (l *Limiter) Budget() Budget { return l.budget }

// Take takes a token of the address and one of its network.
func (l *Limiter) Take(addr netip.Addr, now time.Time) Result {
	used := 0.0
	for _, k := range keysOf(addr) {
		res := l.take(k, now)
		if !res.OK {
			return res
		}
		used = max(used, res.Used)
	}
	return Result{OK: true, Used: used}
}

// Ready returns what Take would return, but takes no token.
func (l *Limiter) Ready(addr netip.Addr, now time.Time) Result {
	for _, k := range keysOf(addr) {
		if res := l.ready(k, now); !res.OK {
			return res
		}
	}
	return Result{OK: true}
}

// Charge takes a token even if none is available. The address is then in debt and waits
// longer. It suits costs that are known only afterwards, such as a wrong password.
func (l *Limiter) Charge(addr netip.Addr, now time.Time) {
	for _, k := range keysOf(addr) {
		l.charge(k, now)
	}
}

// ChargeN takes n tokens even if they are not available, and returns how long until the
// debt is paid. An address that owes more than maxDebt is not charged again.
func (l *Limiter) ChargeN(addr netip.Addr, n int, maxDebt time.Duration, now time.Time) (wait time.Duration) {
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

// Sweep drops full buckets, to free memory after a flood. Results do not depend on when it
// is called.
func (l *Limiter) Sweep(now time.Time) {
	for i := range l.shards {
		for l.sweepBatch(&l.shards[i], now) {
		}
	}
}

// sweepBatch drops a few buckets, so that no request waits long for the lock. It reports
// whether more could be full.
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
		return Result{OK: true, Used: 1 - b.TokensAt(now)/float64(b.Burst())}
	}
	return Result{Wait: timeUntil(b, 1, now), Used: 1}
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

// tokens returns how many tokens the bucket of k has. It is negative in debt.
func (l *Limiter) tokens(k key, now time.Time) float64 {
	if l.budget.PerSecond <= 0 || k == (key{}) {
		return math.Inf(1)
	}
	hash := k.hash(l.seed)
	s := &l.shards[hash%limiterShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.buckets[k]; known != nil {
		return known.limiter.TokensAt(now)
	}
	if len(s.buckets) >= l.perShard {
		if b := s.overflow[hash/limiterShards%uint64(len(s.overflow))]; b != nil {
			return b.TokensAt(now)
		}
	}
	return float64(l.newBucket(k).Burst())
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

// bucketLocked returns the bucket of k, created if there is room for it, or a shared one.
func (l *Limiter) bucketLocked(s *limiterShard, k key, hash uint64, now time.Time) *rate.Limiter {
	b := s.buckets[k]
	if b == nil {
		if len(s.buckets) >= l.perShard && !l.evictLocked(s, now) {
			return l.overflowLocked(s, hash)
		}
		b = &bucket{key: k, limiter: l.newBucket(k)}
		s.buckets[k] = b
		l.total.Add(1)
		defer l.shrinkLocked(s, now)
	}
	s.useLocked(b)
	return b.limiter
}

// shrinkLocked drops full buckets even while there is room, so that the table is as small as the
// traffic: two for each new one.
func (l *Limiter) shrinkLocked(s *limiterShard, now time.Time) {
	for range 2 {
		l.dropIfFullLocked(s, s.oldest, now)
	}
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

// evictLocked drops one full bucket and reports whether it found one.
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

// dropIfFullLocked drops a full bucket, unless it is the newest.
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

// timeUntil returns how long until b has that many tokens.
func timeUntil(b *rate.Limiter, tokens float64, now time.Time) time.Duration {
	missing := tokens - b.TokensAt(now)
	return time.Duration(missing / float64(b.Limit()) * float64(time.Second))
}
