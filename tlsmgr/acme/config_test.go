package acme

import (
	"errors"
	"slices"
	"testing"
)

// withEngine adds an engine factory that is not called.
func withEngine(c Config) Config {
	c.Engine = func(*Settings) (Engine, error) { return nil, nil }
	return c
}

func TestNamesAreNormalized(t *testing.T) {
	names, err := Names([]string{"One.Example.org.", "one.example.org", " two.example.org", "bücher.example", "[2001:DB8::0:1]", "::ffff:192.0.2.1"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"one.example.org", "two.example.org", "xn--bcher-kva.example", "2001:db8::1", "192.0.2.1"}
	if !slices.Equal(names, want) {
		t.Errorf("got names %q, want %q", names, want)
	}
}

func TestDefaultCAs(t *testing.T) {
	for _, tt := range []struct {
		name    string
		config  Config
		ca      string
		staging string
	}{
		{"Let's Encrypt", Config{Agreed: true, StagingFirst: true}, LetsEncrypt, LetsEncryptStaging},
		{"Let's Encrypt, staging for dry runs only", Config{Agreed: true}, LetsEncrypt, LetsEncryptStaging},
		{"Let's Encrypt staging", Config{Agreed: true, Staging: true, StagingFirst: true}, LetsEncryptStaging, ""},
		{"private CA", Config{Agreed: true, CA: CA{URL: "https://ca.internal/"}, StagingFirst: true}, "https://ca.internal/", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := resolve(withEngine(tt.config), []string{"one.example.org"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			stagingURL := ""
			if s.StagingCA != nil {
				stagingURL = s.StagingCA.URL
			}
			if s.CAs[0].URL != tt.ca || stagingURL != tt.staging {
				t.Errorf("got CA %s, staging CA %q; want %s, %q", s.CAs[0].URL, stagingURL, tt.ca, tt.staging)
			}
		})
	}
}

// Private names are rejected for public CAs. Certificates of a staging environment do
// not count as publicly trusted.
func TestPublicCAs(t *testing.T) {
	for _, name := range []string{"10.0.0.1", "172.16.0.1", "192.168.1.1", "127.0.0.1", "169.254.1.1", "0.0.0.0", "::", "::1", "fe80::1", "fd00::1", "localhost", "box.local"} {
		c := withEngine(Config{Agreed: true, CA: CA{URL: "https://ca.internal/directory"}})
		if _, err := resolve(c, []string{name}, nil); err != nil {
			t.Errorf("%s at a private CA: got %v, want no error", name, err)
		}
		c.CA.URL = ""
		if _, err := resolve(c, []string{name}, nil); !errors.Is(err, ErrUsage) {
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
		c := withEngine(Config{Agreed: true, CA: CA{URL: tt.ca}, Staging: tt.staging})
		if s, err := resolve(c, []string{"one.example.org"}, nil); err != nil || s.publiclyTrusted() != tt.trusted {
			t.Errorf("%q, staging %v: got error %v, want publicly trusted %v", tt.ca, tt.staging, err, tt.trusted)
		}
	}
}
