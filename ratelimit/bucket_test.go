package ratelimit

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/time/rate"
)

// TestTokenBucketAgreesWithRate compares the bucket with that of x/time/rate.
func TestTokenBucketAgreesWithRate(t *testing.T) {
	const perSecond, burst = 3.7, 8
	want := rate.NewLimiter(perSecond, burst)
	got := tokenBucket{perSecond: perSecond, burst: burst, tokens: burst, last: epoch}
	for i, now := 0, epoch; i < 10_000; i++ {
		now = now.Add(time.Duration(rand.Int64N(int64(time.Second))))
		if n := rand.IntN(5); n > 0 {
			want.ReserveN(now, n)
			got.charge(float64(n), now)
		}
		if a, b := got.at(now), want.TokensAt(now); math.Abs(a-b) > 1e-6 {
			t.Fatalf("step %d: got %v tokens, want %v", i, a, b)
		}
	}
}

// TestTokenBucketRoundsDown checks that a token is available after the time that was returned,
// although that has no fractions of nanoseconds.
func TestTokenBucketRoundsDown(t *testing.T) {
	for range 10_000 {
		b := tokenBucket{perSecond: 1 / (1e-6 + rand.Float64()), burst: 1, tokens: -rand.Float64(), last: epoch}
		wait := b.timeUntil(1, epoch)
		if left := b.timeUntil(1, epoch.Add(wait)); left > 0 {
			t.Fatalf("got %v left of %v with %+v, want none", left, wait, b)
		}
	}
}
