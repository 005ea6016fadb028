package tlsmgr

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// acmeConfig returns a valid configuration.
func acmeConfig(t *testing.T, names ...string) Config {
	t.Helper()
	return Config{
		Domains: names, StateDir: t.TempDir(),
		ACME: ACME{Email: "me@example.org", CA: CA{URL: "https://ca.internal/directory"}},
	}
}

func TestInvalidConfigIsUsageError(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"unknown engine", func(c *Config) { c.ACME.Engine = "lego" }, "unknown"},
		{"autocert with an IP address", func(c *Config) { c.ACME.Engine = Autocert; c.Domains = []string{"192.0.2.1"} }, "IP address"},
		{"autocert with a single-label name", func(c *Config) { c.ACME.Engine = Autocert; c.Domains = []string{"box"} }, "no dot"},
		{"autocert with a profile", func(c *Config) { c.ACME.Engine = Autocert; c.ACME.Profile = "shortlived" }, "profile"},
		{"autocert with a fallback CA", func(c *Config) { c.ACME.Engine = Autocert; c.ACME.FallbackCA.URL = "https://b/" }, "fallback CA"},
		{"autocert without port 443", func(c *Config) { c.ACME.Engine = Autocert; c.ACME.NoTLS = true }, "port 443"},
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
	mustWriteFile(t, empty, nil)
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

func TestNamesAreNormalized(t *testing.T) {
	c := acmeConfig(t, "One.Example.org.", "one.example.org", " two.example.org", "bücher.example", "[2001:DB8::0:1]", "::ffff:192.0.2.1")
	s, err := resolveConfig(c)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"one.example.org", "two.example.org", "xn--bcher-kva.example", "2001:db8::1", "192.0.2.1"}
	if !slices.Equal(s.names, want) {
		t.Errorf("got names %q, want %q", s.names, want)
	}
}

func TestDefaultCAs(t *testing.T) {
	for _, tt := range []struct {
		name    string
		acme    ACME
		ca      string
		staging string
	}{
		{"Let's Encrypt", ACME{Agreed: true, StagingFirst: true}, LetsEncrypt, LetsEncryptStaging},
		{"Let's Encrypt, staging for dry runs only", ACME{Agreed: true}, LetsEncrypt, LetsEncryptStaging},
		{"Let's Encrypt staging", ACME{Agreed: true, Staging: true, StagingFirst: true}, LetsEncryptStaging, ""},
		{"private CA", ACME{Agreed: true, CA: CA{URL: "https://ca.internal/"}, StagingFirst: true}, "https://ca.internal/", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := resolveConfig(Config{Domains: []string{"one.example.org"}, ACME: tt.acme})
			if err != nil {
				t.Fatal(err)
			}
			stagingURL := ""
			if s.stagingCA != nil {
				stagingURL = s.stagingCA.url
			}
			if s.cas[0].url != tt.ca || stagingURL != tt.staging {
				t.Errorf("got CA %s, staging CA %q; want %s, %q", s.cas[0].url, stagingURL, tt.ca, tt.staging)
			}
		})
	}
}

// Private names are rejected for public CAs. Certificates of a staging environment do
// not count as publicly trusted.
func TestPublicCAs(t *testing.T) {
	for _, name := range []string{"10.0.0.1", "172.16.0.1", "192.168.1.1", "127.0.0.1", "169.254.1.1", "0.0.0.0", "::", "::1", "fe80::1", "fd00::1", "localhost", "box.local"} {
		c := acmeConfig(t, name)
		if _, err := resolveConfig(c); err != nil {
			t.Errorf("%s at a private CA: got %v, want no error", name, err)
		}
		c.ACME.CA.URL = ""
		if _, err := resolveConfig(c); !errors.Is(err, ErrUsage) {
			t.Errorf("%s at Let's Encrypt: got %v, want ErrUsage", name, err)
		}
	}
	for _, tt := range []struct {
		ca      string
		staging bool
		trusted bool
	}{
		{"", false, true},
		{"", true, false},
		{LetsEncryptStaging, false, false},
		{"https://ca.internal/directory", false, true},
	} {
		c := acmeConfig(t, "one.example.org")
		c.ACME.CA.URL, c.ACME.Staging = tt.ca, tt.staging
		if s, err := resolveConfig(c); err != nil || s.publiclyTrusted != tt.trusted {
			t.Errorf("%q, staging %v: got error %v, want publicly trusted %v", tt.ca, tt.staging, err, tt.trusted)
		}
	}
}
