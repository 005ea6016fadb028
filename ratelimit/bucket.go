package ratelimit

import "time"

// tokenBucket is a token bucket under the lock of its owner. Package x/time/rate has a lock of its
// own, computes the tokens anew for each question, and takes twice the memory.
type tokenBucket struct {
	perSecond, burst float64 // perSecond is positive
	tokens           float64 // at last; negative in debt
	last             time.Time
}

// at returns the tokens at a time that is not before those of earlier calls.
func (b *tokenBucket) at(now time.Time) float64 {
	if passed := now.Sub(b.last); passed > 0 {
		b.tokens, b.last = min(b.burst, b.tokens+passed.Seconds()*b.perSecond), now
	}
	return b.tokens
}

// charge takes n tokens, but no more than a full bucket has. They can become a debt.
func (b *tokenBucket) charge(n float64, now time.Time) { b.tokens = b.at(now) - min(n, b.burst) }

// timeUntil returns how long until the bucket has that many tokens, in whole nanoseconds; 0 or less
// if it has.
func (b *tokenBucket) timeUntil(tokens float64, now time.Time) time.Duration {
	return time.Duration((tokens - b.at(now)) / b.perSecond * float64(time.Second))
}
