package tlsmgr

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"

	"inbox/tlsmgr/internal/certs"
	"inbox/tlsmgr/internal/tlsconfig"
)

// ErrEncryptedKey is returned for a private key that is protected by a passphrase.
var ErrEncryptedKey = certs.ErrEncryptedKey

// ErrUnusable is wrapped by the error for a key pair that no client can use.
var ErrUnusable = tlsconfig.ErrUnusable

// FormatError is the error for a certificate or key file in another format than PEM. It
// names the format and a command that converts the file.
type FormatError = certs.FormatError

// LoadKeyPair loads a PEM chain and its key as a Manager does, and tests them with a
// handshake in memory. Leaf is set. It does not check the validity period.
func LoadKeyPair(certFile, keyFile string) (*tls.Certificate, error) {
	cert, err := certs.Load(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	if err := tlsconfig.Prove(cert); err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", certFile, keyFile, err)
	}
	return cert, nil
}

// Covers reports whether a certificate is for a name or IP address: by its subject
// alternative names, including wildcards, or without any by its common name.
func Covers(leaf *x509.Certificate, name string) bool { return certs.Covers(leaf, name) }

// Fingerprint returns the SHA-256 of a certificate in the format of browsers: pairs
// of upper-case hexadecimal digits separated by colons.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	pairs := make([]string, len(sum))
	for i, b := range sum {
		pairs[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(pairs, ":")
}
