package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"time"
)

// bareHandler is the baseline: the cost of net/http itself for these requests. It
// queues bodies and returns them to any client without any check. It reads exactly
// Content-Length bytes, the cheapest possible way.
type bareHandler chan []byte

func (s bareHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		body := make([]byte, r.ContentLength)
		if _, err := io.ReadFull(r.Body, body); err == nil {
			s <- body
		}
		return
	}
	select {
	case body := <-s:
		w.Header()["Content-Type"] = []string{"application/octet-stream"}
		_, _ = w.Write(body)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// serveBare serves a bareHandler until ctx ends.
func serveBare(ctx context.Context, https bool, logs io.Writer) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: make(bareHandler, maxPairs)}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	slog.New(slog.NewTextHandler(logs, nil)).Info("listening", "addr", ln.Addr())
	if !https {
		return ignoreClosed(server.Serve(ln))
	}
	cert, err := selfSigned()
	if err != nil {
		return err
	}
	server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
	return ignoreClosed(server.ServeTLS(ln, "", ""))
}

func ignoreClosed(err error) error {
	if err == http.ErrServerClosed {
		return nil
	}
	return err
}

// selfSigned creates a certificate with the same kind of key as the server's
// self-signed one.
func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("create certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
