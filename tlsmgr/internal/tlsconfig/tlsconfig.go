// Package tlsconfig has the TLS configuration of the server, and tests certificates with it.
package tlsconfig

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

// Server returns the configuration that all sources of certificates share. Key
// exchange groups are left to crypto/tls, which prefers post-quantum groups by
// default.
func Server(get func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tls.Config {
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

// proveTimeout bounds a handshake in memory, which takes milliseconds with any key.
const proveTimeout = 10 * time.Second

// ErrUnusable is wrapped by the error of [Prove].
var ErrUnusable = errors.New("no client can use this certificate and key")

// Prove tests a certificate with a handshake in memory, whose client trusts every issuer.
// crypto/tls parses some keys that it cannot use, such as P-224 and RSA with 512 bits.
func Prove(cert *tls.Certificate) error {
	if err := handshake(cert); err != nil {
		return fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	return nil
}

// handshake negotiates as browsers do: P-224 works only with clients that offer no version
// above TLS 1.2.
func handshake(cert *tls.Certificate) error {
	ctx, cancel := context.WithTimeout(context.Background(), proveTimeout)
	defer cancel()
	near, far := net.Pipe()
	defer near.Close()
	server := tls.Server(far, Server(func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }))
	served := make(chan error, 1)
	go func() {
		served <- server.HandshakeContext(ctx)
		far.Close()
	}()
	client := tls.Client(near, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}) // the issuer does not matter
	err := client.HandshakeContext(ctx)
	near.Close()
	if serverErr := <-served; err != nil && serverErr != nil {
		return serverErr // the client received only an alert
	}
	return err
}
