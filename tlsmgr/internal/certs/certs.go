// Package certs loads key pairs and inspects certificates.
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

// MaxFileBytes is more than any file of certificates or keys has.
const MaxFileBytes = 4 << 20

// ErrEncryptedKey is returned for a private key that is protected by a passphrase.
var ErrEncryptedKey = errors.New("the key is encrypted with a passphrase")

// CheckValidity returns an error if a certificate is not valid at a time.
func CheckValidity(c *x509.Certificate, now time.Time) error {
	switch {
	case now.After(c.NotAfter):
		return fmt.Errorf("expired on %s", c.NotAfter.Format(time.RFC1123))
	case now.Before(c.NotBefore):
		return fmt.Errorf("not valid before %s; check the system clock", c.NotBefore.Format(time.RFC1123))
	}
	return nil
}

// ValidAt reports whether a certificate is valid at a time. It is false for nil.
func ValidAt(c *tls.Certificate, now time.Time) bool {
	return c != nil && CheckValidity(c.Leaf, now) == nil
}

// SameChain reports whether two certificates have equal chains: a chain without an
// intermediate differs from the complete one with the same leaf. It is false for nil.
func SameChain(a, b *tls.Certificate) bool {
	return a != nil && b != nil && slices.EqualFunc(a.Certificate, b.Certificate, bytes.Equal)
}

// Covers reports whether a certificate is for a name or IP address: by its subject
// alternative names, or without any by its common name. Both can be wildcards.
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

// Names returns the DNS names and IP addresses of a certificate, or without any its common
// name.
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
