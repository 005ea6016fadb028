// Package tlsmgr provides and renews the certificates of a TLS listener.
//
// A [Source] obtains certificates from an ACME CA if domains are configured, else
// uses certificate files if they exist, else creates a self-signed certificate for
// development. A server uses the tls.Config of the source and runs the source in the
// background. The package neither listens nor serves.
//
// Handshakes read only memory, except for ACME challenges while an order is in
// progress. Run reloads files and renews certificates, so a source that does not run
// serves certificates that expire. Call Run once the listeners are bound, because
// the CA connects to them.
package tlsmgr

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"
)

// Source provides certificates for a TLS listener. All methods are safe for
// concurrent use. Run must be called at most once.
type Source interface {
	// TLSConfig returns a complete server configuration: versions, cipher suites,
	// protocols and GetCertificate. Each call returns a new one, which the caller
	// owns. All of them serve the current certificates of the source.
	TLSConfig() *tls.Config
	// HTTPHandler returns the handler for plain HTTP on port 80. It answers the
	// source's challenges and passes all other requests to fallback.
	HTTPHandler(fallback http.Handler) http.Handler
	// Run reloads and renews certificates. It returns nil when ctx ends.
	Run(ctx context.Context) error
	// Reload checks for a newer certificate now. Errors are logged, and the current
	// certificate stays in use.
	Reload()
	// State returns the state of the certificate for each name.
	State() []NameState
}

// NameState is the state of the certificate for one name or IP address.
type NameState struct {
	Name string
	// Source is the origin of the current certificate: "acme", "file" or
	// "self-signed". Empty means that the name has no certificate, and handshakes
	// fail with an alert.
	Source    string
	NotBefore time.Time
	NotAfter  time.Time
	// Fingerprint is the SHA-256 of the certificate in the format of [Fingerprint].
	Fingerprint string
	// LastError is the error of the last attempt to replace the certificate, or nil.
	LastError error
	// LastAttempt is the time of the last known order; zero if none.
	LastAttempt time.Time
	// NextAttempt is the time of the next automatic attempt; zero if the source
	// checks continuously.
	NextAttempt time.Time

	// The fields below are set only for names with certificates from a CA.

	// Engine is "certmagic" or "autocert", and CA the directory URL.
	Engine, CA string
	// Status describes the current activity for the name in a few words.
	Status string
	// Issuer is the common name of the issuer of the current certificate.
	Issuer string
	// RenewAt is when the CA certificate is due for renewal; zero without one.
	RenewAt time.Time
	// Failures is the number of failed orders since the last success.
	Failures int
	// Obtained is the number of certificates obtained since the start.
	Obtained int
}

// Config configures where certificates come from and where they are stored.
type Config struct {
	// CertFile and KeyFile hold a PEM certificate chain and its key. Without Domains,
	// both must be valid if either exists.
	CertFile, KeyFile string
	// StateDir is the directory for certificates, accounts and the schedules of
	// orders. If empty, each start creates a new self-signed certificate, and no
	// certificates are ordered, since CA rate limits cannot be respected without a
	// stored schedule.
	StateDir string
	// Shared is a store that several nodes use instead of StateDir for certificates
	// from a CA. It also holds the shared session ticket keys. Nil means a single
	// node.
	Shared Shared
	// Logger receives changes and errors; nil discards them.
	Logger *slog.Logger

	// Domains are the host names and IP addresses to obtain certificates for. If set,
	// handshakes for other names fail, and the certificate files are the fallback
	// for names without a valid certificate.
	Domains []string
	// ACME configures the CA; used only with Domains.
	ACME ACME

	tickets *tickets
}

// New returns the source that c selects, and logs the choice: an ACME CA if Domains
// is set, else the certificate files if either exists, else a self-signed
// certificate. Invalid files are an error unless Domains is set. An inconsistent
// configuration is an error that wraps [ErrUsage].
func New(c Config) (Source, error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.tickets = newTickets(c.Shared, c.Logger)
	if len(c.Domains) > 0 {
		return newManaged(c)
	}
	var f *files
	var err error
	// The files are the only certificate, so the timeout is longer.
	done := withTimeout(5*diskTimeout, func() {
		if exists(c.CertFile) || exists(c.KeyFile) {
			f, err = newFiles(c)
		}
	})
	switch {
	case !done:
		return nil, fmt.Errorf("timeout reading %s: the disk does not respond; fix it, or use other certificate files", c.CertFile)
	case err != nil:
		return nil, err
	case f != nil:
		return f, nil
	}
	return newSelfSigned(c)
}

// exists reports whether a file exists. It returns true if stat fails for another
// reason, so that reading the file reports the error.
func exists(path string) bool {
	if path == "" {
		return false
	}
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

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

// serverConfig returns the configuration that all sources share. Key exchange groups
// are left to crypto/tls, which prefers post-quantum groups by default.
func serverConfig(get func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		CipherSuites:   aeadSuites(),
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: get,
	}
}

// aeadSuites returns the TLS 1.2 cipher suites with forward secrecy and authenticated
// encryption. The crypto/tls defaults include CBC suites.
func aeadSuites() []uint16 {
	return []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	}
}

// namesOf returns the DNS names and IP addresses of a certificate, or its common name
// if it has neither.
func namesOf(c *x509.Certificate) []string {
	names := append([]string(nil), c.DNSNames...)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		names = append(names, c.Subject.CommonName)
	}
	return names
}

// statesOf implements State for a source with one certificate.
func statesOf(c *x509.Certificate, source string, last error, next time.Time) []NameState {
	var states []NameState
	fingerprint := Fingerprint(c)
	for _, name := range namesOf(c) {
		states = append(states, NameState{
			Name: name, Source: source, NotBefore: c.NotBefore, NotAfter: c.NotAfter,
			Fingerprint: fingerprint, LastError: last, NextAttempt: next,
		})
	}
	return states
}

// every calls do at each interval until ctx ends.
func every(ctx context.Context, interval time.Duration, do func()) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if ctx.Err() != nil {
				return // select picks at random when both channels are ready
			}
			do()
		}
	}
}
