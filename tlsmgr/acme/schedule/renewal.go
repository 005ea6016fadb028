package schedule

import "time"

const (
	// checksPerLifetime is the number of checks during the lifetime of a certificate,
	// within the bounds below. Lifetimes can be as short as minutes.
	checksPerLifetime                  = 60
	checkIntervalMin, checkIntervalMax = time.Second, 10 * time.Minute
	// checkIntervalShared bounds the delay with which a node loads a certificate that
	// another node obtained.
	checkIntervalShared = 3 * time.Second
	// checkIntervalNoCert applies without a certificate: another process can obtain one.
	checkIntervalNoCert = 2 * time.Second
	// minRemainingDivisor defines the latest renewal: a sixth of the lifetime remains for
	// failed orders, even if the CA suggests a later time.
	minRemainingDivisor = 6

	ariIntervalMin, ariIntervalMax = time.Minute, 24 * time.Hour
	ariRetryDelay                  = time.Hour
)

// Certificate describes the certificate in use.
type Certificate struct {
	Serial              string
	NotBefore, NotAfter time.Time
}

// Lifetime returns the time from NotBefore to NotAfter.
func (c *Certificate) Lifetime() time.Duration { return c.NotAfter.Sub(c.NotBefore) }

// Horizon returns the remaining validity, or the lifetime after the certificate has
// expired; zero for nil.
func (c *Certificate) Horizon(now time.Time) time.Duration {
	if c == nil {
		return 0
	}
	if left := c.NotAfter.Sub(now); left > 0 {
		return left
	}
	return c.Lifetime()
}

// RenewAt returns when the certificate is due for renewal: at the time of ARI, but before
// the last sixth of its lifetime, or without ARI when a third of its lifetime is left. It
// returns the zero time, which means now, without a certificate.
func RenewAt(c *Certificate, ari ARI) time.Time {
	if c == nil {
		return time.Time{}
	}
	if ari.Serial == c.Serial && !ari.At.IsZero() {
		return earlier(ari.At, c.NotAfter.Add(-c.Lifetime()/minRemainingDivisor))
	}
	return c.NotAfter.Add(-c.Lifetime() / 3)
}

// CheckInterval returns the maximum time between two checks of a name.
func CheckInterval(c *Certificate, shared bool) time.Duration {
	if c == nil {
		return checkIntervalNoCert
	}
	longest := checkIntervalMax
	if shared {
		longest = checkIntervalShared
	}
	return min(max(c.Lifetime()/checksPerLifetime, checkIntervalMin), longest)
}

// ARI is the renewal information of a CA about one certificate (RFC 9773).
type ARI struct {
	Serial string
	// At is a random time between From and To; zero if the CA has no suggestion.
	At, From, To time.Time
	// RefreshAfter is the time of the next request.
	RefreshAfter time.Time
	// Why is the URL of an explanation; it can be empty.
	Why string
}

// Current reports whether the information is about the certificate and does not have to be
// requested again.
func (a ARI) Current(serial string, now time.Time) bool {
	wait := a.RefreshAfter.Sub(now)
	return a.Serial == serial && wait > 0 && wait <= ariIntervalMax
}

// Answered returns the information after a response of the CA. The selected time stays the
// same while the window stays the same. urgent reports that the CA now requests immediate
// replacement, and did not before.
func (a ARI) Answered(answer ARI, now time.Time) (next ARI, urgent bool) {
	if a.Serial == answer.Serial && a.From.Equal(answer.From) && a.To.Equal(answer.To) {
		answer.At = a.At
	}
	if answer.RefreshAfter.IsZero() {
		answer.RefreshAfter = now.Add(ariIntervalMax)
	}
	answer.RefreshAfter = later(earlier(answer.RefreshAfter, now.Add(ariIntervalMax)), now.Add(ariIntervalMin))
	urgent = a.Serial == answer.Serial && a.At.After(now) && !answer.At.IsZero() && !answer.At.After(now)
	return answer, urgent
}

// Unsupported returns the information about a certificate of a CA without ARI.
func Unsupported(serial string, now time.Time) ARI {
	return ARI{Serial: serial, RefreshAfter: now.Add(ariIntervalMax)}
}

// Unanswered returns the information after a request that failed. Known information about
// the same certificate stays.
func (a ARI) Unanswered(serial string, now time.Time) ARI {
	if a.Serial != serial {
		a = ARI{Serial: serial}
	}
	a.RefreshAfter = now.Add(ariRetryDelay)
	return a
}
