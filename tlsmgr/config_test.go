package tlsmgr

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// acmeConfig is a configuration that can be used.
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
		{"autocert with an address", func(c *Config) { c.ACME.Engine = Autocert; c.Domains = []string{"192.0.2.1"} }, "IP address"},
		{"autocert without a dot", func(c *Config) { c.ACME.Engine = Autocert; c.Domains = []string{"box"} }, "no dot"},
		{"autocert with a profile", func(c *Config) { c.ACME.Engine = Autocert; c.ACME.Profile = "shortlived" }, "profile"},
		{"autocert with a fallback CA", func(c *Config) { c.ACME.Engine = Autocert; c.ACME.FallbackCA.URL = "https://b/" }, "fallback CA"},
		{"autocert without port 443", func(c *Config) { c.ACME.Engine = Autocert; c.ACME.NoTLS = true }, "port 443"},
		{"no consent", func(c *Config) { c.ACME.Email = "" }, "terms"},
		{"no e-mail address", func(c *Config) { c.ACME.Email = "me" }, "e-mail"},
		{"no door", func(c *Config) { c.ACME.NoTLS = true; c.ACME.NoHTTP = true }, "neither"},
		{"staging of another authority", func(c *Config) { c.ACME.Staging = true }, "choose one"},
		{"the same authority twice", func(c *Config) { c.ACME.FallbackCA.URL = c.ACME.CA.URL }, "same"},
		{"no directory", func(c *Config) { c.ACME.CA.URL = "ca.example.org" }, "directory"},
		{"a public directory in clear", func(c *Config) { c.ACME.CA.URL = "http://ca.example.org/directory" }, "directory"},
		{"a key id without a key", func(c *Config) { c.ACME.CA.EABKeyID = "kid" }, "both"},
		{"a wildcard", func(c *Config) { c.Domains = []string{"*.example.org"} }, "wildcard"},
		{"a URL as name", func(c *Config) { c.Domains = []string{"https://example.org"} }, "host name"},
		{"a port in the name", func(c *Config) { c.Domains = []string{"example.org:443"} }, "host name"},
		{"no label between dots", func(c *Config) { c.Domains = []string{"one..example.org"} }, "host name"},
		{"dots alone", func(c *Config) { c.Domains = []string{".."} }, "host name"},
		{"a long label", func(c *Config) { c.Domains = []string{strings.Repeat("a", 64) + ".example.org"} }, "host name"},
		{"almost an address", func(c *Config) { c.Domains = []string{"192.0.2.256"} }, "host name"},
		{"a password in the directory", func(c *Config) { c.ACME.CA.URL = "https://me:secret@ca.internal/" }, "ca.internal contains a user name or password"},
		{"an empty name", func(c *Config) { c.Domains = []string{""} }, "host name"},
		{"a private name at Let's Encrypt", func(c *Config) { c.ACME.CA.URL = ""; c.Domains = []string{"box.local"} }, "public"},
		{"a private address at Let's Encrypt", func(c *Config) { c.ACME.CA.URL = ""; c.Domains = []string{"192.168.0.1"} }, "public"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := acmeConfig(t, "one.example.org")
			tt.change(&c)
			_, err := New(c)
			if !errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("New: got %v, want one line of usage with %q", err, tt.want)
			}
		})
	}
}

func TestUnreadableFilesAreNotUsageErrors(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	mustWriteFile(t, empty, nil)
	for name, change := range map[string]func(*Config){
		"roots missing":     func(c *Config) { c.ACME.CA.RootsFile = "nowhere" },
		"roots without any": func(c *Config) { c.ACME.CA.RootsFile = empty },
		"MAC key missing":   func(c *Config) { c.ACME.CA.EABKeyID, c.ACME.CA.EABKeyFile = "kid", "nowhere" },
		"MAC key empty":     func(c *Config) { c.ACME.CA.EABKeyID, c.ACME.CA.EABKeyFile = "kid", empty },
	} {
		t.Run(name, func(t *testing.T) {
			c := acmeConfig(t, "one.example.org")
			change(&c)
			if _, err := New(c); err == nil || errors.Is(err, ErrUsage) {
				t.Errorf("New: got %v, want an error that is not of usage", err)
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
		t.Errorf("names %q, want %q", s.names, want)
	}
}

func TestDefaultCAs(t *testing.T) {
	for _, tt := range []struct {
		name  string
		acme  ACME
		ca    string
		trial string
	}{
		{"Let's Encrypt", ACME{Agreed: true, StagingFirst: true}, LetsEncrypt, LetsEncryptStaging},
		{"for dry orders alone", ACME{Agreed: true}, LetsEncrypt, LetsEncryptStaging},
		{"its staging", ACME{Agreed: true, Staging: true, StagingFirst: true}, LetsEncryptStaging, ""},
		{"another", ACME{Agreed: true, CA: CA{URL: "https://ca.internal/"}, StagingFirst: true}, "https://ca.internal/", ""},
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
			if s.cas[0].url != tt.ca || stagingURL != tt.trial {
				t.Errorf("asks %s, tries at %q; want %s and %q", s.cas[0].url, stagingURL, tt.ca, tt.trial)
			}
		})
	}
}

// What nobody on the internet reaches is not asked of a public authority, and
// its trials bring nothing that browsers trust.
func TestPublicCAs(t *testing.T) {
	for _, name := range []string{"10.0.0.1", "172.16.0.1", "192.168.1.1", "127.0.0.1", "169.254.1.1", "0.0.0.0", "::", "::1", "fe80::1", "fd00::1", "localhost", "box.local"} {
		c := acmeConfig(t, name)
		if _, err := resolveConfig(c); err != nil {
			t.Errorf("%s at an authority of one's own: %v", name, err)
		}
		c.ACME.CA.URL = ""
		if _, err := resolveConfig(c); !errors.Is(err, ErrUsage) {
			t.Errorf("%s at Let's Encrypt: got %v, want a refusal", name, err)
		}
	}
	for _, tt := range []struct {
		ca      string
		staging bool
		public  bool
	}{
		{"", false, true},
		{"", true, false},
		{LetsEncryptStaging, false, false},
		{"https://ca.internal/directory", false, true},
	} {
		c := acmeConfig(t, "one.example.org")
		c.ACME.CA.URL, c.ACME.Staging = tt.ca, tt.staging
		if s, err := resolveConfig(c); err != nil || s.publiclyTrusted != tt.public {
			t.Errorf("%q, staging %v: %v; want public %v", tt.ca, tt.staging, err, tt.public)
		}
	}
}
