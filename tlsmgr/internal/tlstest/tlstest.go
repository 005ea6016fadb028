// Package tlstest makes certificates and collects logs for the tests of tlsmgr and
// the packages below it.
package tlstest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// LogBuffer collects log output. It is safe for concurrent use.
type LogBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (b *LogBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// String returns all output.
func (b *LogBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// Count returns how often a text was logged.
func (b *LogBuffer) Count(text string) int { return strings.Count(b.String(), text) }

// NewLog returns a logger and its output.
func NewLog() (*slog.Logger, *LogBuffer) {
	b := new(LogBuffer)
	return slog.New(slog.NewTextHandler(b, nil)), b
}

// MakePair returns a certificate for the name and its key, both in PEM format.
func MakePair(t *testing.T, name string, from, to time.Time) (chain, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return PairOf(t, private, name, from, to)
}

// PairOf is MakePair for a key.
func PairOf(t *testing.T, private crypto.Signer, name string, from, to time.Time) (chain, key []byte) {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "test"}, NotBefore: from, NotAfter: to, DNSNames: []string{name},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// TLSPair is MakePair as a tls.Certificate.
func TLSPair(t *testing.T, name string, from, to time.Time) *tls.Certificate {
	t.Helper()
	chain, key := MakePair(t, name, from, to)
	cert, err := tls.X509KeyPair(chain, key)
	if err != nil {
		t.Error(err)
	}
	return &cert
}

// ValidPair returns a pair that is valid now.
func ValidPair(t *testing.T, name string) (chain, key []byte) {
	t.Helper()
	return MakePair(t, name, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
}

// MustWriteFile writes a private file.
func MustWriteFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
