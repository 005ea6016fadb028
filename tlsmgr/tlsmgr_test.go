package tlsmgr

import (
	"context"
	"crypto/tls"
	"net/http"
	"regexp"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"inbox/tlsmgr/internal/tlstest"
)

func TestTLSConfigIsStrict(t *testing.T) {
	s, _ := startSelfSigned(t, "", testHostNames(), time.Now())
	if got := s.TLSConfig().MinVersion; got != tls.VersionTLS12 { // the cipher suites prevent older versions too
		t.Errorf("got minimum version %s, want TLS 1.2", tls.VersionName(got))
	}
	for _, tt := range []struct {
		name   string
		client *tls.Config
		ok     bool
	}{
		{"TLS 1.3", &tls.Config{MinVersion: tls.VersionTLS13}, true},
		{"TLS 1.2", &tls.Config{MaxVersion: tls.VersionTLS12}, true},
		{"TLS 1.1", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, false},
		{"CBC suite", &tls.Config{MaxVersion: tls.VersionTLS12,
			CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}}, false},
		{"RSA key exchange", &tls.Config{MaxVersion: tls.VersionTLS12,
			CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}}, false},
		{"ChaCha20", &tls.Config{MaxVersion: tls.VersionTLS12,
			CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256}}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.client.InsecureSkipVerify = true
			if _, err := handshake(t, s, tt.client); (err == nil) != tt.ok {
				t.Errorf("handshake: got %v, want success %v", err, tt.ok)
			}
		})
	}
}

func TestTLSConfigPrefersHTTP2AndPostQuantumGroups(t *testing.T) {
	s, _ := startSelfSigned(t, "", testHostNames(), time.Now())
	for _, protocol := range []string{"h2", "http/1.1"} {
		state, err := handshake(t, s, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}})
		if err != nil || state.NegotiatedProtocol != protocol {
			t.Errorf("client offers %s: got %q, %v", protocol, state.NegotiatedProtocol, err)
		}
		if state.CurveID != tls.X25519MLKEM768 {
			t.Errorf("got group %v, want X25519MLKEM768", state.CurveID)
		}
	}
}

func TestTLSConfigIsACopy(t *testing.T) {
	s, _ := startSelfSigned(t, "", testHostNames(), time.Now())
	mine := s.TLSConfig()
	mine.NextProtos[0], mine.CipherSuites[0] = "changed", 0
	if other := s.TLSConfig(); other.NextProtos[0] != "h2" || other.CipherSuites[0] == 0 {
		t.Error("a change to one configuration affects the next")
	}
}

// Handshakes during a replacement of the files get the old or the new certificate.
func TestHandshakesDuringReplacement(t *testing.T) {
	p := newPairFiles(t)
	chain, key := tlstest.ValidPair(t, "one.example")
	p.write(t, chain, key)
	f, _ := startFileSource(t, p)
	var replacing sync.WaitGroup
	replacing.Go(func() {
		for range 20 {
			chain, key := tlstest.ValidPair(t, "two.example")
			tlstest.MustWriteFile(t, p.cert, chain[:len(chain)/2])
			f.check()
			p.write(t, chain, key)
			f.check()
		}
	})
	for range 50 {
		if got := servedName(t, f); got != "one.example" && got != "two.example" {
			t.Errorf("got certificate for %q, want one.example or two.example", got)
		}
	}
	replacing.Wait()
}

func TestNewPrefersFiles(t *testing.T) {
	p := newPairFiles(t)
	s, err := New(Config{CertFile: p.cert, KeyFile: p.key})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.State()[0].Source; got != "self-signed" {
		t.Errorf("without files: got source %q, want self-signed", got)
	}
	chain, key := tlstest.ValidPair(t, "one.example")
	p.write(t, chain, key)
	if s, err = New(Config{CertFile: p.cert, KeyFile: p.key}); err != nil {
		t.Fatal(err)
	}
	if got := s.State()[0].Source; got != "file" {
		t.Errorf("with files: got source %q, want file", got)
	}
}

func TestHTTPHandlerReturnsFallback(t *testing.T) {
	p := newPairFiles(t)
	chain, key := tlstest.ValidPair(t, "one.example")
	p.write(t, chain, key)
	f, _ := startFileSource(t, p)
	s, _ := startSelfSigned(t, "", testHostNames(), time.Now())
	fallback := http.NewServeMux()
	for _, source := range []*Manager{f.Manager, s.Manager} {
		if source.HTTPHandler(fallback) != http.Handler(fallback) {
			t.Errorf("%T: got another handler, want the fallback itself", source.source)
		}
	}
}

func TestFingerprintFormat(t *testing.T) {
	s, _ := startSelfSigned(t, "", testHostNames(), time.Now())
	if got := s.fingerprint(); !regexp.MustCompile(`^([0-9A-F]{2}:){31}[0-9A-F]{2}$`).MatchString(got) {
		t.Errorf("got fingerprint %q, want 32 pairs of upper-case hexadecimal digits separated by colons", got)
	}
}

// every does not call do again after its context has ended, even if a tick is pending.
func TestEveryStopsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 100 { // select picks at random between ctx.Done and the tick
			ctx, cancel := context.WithCancel(t.Context())
			calls := 0
			every(ctx, time.Second, func() {
				calls++
				cancel()
				time.Sleep(3 * time.Second)
			})
			if calls != 1 {
				t.Fatalf("got %d calls, want 1", calls)
			}
		}
	})
}
