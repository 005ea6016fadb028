// Package certs answers questions about certificates and reads key pairs.
package certs

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"inbox/internal/atomicfile"
)

// MaxFileBytes exceeds any chain, key or list of roots.
const MaxFileBytes = 4 << 20

// ErrEncryptedKey is returned for a private key that is protected by a passphrase.
var ErrEncryptedKey = errors.New("the key is encrypted with a passphrase")

// Load reads a PEM chain and its key.
func Load(certFile, keyFile string) (*tls.Certificate, error) {
	chain, err := readPEM(certFile)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	key, err := readPEM(keyFile)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	cert, err := Parse(chain, key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", certFile, keyFile, err)
	}
	return cert, nil
}

// readPEM reads a file, without the byte order mark of some editors.
func readPEM(path string) ([]byte, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil, &FormatError{path, "a folder", "give the file in it, such as " + filepath.Join(path, "fullchain.pem")}
	}
	data, err := atomicfile.Read(path, MaxFileBytes)
	if err != nil {
		return nil, err
	}
	data = bytes.TrimPrefix(data, utf8BOM)
	if err := checkFormat(path, data); err != nil {
		return nil, err
	}
	return data, checkCurve(path, data)
}

// Parse parses a PEM chain in any order and its key. Leaf is set.
func Parse(chain, key []byte) (*tls.Certificate, error) {
	for block, rest := pem.Decode(key); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
			return nil, ErrEncryptedKey
		}
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			break
		}
	}
	if public := publicKey(key); public != nil {
		chain = sortChain(chain, public, time.Now())
	}
	cert, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, err
	}
	return &cert, nil
}

// publicKey returns the public part of the first private key; nil without one.
func publicKey(key []byte) crypto.PublicKey {
	for block, rest := pem.Decode(key); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "PRIVATE KEY" && !strings.HasSuffix(block.Type, " PRIVATE KEY") {
			continue
		}
		if private, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if signer, ok := private.(crypto.Signer); ok {
				return signer.Public()
			}
		}
		if private, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
			return private.Public()
		}
		if private, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
			return private.Public()
		}
		return nil
	}
	return nil
}

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
