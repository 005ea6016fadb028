package tlsmgr

import (
	"cmp"
	"crypto/tls"
	"time"
)

// stored is a certificate of an authority, with its key.
type stored struct {
	*tls.Certificate
	ca *caClient
}

// newest is the certificate to serve for a name: the one issued last of those
// that have not ended, however long the others last. Authorities date their
// certificates back by an hour or to midnight, so that of the authority which
// was the last to give one comes first. Of equals the later in the list wins;
// nil is left out, and so is what is for other names.
func newest(all []*stored, name, lastIssuer string, now time.Time) *stored {
	var best *stored
	for _, s := range all {
		if s != nil && covers(s.Leaf, name) && (best == nil || s.compare(best, lastIssuer, now) >= 0) {
			best = s
		}
	}
	return best
}

// compare is positive when s should rather serve than other: one that is valid
// rather than one that has ended or not begun, and of two that are not the one
// that ends last.
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
