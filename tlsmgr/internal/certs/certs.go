// Package certs answers questions about certificates and reads key pairs.
package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// MaxFileBytes exceeds any chain, key or list of roots.
const MaxFileBytes = 4 << 20

// ErrEncryptedKey is returned for a private key that is protected by a passphrase.
var ErrEncryptedKey = errors.New("the key is encrypted with a passphrase")

// CheckValidity returns why a certificate is not valid at a time; nil when it is.
func CheckValidity(c *x509.Certificate, now time.Time) error {
	switch {
	case now.After(c.NotAfter):
		return fmt.Errorf("expired on %s", c.NotAfter.Format(time.RFC1123))
	case now.Before(c.NotBefore):
		return fmt.Errorf("not valid before %s; check the system clock", c.NotBefore.Format(time.RFC1123))
	}
	return nil
}

// ValidAt reports whether there is a certificate, and whether it is valid at a time.
func ValidAt(c *tls.Certificate, now time.Time) bool {
	return c != nil && CheckValidity(c.Leaf, now) == nil
}

// SameChain compares whole chains: one that lacked an intermediate differs from
// the complete one with the same leaf. It is false when either is nil.
func SameChain(a, b *tls.Certificate) bool {
	return a != nil && b != nil && slices.EqualFunc(a.Certificate, b.Certificate, bytes.Equal)
}

// Covers reports whether a certificate covers a name or IP address: by its
// subject alternative names, with wildcards, and only without any by its common
// name, which can be a wildcard, too.
func Covers(leaf *x509.Certificate, name string) bool {
	if len(leaf.DNSNames) > 0 || len(leaf.IPAddresses) > 0 {
		return leaf.VerifyHostname(name) == nil
	}
	common := strings.ToLower(leaf.Subject.CommonName)
	if rest, wild := strings.CutPrefix(common, "*."); wild {
		_, parent, found := strings.Cut(strings.ToLower(name), ".")
		_, err := netip.ParseAddr(name)
		return found && parent == rest && err != nil
	}
	return strings.EqualFold(common, name)
}

// Names lists the DNS names and addresses that a certificate is for; its common
// name when it has neither.
func Names(c *x509.Certificate) []string {
	names := append([]string(nil), c.DNSNames...)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		names = append(names, c.Subject.CommonName)
	}
	return names
}
