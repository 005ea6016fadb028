package tlsmgr

import (
	"cmp"
	"crypto/tls"
	"time"
)

// stored is a certificate with its key and the CA that issued it.
type stored struct {
	*tls.Certificate
	ca *caClient
}

// newest returns the certificate to serve for a name: of the valid ones the most
// recently issued, even if others expire later. CAs backdate certificates by an hour
// or to midnight, so a certificate from lastIssuer, the CA that issued last, comes
// first. Among equals the later one in the list wins. Nil entries and certificates
// for other names are skipped.
func newest(all []*stored, name, lastIssuer string, now time.Time) *stored {
	var best *stored
	for _, s := range all {
		if s != nil && covers(s.Leaf, name) && (best == nil || s.compare(best, lastIssuer, now) >= 0) {
			best = s
		}
	}
	return best
}

// compare returns a positive number if s is preferred over other. A valid certificate
// is preferred over one that is expired or not yet valid. Of two that are not valid,
// the one that expires last is preferred.
func (s *stored) compare(other *stored, lastIssuer string, now time.Time) int {
	valid, otherValid := isValidAt(s.Certificate, now), isValidAt(other.Certificate, now)
	switch {
	case valid && !otherValid:
		return 1
	case !valid && otherValid:
		return -1
	case !valid:
		return s.Leaf.NotAfter.Compare(other.Leaf.NotAfter)
	}
	if isLast := s.ca.url == lastIssuer; isLast != (other.ca.url == lastIssuer) {
		if isLast {
			return 1
		}
		return -1
	}
	return cmp.Or(s.Leaf.NotBefore.Compare(other.Leaf.NotBefore), s.Leaf.NotAfter.Compare(other.Leaf.NotAfter))
}
