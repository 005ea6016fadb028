package schedule

import "time"

const (
	// checksPerLifetime is how often a name is checked during the life of its
	// certificate, within the bounds below. No lifetime is assumed: they shrink.
	checksPerLifetime                  = 60
	checkIntervalMin, checkIntervalMax = time.Second, 10 * time.Minute
	// checkIntervalShared bounds the delay with which a node loads what another obtained.
	checkIntervalShared = 3 * time.Second
	// checkIntervalNoCert is used without a certificate: another process can obtain one.
	checkIntervalNoCert = 2 * time.Second
	// minRemainingDivisor is the part of the lifetime that remains at a renewal,
	// whatever the CA proposes: an order can fail.
	minRemainingDivisor = 6

	ariIntervalMin, ariIntervalMax = time.Minute, 24 * time.Hour
	ariRetryDelay                  = time.Hour
)

// Certificate is what the schedule needs to know of the certificate in use.
type Certificate struct {
	Serial              string
	NotBefore, NotAfter time.Time
}

// Lifetime returns the time from NotBefore to NotAfter.
func (c *Certificate) Lifetime() time.Duration { return c.NotAfter.Sub(c.NotBefore) }

// Horizon returns the time left, or the lifetime once it has expired; zero
// without a certificate.
func (c *Certificate) Horizon(now time.Time) time.Duration {
	if c == nil {
		return 0
	}
	if left := c.NotAfter.Sub(now); left > 0 {
		return left
	}
	return c.Lifetime()
}

// RenewAt returns when to replace the certificate: when the CA says so, with
// time left for a failed order, else when a third of its lifetime is left. The
// zero time is now: there is no certificate.
func RenewAt(c *Certificate, ari ARI) time.Time {
	if c == nil {
		return time.Time{}
	}
	if ari.Serial == c.Serial && !ari.At.IsZero() {
		return earlier(ari.At, c.NotAfter.Add(-c.Lifetime()/minRemainingDivisor))
	}
	return c.NotAfter.Add(-c.Lifetime() / 3)
}

// CheckInterval returns the longest time between two checks of a name.
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
	// At was chosen at random between From and To; zero without them.
	At, From, To time.Time
	// RefreshAfter is when to ask again.
	RefreshAfter time.Time
	// Why is a URL that explains it; can be empty.
	Why string
}

// Current reports whether the information is about the certificate and need not
// be asked for again.
func (a ARI) Current(serial string, now time.Time) bool {
	wait := a.RefreshAfter.Sub(now)
	return a.Serial == serial && wait > 0 && wait <= ariIntervalMax
}

// Answered returns the information after an answer of the CA. The time chosen
// within a window stays while the window does. urgent reports that the CA has
// begun to want the certificate replaced at once.
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

// Unsupported returns the information about a certificate of a CA that has none.
func Unsupported(serial string, now time.Time) ARI {
	return ARI{Serial: serial, RefreshAfter: now.Add(ariIntervalMax)}
}

// Unanswered returns the information after a question without an answer: what is
// known of the same certificate stays.
func (a ARI) Unanswered(serial string, now time.Time) ARI {
	if a.Serial != serial {
		a = ARI{Serial: serial}
	}
	a.RefreshAfter = now.Add(ariRetryDelay)
	return a
}
