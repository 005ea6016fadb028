package main

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"inbox/cmd/inbox/internal/server"
)

// handshake performs one handshake and reads a response, so that session tickets arrive.
func (p *program) handshake(c *tls.Config) error {
	p.t.Helper()
	c.InsecureSkipVerify = c.RootCAs == nil
	conn, err := tls.Dial("tcp", p.addr, c)
	if err != nil {
		return err
	}
	defer conn.Close()
	io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	_, err = io.Copy(io.Discard, conn)
	return err
}

func TestHandshakesAreCounted(t *testing.T) {
	p := start(t, "-metrics-bind", "127.0.0.1:0")
	sessions := tls.NewLRUClientSessionCache(4)
	for _, c := range []*tls.Config{
		{ClientSessionCache: sessions}, {ClientSessionCache: sessions}, {MaxVersion: tls.VersionTLS12},
	} {
		if err := p.handshake(c); err != nil {
			t.Fatal(err)
		}
	}
	p.wantMetrics(map[string]float64{
		`inbox_tls_handshakes_total{resumed="false",version="1.3"}`: 1,
		`inbox_tls_handshakes_total{resumed="true",version="1.3"}`:  1,
		`inbox_tls_handshakes_total{resumed="false",version="1.2"}`: 1,
	})
}

// TestHandshakeErrorsByReason checks the counted reasons of failed handshakes by real
// clients.
func TestHandshakeErrorsByReason(t *testing.T) {
	timeouts := server.DefaultTimeouts()
	timeouts.Header = time.Second // for the silent client; the others finish sooner
	p := startWithTimeouts(t, timeouts, "-metrics-bind", "127.0.0.1:0", "-domain", "a.example", "-acme-agree", "-http-bind=",
		"-acme-ca", "https://127.0.0.1:1/", "-acme-preflight=false")
	raw := func(data string) {
		c, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, data)
		if data != "" {
			c.(*net.TCPConn).CloseWrite()
		}
		io.Copy(io.Discard, c)
	}
	for _, do := range []func(){
		func() { p.handshake(&tls.Config{ServerName: "b.example"}) },
		func() {
			p.handshake(&tls.Config{ServerName: "a.example", MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10})
		},
		func() {
			p.handshake(&tls.Config{ServerName: "a.example", MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}})
		},
		func() { p.handshake(&tls.Config{ServerName: "a.example", NextProtos: []string{"i/o timeout"}}) },
		func() { raw("GET / HTTP/1.1\r\n\r\n") },
		func() { raw("SSH-2.0-scanner\r\n") },
		func() { raw("\x16\x03") },
		func() { raw("") },
	} {
		do()
	}
	want := map[string]float64{
		`inbox_tls_handshake_errors_total{reason="no-certificate"}`: 2, // for an unknown name, and for one without a certificate yet
		`inbox_tls_handshake_errors_total{reason="version"}`:        1,
		`inbox_tls_handshake_errors_total{reason="no-protocol"}`:    1,
		`inbox_tls_handshake_errors_total{reason="not-tls"}`:        2,
		`inbox_tls_handshake_errors_total{reason="closed"}`:         1,
		`inbox_tls_handshake_errors_total{reason="timeout"}`:        1,
		`inbox_tls_handshake_errors_total{reason="other"}`:          0,
	}
	missing := func() bool { // the server counts an error after the client has seen it
		for series, n := range want {
			if p.metricValue(series) < n {
				return true
			}
		}
		return false
	}
	for began := time.Now(); missing() && time.Since(began) < 10*time.Second; {
		time.Sleep(10 * time.Millisecond)
	}
	p.wantMetrics(want)
}
