package tlsmgr

import (
	"crypto/tls"
	"net"
	"path/filepath"
	"testing"

	"inbox/tlsmgr/internal/certs"
	"inbox/tlsmgr/internal/tlstest"
)

// pairFiles holds the paths of a certificate file and a key file.
type pairFiles struct{ cert, key string }

func newPairFiles(t *testing.T) pairFiles {
	dir := t.TempDir()
	return pairFiles{filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key")}
}

func (p pairFiles) write(t *testing.T, chain, key []byte) {
	t.Helper()
	tlstest.MustWriteFile(t, p.cert, chain)
	tlstest.MustWriteFile(t, p.key, key)
}

// tlsServer is a [Manager], or a part of one with it.
type tlsServer interface{ TLSConfig() *tls.Config }

// handshake performs a TLS handshake with the server and returns the state of the client.
func handshake(t *testing.T, s tlsServer, client *tls.Config) (tls.ConnectionState, error) {
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
func servedName(t *testing.T, s tlsServer) string {
	t.Helper()
	state, err := handshake(t, s, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatalf("handshake: %v", err)
	}
	return certs.Names(state.PeerCertificates[0])[0]
}
