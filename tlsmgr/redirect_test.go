package tlsmgr

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"inbox/tlsmgr/acme"
)

func TestRedirect(t *testing.T) {
	for _, tt := range []struct {
		name, method, host, target string
		port                       int
		status                     int
		location                   string
	}{
		{"page", "GET", "one.example", "/receive.html?x=1&y=%20", 443, 308, "https://one.example/receive.html?x=1&y=%20"},
		{"HEAD", "HEAD", "one.example", "/", 443, 308, "https://one.example/"},
		{"custom port", "GET", "one.example:8080", "/", 8443, 308, "https://one.example:8443/"},
		{"upper case", "GET", "ONE.Example.", "/", 443, 308, "https://one.example/"},
		{"IPv6", "GET", "[2001:db8:0::1]:80", "/", 443, 308, "https://[2001:db8::1]/"},
		{"IPv6, custom port", "GET", "[2001:db8::1]", "/", 8443, 308, "https://[2001:db8::1]:8443/"},
		{"two slashes", "GET", "one.example", "//evil.example/", 443, 308, "https://one.example//evil.example/"},
		{"mailbox", "GET", "one.example", "/inbox", 443, 403, ""},
		{"mailbox, percent-encoded", "GET", "one.example", "/%69nbox", 443, 403, ""},
		{"send to mailbox", "POST", "one.example", "/inbox?to=alice", 443, 403, ""},
		{"ICE servers", "GET", "one.example", "/ice", 443, 403, ""},
		{"unknown challenge token", "GET", "one.example", acme.TokenPath + "token", 443, 404, ""},
		{"other method", "DELETE", "one.example", "/", 443, 403, ""},
		{"other host", "GET", "evil.example", "/", 443, 421, ""},
		{"no host", "GET", "", "/", 443, 421, ""},
		{"mailbox of another host", "POST", "evil.example", "/inbox", 443, 421, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			r := httptest.NewRequest(tt.method, tt.target, nil)
			r.Host = tt.host
			Redirect(RedirectConfig{Domains: []string{"One.example", "2001:db8::1"}, HTTPSPort: tt.port, APIPaths: []string{"/inbox", "/ice"}}).ServeHTTP(w, r)
			if got := w.Header().Get("Location"); w.Code != tt.status || got != tt.location {
				t.Errorf("got %d, Location %q, want %d, %q", w.Code, got, tt.status, tt.location)
			}
		})
	}
}

// Containers and routers map port 80 to the listener's port. Such requests are
// redirected to port 443, since the listener's HTTPS port is not reachable from
// outside.
func TestRedirectBehindMappedPorts(t *testing.T) {
	for _, tt := range []struct {
		host  string
		local int // port of the listener
		want  string
	}{
		{"one.example", 3080, "https://one.example/"},
		{"one.example:80", 3080, "https://one.example/"},
		{"[2001:db8::1]", 3080, "https://[2001:db8::1]/"},
		{"one.example:3080", 3080, "https://one.example:3000/"},
		{"one.example:8080", 3080, "https://one.example:3000/"},
		{"one.example", 80, "https://one.example:3000/"},
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host = tt.host
		local := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: tt.local}
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, local))
		Redirect(RedirectConfig{Domains: []string{"one.example", "2001:db8::1"}, HTTPSPort: 3000}).ServeHTTP(w, r)
		if got := w.Header().Get("Location"); got != tt.want {
			t.Errorf("%s on port %d: got Location %q, want %q", tt.host, tt.local, got, tt.want)
		}
	}
}

func TestCheckHostAllowsHealthChecks(t *testing.T) {
	ok := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) })
	health := func(r *http.Request) bool { return r.URL.Path == "/healthz" }
	for target, want := range map[string]int{
		"https://one.example/":      http.StatusNoContent,
		"https://10.0.0.1/healthz":  http.StatusNoContent,
		"https://10.0.0.1/anything": http.StatusMisdirectedRequest,
	} {
		w := httptest.NewRecorder()
		CheckHost([]string{"one.example"}, health, ok).ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
		if w.Code != want {
			t.Errorf("%s: got %d, want %d", target, w.Code, want)
		}
	}
}

// hstsHeader returns the Strict-Transport-Security header of a response over TLS or
// plain HTTP.
func hstsHeader(m *Manager, host string, secure bool) string {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "http://"+host+"/", nil)
	if secure {
		r.TLS = new(tls.ConnectionState)
	}
	m.HSTS(http.NotFoundHandler()).ServeHTTP(w, r)
	return w.Header().Get("Strict-Transport-Security")
}

// HSTS is sent only while the host has a valid certificate of a public CA.
func TestHSTS(t *testing.T) {
	const name, week = "one.example.org", "max-age=604800"
	for _, tt := range []struct {
		why     string
		ends    time.Duration // time until expiry; 0: no certificate
		file    time.Duration // the same of the certificate files
		staging bool
		host    string
		secure  bool
		want    string
	}{
		{"valid", time.Hour, 0, false, name, true, week},
		{"upper case with port", time.Hour, 0, false, "One.Example.org:443", true, week},
		{"plain HTTP", time.Hour, 0, false, name, false, ""},
		{"expired", -time.Hour, 0, false, name, true, ""},
		{"expired, files valid", -time.Hour, time.Hour, false, name, true, ""},
		{"only files", 0, time.Hour, false, name, true, ""},
		{"no certificate", 0, 0, false, name, true, ""},
		{"IP address", time.Hour, 0, false, "203.0.113.5", true, ""},
		{"other host", time.Hour, 0, false, "two.example.org", true, ""},
		{"staging", time.Hour, 0, true, name, true, ""},
	} {
		t.Run(tt.why, func(t *testing.T) {
			c := acmeConfig(t, name, "203.0.113.5")
			if c.ACME.Staging = tt.staging; tt.staging {
				c.ACME.CA.URL = ""
			}
			m, _ := newTestManaged(t, c)
			if tt.ends != 0 {
				m.managed.certs.setACME(name, certFor(t, name, tt.ends))
				m.managed.certs.setACME("203.0.113.5", certFor(t, "203.0.113.5", tt.ends))
			}
			if tt.file != 0 {
				m.managed.certs.setStatic(certFor(t, name, tt.file))
			}
			if got := hstsHeader(m, tt.host, tt.secure); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestHSTSNeedsDomains(t *testing.T) {
	m, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	if got := hstsHeader(m, "localhost", true); got != "" {
		t.Errorf("with a self-signed certificate: got %q, want none", got)
	}
}
