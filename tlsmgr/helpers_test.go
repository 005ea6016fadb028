package tlsmgr

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// logBuffer collects log output. It is safe for concurrent use.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (b *logBuffer) count(text string) int { return strings.Count(b.String(), text) }

func newLog() (*slog.Logger, *logBuffer) {
	b := new(logBuffer)
	return slog.New(slog.NewTextHandler(b, nil)), b
}

// makePair returns a certificate for the name and its key, both in PEM format.
func makePair(t *testing.T, name string, from, to time.Time) (chain, key []byte) {
	t.Helper()
	template, err := selfSignedTemplate(certNames{dns: []string{name}}, from)
	if err != nil {
		t.Fatal(err)
	}
	template.NotBefore, template.NotAfter = from, to
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := encodePEM(der, private)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(bundle, []byte("-----BEGIN PRIVATE KEY"))
	return bundle[:at], bundle[at:]
}

// tlsPair is makePair as a tls.Certificate.
func tlsPair(t *testing.T, name string, from, to time.Time) *tls.Certificate {
	t.Helper()
	chain, key := makePair(t, name, from, to)
	cert, err := tls.X509KeyPair(chain, key)
	if err != nil {
		t.Error(err)
	}
	return &cert
}

// validPair returns a pair that is valid now.
func validPair(t *testing.T, name string) (chain, key []byte) {
	t.Helper()
	return makePair(t, name, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
}

func mustWriteFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// pairFiles holds the paths of a certificate file and a key file.
type pairFiles struct{ cert, key string }

func newPairFiles(t *testing.T) pairFiles {
	dir := t.TempDir()
	return pairFiles{filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key")}
}

func (p pairFiles) write(t *testing.T, chain, key []byte) {
	t.Helper()
	mustWriteFile(t, p.cert, chain)
	mustWriteFile(t, p.key, key)
}

// handshake performs a TLS handshake with the source and returns the state of the client.
func handshake(t *testing.T, s Source, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	serverEnd, clientEnd := net.Pipe()
	defer clientEnd.Close()
	server := tls.Server(serverEnd, s.TLSConfig())
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Handshake() // the client sees errors too
		server.Close()
	}()
	conn := tls.Client(clientEnd, client)
	err := conn.Handshake()
	state := conn.ConnectionState()
	clientEnd.Close()
	<-done
	return state, err
}

// servedName returns the name in the certificate that a client receives.
func servedName(t *testing.T, s Source) string {
	t.Helper()
	state, err := handshake(t, s, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatalf("handshake: %v", err)
	}
	return namesOf(state.PeerCertificates[0])[0]
}
