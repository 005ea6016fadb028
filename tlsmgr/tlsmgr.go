// Package tlsmgr provides and renews the certificates of a TLS listener.
//
// A [Manager] obtains certificates from an ACME CA if domains are configured, else
// uses certificate files if they exist, else creates a self-signed certificate for
// development. A server uses the tls.Config of the manager and runs the manager in
// the background. The package neither listens nor serves, and imports no ACME
// library: the caller selects an engine in [Config].
//
// Handshakes read only memory, except for ACME challenges while an order is in
// progress. Run reloads files and renews certificates, so a manager that does not
// run serves certificates that expire. Call Run once the listeners are bound,
// because the CA connects to them.
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
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"inbox/tlsmgr/acme"
	"inbox/tlsmgr/internal/certs"
	"inbox/tlsmgr/internal/hosts"
	"inbox/tlsmgr/internal/timeout"
	"inbox/tlsmgr/internal/tlsconfig"
	"inbox/tlsmgr/storage"
)

// ErrUsage is wrapped by each error of a configuration that contradicts itself, or
// that asks for what an ACME engine cannot do.
var ErrUsage = acme.ErrUsage

// Manager provides certificates for a TLS listener. All methods are safe for
// concurrent use. Run must be called at most once.
type Manager struct {
	source  source
	managed *managed // the source if domains are configured; nil: it is another
	tickets *tickets
}

// source is one origin of certificates.
type source interface {
	// getCertificate reads memory, except for challenges.
	getCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
	run(context.Context)
	reload()
	state() []NameState
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
	// Shared is a storage that several nodes use instead of StateDir for certificates
	// from a CA. It also holds the shared session ticket keys. Nil means a single
	// node.
	Shared storage.Storage
	// Logger receives changes and errors; nil discards them.
	Logger *slog.Logger

	// Domains are the host names and IP addresses to obtain certificates for. If set,
	// handshakes for other names fail, and the certificate files are the fallback
	// for names without a valid certificate.
	Domains []string
	// ACME selects the engine and the CA; used only with Domains.
	ACME acme.Config
}

// New returns a manager of the source that c selects, and logs the choice: an ACME CA
// if Domains is set, else the certificate files if either exists, else a self-signed
// certificate. Invalid files are an error unless Domains is set. An inconsistent
// configuration is an error that wraps [ErrUsage].
func New(c Config) (*Manager, error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Manager{tickets: newTickets(c.Shared, c.Logger)}
	var err error
	if len(c.Domains) == 0 {
		if m.source, err = newLocalSource(c); err != nil {
			return nil, err
		}
		return m, nil
	}
	if m.managed, err = newManaged(c); err != nil {
		return nil, err
	}
	m.source = m.managed
	return m, nil
}

// newLocalSource returns the certificate files if either exists, else a self-signed
// certificate.
func newLocalSource(c Config) (source, error) {
	// The files are the only certificate, so the timeout is longer.
	f, err := timeout.Call(5*diskTimeout, func() (*files, error) {
		if exists(c.CertFile) || exists(c.KeyFile) {
			return newFiles(c)
		}
		return nil, nil
	})
	switch {
	case errors.Is(err, timeout.Err):
		return nil, fmt.Errorf("timeout reading %s: the disk does not respond; fix it, or use other certificate files", c.CertFile)
	case err != nil:
		return nil, err
	case f != nil:
		return f, nil
	}
	return newSelfSigned(c)
}

// TLSConfig returns a complete server configuration: versions, cipher suites,
// protocols and GetCertificate. Each call returns a new one, which the caller owns.
// All of them serve the current certificates.
func (m *Manager) TLSConfig() *tls.Config {
	c := m.tickets.configure(tlsconfig.Server(m.source.getCertificate))
	if m.managed != nil {
		c.NextProtos = append(c.NextProtos, acme.ALPNProto)
	}
	return c
}

// HTTPHandler returns a handler that answers the challenges of CAs (http-01) and passes
// all other requests to fallback. The CA asks on port 80, and follows redirects to
// https, so that a server uses it for both.
func (m *Manager) HTTPHandler(fallback http.Handler) http.Handler {
	if m.managed == nil {
		return fallback
	}
	return m.managed.acme.HTTPHandler(fallback)
}

// hstsMaxAge is a week: long enough to protect a regular user, and short enough for
// an operator who gives up HTTPS.
const hstsMaxAge = "max-age=604800"

// HSTS tells browsers to use only HTTPS (RFC 6797) while the requested host is served
// with a certificate of a public CA. Without domains it returns next.
func (m *Manager) HSTS(next http.Handler) http.Handler {
	if m.managed == nil || !m.managed.acme.PubliclyTrusted() {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && m.managed.hasIssued(hosts.FromHeader(r.Host), time.Now()) {
			w.Header().Set("Strict-Transport-Security", hstsMaxAge)
		}
		next.ServeHTTP(w, r)
	})
}

// Run reloads and renews certificates. It returns nil when ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	var background sync.WaitGroup
	background.Go(func() { m.tickets.run(ctx) })
	m.source.run(ctx)
	background.Wait()
	return nil
}

// Reload checks for a newer certificate now, and makes due orders as soon as the
// limits of the CA allow. Errors are logged, and the current certificate stays in use.
func (m *Manager) Reload() { m.source.reload() }

// State returns the state of the certificate for each name.
func (m *Manager) State() []NameState { return m.source.state() }

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

// statesOf implements State for a source with one certificate.
func statesOf(c *x509.Certificate, source string, last error, next time.Time) []NameState {
	var states []NameState
	fingerprint := Fingerprint(c)
	for _, name := range certs.Names(c) {
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

// Covers reports whether a certificate covers a name or IP address: by its subject
// alternative names, with wildcards, and only without any by its common name.
func Covers(leaf *x509.Certificate, name string) bool { return certs.Covers(leaf, name) }

// ErrEncryptedKey is returned for a private key that is protected by a passphrase.
var ErrEncryptedKey = certs.ErrEncryptedKey

// FormatError is a certificate or key file that holds something else than usable PEM.
// It names what the file holds, and what converts it.
type FormatError = certs.FormatError

// ErrUnusable is wrapped by the error about a pair that no client can use.
var ErrUnusable = tlsconfig.ErrUnusable

// LoadKeyPair reads a PEM chain and its key as a Manager does, and proves them by a
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

// CheckValid returns an error while a name has a certificate that is expired or not
// valid yet; nil otherwise. A server that is not ready says so.
func (m *Manager) CheckValid(now time.Time) error {
	for _, s := range m.State() {
		if s.Source != "" && (now.Before(s.NotBefore) || !now.Before(s.NotAfter)) {
			return fmt.Errorf("the certificate of %s is valid from %s to %s", s.Name, s.NotBefore.Format(time.DateTime), s.NotAfter.Format(time.DateTime))
		}
	}
	return nil
}

// IsPublicAddr reports whether the internet routes to an address.
func IsPublicAddr(a netip.Addr) bool { return hosts.IsPublicAddr(a) }
