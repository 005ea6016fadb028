//go:build linux

package redisstore

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"testing"
	"time"

	"inbox/inbox"
)

// certificate makes a self-signed certificate for 127.0.0.1.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	bytes, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: bytes}))
}

func TestStoreOverTLS(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t)
	port := freePort(t)
	startServer(t, "--tls-port", fmt.Sprint(port), "--tls-cert-file", writeFile(t, "cert", cert),
		"--tls-key-file", writeFile(t, "key", key), "--tls-auth-clients", "no", "--requirepass", "geheim")
	cfg := Config{Limits: inbox.Limits{Timeout: time.Minute}}
	address := func(text string) (a Address) {
		a, err := ParseAddress(text)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	ready := func() *Store {
		s := New(cfg)
		t.Cleanup(s.Shutdown)
		time.Sleep(time.Second)
		return s
	}
	cfg.Address = address(fmt.Sprintf("rediss://:geheim@127.0.0.1:%d", port))
	if ready().Ready() == nil {
		t.Error("got a ready store with an untrusted certificate, want it unavailable")
	}
	if !cfg.Address.Trust([]byte(cert)) {
		t.Fatal("Trust returned false for a valid PEM certificate")
	}
	s := ready()
	eventually(t, "the store is ready", func() bool { return s.Ready() == nil })
	c := open(t, s, "bob")
	put(t, s, "bob", "hello")
	wantNext(t, s, c, 0, "hello")
	wrong := address(fmt.Sprintf("rediss://:wrong@127.0.0.1:%d", port))
	wrong.Trust([]byte(cert))
	cfg.Address = wrong
	if ready().Ready() == nil {
		t.Error("got a ready store with a wrong password, want it unavailable")
	}
}
