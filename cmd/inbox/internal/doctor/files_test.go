package doctor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// withFiles configures certificate files with c.
func withFiles(s *testEnv, c testCert) {
	dir := privateDir(s.t)
	s.CertFile, s.KeyFile = filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key")
	c.write(s.t, s.CertFile, s.KeyFile)
}

// validFor configures files with a certificate for the domain, valid between two
// times relative to now.
func validFor(from, to time.Duration) func(*testEnv) {
	return func(s *testEnv) {
		withFiles(s, s.root.sign(s.t, validity{time.Now().Add(from), time.Now().Add(to)}, "www.example.net"))
	}
}

func TestDoctorChecksFiles(t *testing.T) {
	const day = 24 * time.Hour
	whole := validFor(-day, 90*day)
	runCases(t, []testCase{
		{"good", whole, expect{"files", OK, "matches its key", ""}},
		{"no key", func(s *testEnv) { whole(s); os.Remove(s.KeyFile) }, expect{"files", Failure, "read key", "Set both"}},
		{"no certificate", func(s *testEnv) { whole(s); os.Remove(s.CertFile) }, expect{"files", Failure, "read certificate", "Set both"}},
		{"garbage", func(s *testEnv) { whole(s); os.WriteFile(s.CertFile, []byte("half a"), 0o600) },
			expect{"files", Failure, "failed to find any PEM data", "Both files must be PEM"}},
		{"another key", func(s *testEnv) {
			whole(s)
			s.root.write(s.t, filepath.Join(privateDir(s.t), "other.crt"), s.KeyFile)
		}, expect{"files", Failure, "does not match", "another certificate"}},
		{"an encrypted key", func(s *testEnv) { whole(s); writePEM(s.t, s.KeyFile, "ENCRYPTED PRIVATE KEY", []byte{1}) },
			expect{"files", Failure, "passphrase", "openssl pkey"}},
		{"expired", validFor(-90*day, -day), expect{"files", Failure, "The certificate expired on", "Renew it"}},
		{"not valid yet", validFor(day, 90*day), expect{"files", Failure, "not valid before", "clock"}},
		{"near its expiry", validFor(-80*day, 10*day+time.Hour), expect{"files", Warning, "in 10 days", "Renew it"}},
		{"a short lifetime near its expiry", validFor(-6*day, day), expect{"files", Warning, "in 23 hours", "Renew it"}},
		{"a short lifetime", validFor(-day, 5*day), expect{"files", OK, "matches its key", ""}},
		{"another name", func(s *testEnv) { withFiles(s, s.root.sign(s.t, validity{}, "mail.example.net")) },
			expect{"files", Warning, "does not cover www.example.net", "not served until"}},
		{"a wildcard", func(s *testEnv) { withFiles(s, s.root.sign(s.t, validity{}, "*.example.net")) }, expect{"files", OK, "matches its key", ""}},
		{"a common name", func(s *testEnv) { withFiles(s, issueCert(s.t, &s.root, validity{}, "www.example.net")) },
			expect{"files", OK, "matches its key", ""}},
		{"a wildcard as common name", func(s *testEnv) { withFiles(s, issueCert(s.t, &s.root, validity{}, "*.example.net")) },
			expect{"files", OK, "matches its key", ""}},
		{"of an unknown CA", func(s *testEnv) {
			stranger := issueCert(s.t, nil, validity{}, "stranger")
			withFiles(s, stranger.sign(s.t, validity{}, "www.example.net"))
		}, expect{"files", Warning, "does not chain to a root", "fullchain.pem"}},
		{"self-signed", func(s *testEnv) { withFiles(s, issueCert(s.t, nil, validity{}, "root", "www.example.net")) },
			expect{"files", Warning, "self-signed", "from a CA"}},
		{"a key readable for all", func(s *testEnv) { whole(s); os.Chmod(s.KeyFile, 0o644) },
			expect{"files", Warning, "(mode 0644)", "chmod o-rwx"}},
		{"a key readable for a group", func(s *testEnv) { whole(s); os.Chmod(s.KeyFile, 0o640) }, expect{"files", OK, "matches its key", ""}},
	})
}

// The intermediate certificates come from the certificate file.
func TestDoctorReadsChains(t *testing.T) {
	s := newTestEnv(t)
	sub := s.root.intermediate(t)
	leaf := sub.sign(t, validity{}, "www.example.net")
	withFiles(s, leaf)
	s.expectFinding(expect{"files", Warning, "does not chain to a root", "intermediate certificates are missing"})
	chain, err := os.ReadFile(s.CertFile)
	if err != nil {
		t.Fatal(err)
	}
	sub.write(t, s.CertFile, filepath.Join(privateDir(t), "other.key"))
	rest, err := os.ReadFile(s.CertFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.CertFile, append(chain, rest...), 0o600); err != nil {
		t.Fatal(err)
	}
	s.expectFinding(expect{"files", OK, "matches its key", ""})
}

// The source tells how the files are used with and without domains.
func TestDoctorSaysWhatFilesAreFor(t *testing.T) {
	s := newTestEnv(t)
	validFor(-time.Hour, 1000*time.Hour)(s)
	s.expectFinding(expect{"source", OK, "Until they are obtained, " + s.CertFile, ""})
	s.Domains = nil
	s.expectFinding(expect{"source", OK, "because it exists and -domain is not set", ""})
}

func TestFixForKeyPair(t *testing.T) {
	denied := fmt.Errorf("read the key: %w", os.ErrPermission)
	if got := fixForKeyPair(denied); got != "Make the files readable for the user that the server runs as." {
		t.Errorf("got %q", got)
	}
}
func TestRoughDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		72 * time.Hour: "3 days", 47 * time.Hour: "47 hours", 90 * time.Minute: "90 minutes", time.Minute: "1 minute", time.Second: "0 minutes",
	} {
		if got := roughDuration(d); got != want {
			t.Errorf("roughDuration(%v) = %q, want %q", d, got, want)
		}
	}
}

var errNoDisk = errors.New("no such file system")
