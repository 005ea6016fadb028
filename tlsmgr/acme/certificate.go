package acme

import (
	"cmp"
	"crypto/tls"
	"time"

	"inbox/tlsmgr/acme/schedule"
	"inbox/tlsmgr/internal/certs"
)

// Certificate is a certificate with its key, and the CA that issued it.
type Certificate struct {
	*tls.Certificate
	CA *CAClient
}

// Serial returns the serial number in hexadecimal.
func (c *Certificate) Serial() string { return c.Leaf.SerialNumber.Text(16) }

// summary returns the part that the schedule needs; nil for nil.
func (c *Certificate) summary() *schedule.Certificate {
	if c == nil {
		return nil
	}
	return &schedule.Certificate{Serial: c.Serial(), NotBefore: c.Leaf.NotBefore, NotAfter: c.Leaf.NotAfter}
}

// newest returns the certificate to serve for a name: of the valid ones the latest, even
// if another one expires later. NotBefore does not order certificates of different CAs,
// because CAs backdate them by an hour or to midnight, so a certificate of the last
// issuer takes precedence. Of equal certificates the later one in the list is returned.
// nil and certificates for other names are ignored.
func newest(all []*Certificate, name, lastIssuer string, now time.Time) *Certificate {
	var best *Certificate
	for _, c := range all {
		if c != nil && certs.Covers(c.Leaf, name) && (best == nil || c.compare(best, lastIssuer, now) >= 0) {
			best = c
		}
	}
	return best
}

// compare is positive if c is to be served rather than other. A valid certificate is
// better than an invalid one. Of two invalid ones, the one that expires later is better.
func (c *Certificate) compare(other *Certificate, lastIssuer string, now time.Time) int {
	valid, otherValid := certs.ValidAt(c.Certificate, now), certs.ValidAt(other.Certificate, now)
	switch {
	case valid && !otherValid:
		return 1
	case !valid && otherValid:
		return -1
	case !valid:
		return c.Leaf.NotAfter.Compare(other.Leaf.NotAfter)
	}
	if isLast := c.CA.URL == lastIssuer; isLast != (other.CA.URL == lastIssuer) {
		if isLast {
			return 1
		}
		return -1
	}
	return cmp.Or(c.Leaf.NotBefore.Compare(other.Leaf.NotBefore), c.Leaf.NotAfter.Compare(other.Leaf.NotAfter))
}
