package acme

import (
	"cmp"
	"crypto/tls"
	"time"

	"inbox/tlsmgr/acme/schedule"
	"inbox/tlsmgr/internal/certs"
)

// Certificate is a certificate of a CA, with its key.
type Certificate struct {
	*tls.Certificate
	CA *CAClient
}

// Serial returns the serial number in hexadecimal.
func (c *Certificate) Serial() string { return c.Leaf.SerialNumber.Text(16) }

// summary returns what the schedule needs to know; nil of nil.
func (c *Certificate) summary() *schedule.Certificate {
	if c == nil {
		return nil
	}
	return &schedule.Certificate{Serial: c.Serial(), NotBefore: c.Leaf.NotBefore, NotAfter: c.Leaf.NotAfter}
}

// newest returns the certificate to serve for a name: the one issued last of
// those that are valid, however long the others last. CAs backdate certificates
// by an hour or to midnight, so that of the last issuer comes first. Of equals
// the later in the list wins; nil and certificates for other names are ignored.
func newest(all []*Certificate, name, lastIssuer string, now time.Time) *Certificate {
	var best *Certificate
	for _, c := range all {
		if c != nil && certs.Covers(c.Leaf, name) && (best == nil || c.compare(best, lastIssuer, now) >= 0) {
			best = c
		}
	}
	return best
}

// compare is positive when c is the better one to serve: the valid one, and of
// two invalid ones the one that ends last.
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
