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
	"math"
	"net/netip"
	"time"

	"inbox/ratelimit/internal/buckets"
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
	budget Budget
	table  *buckets.Table
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
	return &Limiter{budget, buckets.New(budget.PerSecond, budget.Burst, size)}
}

var processStart = time.Now()

// now is time.Now without the wall clock: reading the monotonic one alone takes half as long.
func now() time.Time { return processStart.Add(time.Since(processStart)) }

// Budget returns the budget of an address.
func (l *Limiter) Budget() Budget { return l.budget }

// Take takes a token of the address and one of its network.
func (l *Limiter) Take(addr netip.Addr, now time.Time) Result {
	entries := l.entries(addr)
	return l.takeAll(&entries, now)
}

// TakeFrom is Take for a client that a connection remembers.
func (l *Limiter) TakeFrom(c *Client, now time.Time) Result {
	return l.takeAll(c.entries(l), now)
}

func (l *Limiter) takeAll(entries *addrEntries, now time.Time) Result {
	used := 0.0
	for i := range entries {
		res := l.table.Take(&entries[i], now)
		if !res.OK {
			return Result(res)
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
	l.ChargeN(addr, 1, math.MaxInt64, now)
}

// ChargeN takes n tokens even if they are not available, and returns how long until the
// debt is paid. An address that owes more than maxDebt is not charged again.
func (l *Limiter) ChargeN(addr netip.Addr, n int, maxDebt time.Duration, now time.Time) (wait time.Duration) {
	entries := l.entries(addr)
	return l.chargeAll(&entries, n, maxDebt, now)
}

// ChargeFrom is ChargeN for a client that a connection remembers.
func (l *Limiter) ChargeFrom(c *Client, n int, maxDebt time.Duration, now time.Time) (wait time.Duration) {
	return l.chargeAll(c.entries(l), n, maxDebt, now)
}

func (l *Limiter) chargeAll(entries *addrEntries, n int, maxDebt time.Duration, now time.Time) (wait time.Duration) {
	for i := range entries {
		wait = max(wait, l.table.Charge(&entries[i], n, maxDebt, now))
	}
	return wait
}

// Len returns how many addresses the limiter remembers.
func (l *Limiter) Len() int { return l.table.Len() }

// Sweep drops full buckets, to free memory after a flood. Results do not depend on when it
// is called.
func (l *Limiter) Sweep(now time.Time) { l.table.Sweep(now) }

// addrEntries are the entries of an address and of its network.
type addrEntries [2]buckets.Entry

func (l *Limiter) entries(addr netip.Addr) (entries addrEntries) {
	for i, k := range keysOf(addr) {
		entries[i] = l.table.Entry(k)
	}
	return entries
}

func (l *Limiter) take(k key, now time.Time) Result {
	entry := l.table.Entry(k)
	return Result(l.table.Take(&entry, now))
}

func (l *Limiter) ready(k key, now time.Time) Result {
	if l.table.Len() == 0 {
		return Result{OK: true}
	}
	entry := l.table.Entry(k)
	return Result(l.table.Ready(&entry, now))
}

// tokens returns how many tokens the bucket of k has. It is negative in debt.
func (l *Limiter) tokens(k key, now time.Time) float64 {
	entry := l.table.Entry(k)
	return l.table.Tokens(&entry, now)
}

func (l *Limiter) charge(k key, now time.Time) {
	entry := l.table.Entry(k)
	l.table.Charge(&entry, 1, math.MaxInt64, now)
}
