package acme

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Port 80 redirects page requests for the host, rejects requests that carry passwords, and
// serves challenge tokens only during an order. Port 443 rejects other hosts.
func TestRedirectAndHostCheck(t *testing.T) {
	t.Parallel()
	r, name := newRig(t, pebbleOptions{}), newName()
	s := r.serveCertified(name)
	plain, secure := fmt.Sprintf(":%d", r.httpPort), fmt.Sprintf(":%d", r.tlsPort)
	for _, tt := range []struct {
		method, scheme, host, path string
		status                     int
		location                   string
	}{
		{"GET", "http", name + plain, "/send.html?a=1", 308, "https://" + name + secure + "/send.html?a=1"},
		{"HEAD", "http", name + plain, "/", 308, "https://" + name + secure + "/"},
		{"GET", "http", strings.ToUpper(name) + "." + plain, "/", 308, "https://" + name + secure + "/"},
		{"GET", "http", name + plain, "//evil.example", 308, "https://" + name + secure + "//evil.example"},
		{"POST", "http", name + plain, "/", 403, ""},
		{"GET", "http", name + plain, "/inbox", 403, ""},
		{"POST", "http", name + plain, "/inbox?to=alice", 403, ""},
		{"GET", "http", "evil.example", "/", 421, ""},
		{"POST", "http", "evil.example", "/inbox", 421, ""},
		{"GET", "http", name + plain, "/.well-known/acme-challenge/token", 404, ""},
		{"GET", "http", "evil.example", "/.well-known/acme-challenge/token", 421, ""},
		{"GET", "https", name + secure, "/", 200, ""},
		{"GET", "https", "evil.example", "/", 421, ""},
	} {
		resp := s.request(tt.method, tt.scheme, name, tt.host, tt.path)
		if resp.StatusCode != tt.status || resp.Header.Get("Location") != tt.location {
			t.Errorf("%s %s://%s%s: got %d to %q, want %d to %q", tt.method, tt.scheme, tt.host, tt.path,
				resp.StatusCode, resp.Header.Get("Location"), tt.status, tt.location)
		}
		if got := resp.Header.Get("Strict-Transport-Security"); (got == "max-age=604800") != (tt.scheme == "https" && tt.status == 200) {
			t.Errorf("%s://%s: got Strict-Transport-Security %q, want it only with a page over HTTPS", tt.scheme, tt.host, got)
		}
	}
}

// request connects for name and sends a request with the given Host field.
func (s *testServer) request(method, scheme, name, host, path string) *http.Response {
	s.t.Helper()
	port := s.rig.httpPort
	if scheme == "https" {
		port = s.rig.tlsPort
	}
	r, err := http.NewRequest(method, fmt.Sprintf("%s://%s:%d%s", scheme, name, port, path), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Host = host
	resp, err := s.client().Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return resp
}

// A handshake with another server name, or without one, fails with an unrecognized_name
// alert.
func TestUnknownNames(t *testing.T) {
	t.Parallel()
	r, name := newRig(t, pebbleOptions{}), newName()
	c := r.config(name)
	c.CertFile, c.KeyFile = writeSelfSigned(t, time.Hour, "*.example.test")
	s := r.serve(c)
	for _, serverName := range []string{"other.example.test", "", "example.test"} {
		_, err := s.servedCert(serverName)
		const unrecognized = tls.AlertError(112)
		var remote *net.OpError
		if !errors.As(err, &remote) || remote.Err.Error() != unrecognized.Error() {
			t.Errorf("server name %q: got %v, want the alert %v", serverName, err, unrecognized)
		}
	}
}
