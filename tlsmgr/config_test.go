package tlsmgr

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"inbox/tlsmgr/acme"
	"inbox/tlsmgr/acme/autocert"
	"inbox/tlsmgr/acme/certmagic"
	"inbox/tlsmgr/internal/tlstest"
)

// acmeConfig returns a valid configuration.
func acmeConfig(t *testing.T, names ...string) Config {
	t.Helper()
	return Config{
		Domains: names, StateDir: t.TempDir(),
		ACME: acme.Config{Engine: certmagic.New, Email: "me@example.org", CA: acme.CA{URL: "https://ca.internal/directory"}},
	}
}

func TestInvalidConfigIsUsageError(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no engine", func(c *Config) { c.ACME.Engine = nil }, "engine"},
		{"autocert with an IP address", func(c *Config) { c.ACME.Engine = autocert.New; c.Domains = []string{"192.0.2.1"} }, "IP address"},
		{"autocert with a single-label name", func(c *Config) { c.ACME.Engine = autocert.New; c.Domains = []string{"box"} }, "no dot"},
		{"autocert with a profile", func(c *Config) { c.ACME.Engine = autocert.New; c.ACME.Profile = "shortlived" }, "profile"},
		{"autocert with a fallback CA", func(c *Config) { c.ACME.Engine = autocert.New; c.ACME.FallbackCA.URL = "https://b/" }, "fallback CA"},
		{"autocert without port 443", func(c *Config) { c.ACME.Engine = autocert.New; c.ACME.NoTLS = true }, "port 443"},
		{"no agreement to the terms", func(c *Config) { c.ACME.Email = "" }, "terms"},
		{"invalid e-mail address", func(c *Config) { c.ACME.Email = "me" }, "e-mail"},
		{"no reachable port", func(c *Config) { c.ACME.NoTLS = true; c.ACME.NoHTTP = true }, "neither"},
		{"staging and another CA", func(c *Config) { c.ACME.Staging = true }, "choose one"},
		{"same fallback CA", func(c *Config) { c.ACME.FallbackCA.URL = c.ACME.CA.URL }, "same"},
		{"directory without a scheme", func(c *Config) { c.ACME.CA.URL = "ca.example.org" }, "directory"},
		{"public directory over HTTP", func(c *Config) { c.ACME.CA.URL = "http://ca.example.org/directory" }, "directory"},
		{"key ID without a key", func(c *Config) { c.ACME.CA.EABKeyID = "kid" }, "both"},
		{"wildcard", func(c *Config) { c.Domains = []string{"*.example.org"} }, "wildcard"},
		{"URL as a name", func(c *Config) { c.Domains = []string{"https://example.org"} }, "host name"},
		{"port in the name", func(c *Config) { c.Domains = []string{"example.org:443"} }, "host name"},
		{"empty label", func(c *Config) { c.Domains = []string{"one..example.org"} }, "host name"},
		{"only dots", func(c *Config) { c.Domains = []string{".."} }, "host name"},
		{"label too long", func(c *Config) { c.Domains = []string{strings.Repeat("a", 64) + ".example.org"} }, "host name"},
		{"invalid IPv4 address", func(c *Config) { c.Domains = []string{"192.0.2.256"} }, "host name"},
		{"password in the directory URL", func(c *Config) { c.ACME.CA.URL = "https://me:secret@ca.internal/" }, "ca.internal contains a user name or password"},
		{"empty name", func(c *Config) { c.Domains = []string{""} }, "host name"},
		{"private name at Let's Encrypt", func(c *Config) { c.ACME.CA.URL = ""; c.Domains = []string{"box.local"} }, "public"},
		{"private IP address at Let's Encrypt", func(c *Config) { c.ACME.CA.URL = ""; c.Domains = []string{"192.168.0.1"} }, "public"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := acmeConfig(t, "one.example.org")
			tt.change(&c)
			_, err := New(c)
			if !errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("New: got %v, want a one-line ErrUsage containing %q", err, tt.want)
			}
		})
	}
}

func TestUnreadableFilesAreNotUsageErrors(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	tlstest.MustWriteFile(t, empty, nil)
	for name, change := range map[string]func(*Config){
		"roots missing":   func(c *Config) { c.ACME.CA.RootsFile = "nowhere" },
		"roots empty":     func(c *Config) { c.ACME.CA.RootsFile = empty },
		"MAC key missing": func(c *Config) { c.ACME.CA.EABKeyID, c.ACME.CA.EABKeyFile = "kid", "nowhere" },
		"MAC key empty":   func(c *Config) { c.ACME.CA.EABKeyID, c.ACME.CA.EABKeyFile = "kid", empty },
	} {
		t.Run(name, func(t *testing.T) {
			c := acmeConfig(t, "one.example.org")
			change(&c)
			if _, err := New(c); err == nil || errors.Is(err, ErrUsage) {
				t.Errorf("New: got %v, want an error other than ErrUsage", err)
			}
		})
	}
}
