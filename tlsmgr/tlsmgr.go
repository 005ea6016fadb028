// Package tlsmgr finds the certificate that a TLS listener shows.
//
// A [Source] is built once, at start: from a certificate authority when domains
// are named, else from certificate files when they exist, else from a
// self-signed certificate for development. Whoever serves asks it for a
// tls.Config and runs it in the background; nobody else knows which kind it
// is. The package neither listens nor serves.
//
// What a caller must know: a handshake only ever reads memory. Files are read
// again, and certificates obtained or made anew, by Run, so a source that is
// not running still serves, but what it serves grows old. Run is called once
// the listeners are bound, for an authority connects to them.
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

// Source is one way to have a certificate. All methods may be called
// concurrently, except that Run is called once.
type Source interface {
	// TLSConfig returns a complete configuration for a server: versions,
	// suites, protocols and GetCertificate. The caller owns it; each call
	// makes another, and all of them follow the source.
	TLSConfig() *tls.Config
	// HTTPHandler returns what listens on port 80: whatever the source must
	// answer there itself, then fallback.
	HTTPHandler(fallback http.Handler) http.Handler
	// Run keeps the certificate fresh. It returns when ctx ends, with nil.
	Run(ctx context.Context) error
	// Reload looks for a newer certificate now. What is wrong with it is
	// logged; the one in use stays.
	Reload()
	// State tells, for each name, which certificate is in use.
	State() []NameState
}

// NameState is what a source knows of one name or address it has a certificate for.
type NameState struct {
	Name string
	// Source is "acme", "file" or "self-signed": where the certificate in use
	// comes from. Empty: there is none, and a client that asks for the name gets
	// an alert.
	Source    string
	NotBefore time.Time
	NotAfter  time.Time
	// Fingerprint is the SHA-256 of the certificate, as [Fingerprint] writes it.
	Fingerprint string
	// LastError is why the last attempt to replace the certificate came to
	// nothing; nil when it did not.
	LastError error
	// LastAttempt is when the last order was made; zero: none that is known.
	LastAttempt time.Time
	// NextAttempt is when the source looks again by itself; zero: all the time.
	NextAttempt time.Time

	// What follows is set for names that an authority certifies.

	// Engine is "certmagic" or "autocert", and CA the directory URL.
	Engine, CA string
	// Status is what is being done for the name, in a few words.
	Status string
	// Issuer is who signed the certificate in use.
	Issuer string
	// RenewAt is when the certificate of the authority is due; zero without one.
	RenewAt time.Time
	// Failures counts the orders that failed since the last success.
	Failures int
	// Obtained counts the certificates obtained since the start.
	Obtained int
}

// Config says where certificates come from and where they are kept.
type Config struct {
	// CertFile and KeyFile hold a PEM chain and its key. When either exists
	// both must be usable.
	CertFile, KeyFile string
	// StateDir is where certificates, accounts and the record of attempts are
	// kept. Empty: a self-signed certificate is kept in memory, so that each
	// start makes another, and nothing is ordered from an authority, whose
	// limits cannot be kept without a record.
	StateDir string
	// Shared is what several nodes keep certificates in, instead of StateDir;
	// they share the keys of session tickets in it, too. Nil: this is the only one.
	Shared Shared
	// Logger hears of changes and of what is wrong; nil: nobody.
	Logger *slog.Logger

	// Domains are the names to be certified by an authority. With any, no other
	// name is ever answered, and the files stand in where a certificate is
	// missing. A name may be an IP address of the server.
	Domains []string
	// ACME says by whom and how; it matters only with Domains.
	ACME ACME

	tickets *tickets
}

// New decides where the certificate comes from, and says so in one log line:
// from an authority when there are Domains; else from the files when either
// exists, which must then be usable; else a self-signed one. What contradicts
// itself is an [ErrUsage].
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
	// The pair is all there is to serve with, so it is waited for longer.
	done := withTimeout(5*diskTimeout, func() {
		if exists(c.CertFile) || exists(c.KeyFile) {
			f, err = newFiles(c)
		}
	})
	switch {
	case !done:
		return nil, fmt.Errorf("the disk of %s does not answer; mend it, or name other files", c.CertFile)
	case err != nil:
		return nil, err
	case f != nil:
		return f, nil
	}
	return newSelfSigned(c)
}

// exists is true for a file that cannot be looked at, too: it is there, and
// what is wrong with it should be said rather than passed over.
func exists(path string) bool {
	if path == "" {
		return false
	}
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// Fingerprint returns the SHA-256 of a certificate the way browsers show it:
// pairs of capital hexadecimal digits between colons.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	pairs := make([]string, len(sum))
	for i, b := range sum {
		pairs[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(pairs, ":")
}

// serverConfig is the same for every source. Groups are left to crypto/tls,
// whose default puts the post-quantum ones first.
func serverConfig(get func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		CipherSuites:   aeadSuites(),
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: get,
	}
}

// aeadSuites are the TLS 1.2 suites with forward secrecy and authenticated
// encryption. The default still has CBC suites.
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

// namesOf lists the DNS names and addresses that a certificate is for; the
// common name when it has neither.
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

// statesOf is State for a source with one certificate.
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

// every calls do each interval until ctx ends.
func every(ctx context.Context, interval time.Duration, do func()) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if ctx.Err() != nil {
				return // both were ready: what takes as long as the interval would go on by chance
			}
			do()
		}
	}
}
