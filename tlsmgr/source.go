package tlsmgr

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"time"

	"inbox/tlsmgr/internal/certs"
)

// source is one origin of certificates.
type source interface {
	// getCertificate reads only memory, except for ACME challenges.
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

// exists reports whether a file exists. It returns true if stat fails for another
// reason, so that reading the file reports the error.
func exists(path string) bool {
	if path == "" {
		return false
	}
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
