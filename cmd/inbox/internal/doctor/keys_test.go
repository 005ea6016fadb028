package doctor

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"inbox/tlsmgr/acme"
)

// withKey configures a certificate of the root for a key.
func withKey(s *testEnv, key crypto.Signer, life time.Duration) {
	leaf := s.root.sign(s.t, validity{}, "www.example.net")
	template := *leaf.Leaf
	template.NotAfter = template.NotBefore.Add(life)
	der, err := x509.CreateCertificate(rand.Reader, &template, s.root.Leaf, key.Public(), s.root.PrivateKey)
	if err != nil {
		s.t.Fatal(err)
	}
	leaf.Certificate.Certificate, leaf.PrivateKey = [][]byte{der}, key
	withFiles(s, leaf)
}

func ecKey(t *testing.T, curve elliptic.Curve) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Pairs that no client, or only few clients, can use.
func TestDoctorChecksKeys(t *testing.T) {
	const day = 24 * time.Hour
	runCases(t, []testCase{
		{"Ed25519", func(s *testEnv) {
			_, key, err := ed25519.GenerateKey(rand.Reader)
			if err != nil {
				s.t.Fatal(err)
			}
			withKey(s, key, 90*day)
		}, expect{"files", Warning, "no browser accepts", "P-256"}},
		{"P-521", func(s *testEnv) { withKey(s, ecKey(s.t, elliptic.P521()), 90*day) }, expect{"files", Warning, "P-521", "P-256"}},
		{"P-384", func(s *testEnv) { withKey(s, ecKey(s.t, elliptic.P384()), 90*day) }, expect{"files", OK, "matches its key", ""}},
		{"P-224", func(s *testEnv) { withKey(s, ecKey(s.t, elliptic.P224()), 90*day) }, expect{"files", Failure, "no client can use", "P-256"}},
		{"900 days", func(s *testEnv) { withKey(s, ecKey(s.t, elliptic.P256()), 900*day) }, expect{"files", Warning, "398 days", "398 days at most"}},
		{"398 days", func(s *testEnv) { withKey(s, ecKey(s.t, elliptic.P256()), 398*day) }, expect{"files", OK, "matches its key", ""}},
		{"UTF-16", func(s *testEnv) { spoilCert(s, func(b []byte) []byte { return append([]byte{0xff, 0xfe}, b...) }) },
			expect{"files", Failure, "UTF-16", "iconv"}},
		{"byte order mark", func(s *testEnv) { spoilCert(s, func(b []byte) []byte { return append([]byte("\xef\xbb\xbf"), b...) }) },
			expect{"files", OK, "matches its key", ""}},
		{"a folder", func(s *testEnv) {
			withFiles(s, s.root.sign(s.t, validity{}, "www.example.net"))
			s.CertFile = filepath.Dir(s.CertFile)
		},
			expect{"files", Failure, "a folder", "fullchain.pem"}},
	})
}

func spoilCert(s *testEnv, change func([]byte) []byte) {
	withFiles(s, s.root.sign(s.t, validity{}, "www.example.net"))
	text, err := os.ReadFile(s.CertFile)
	if err == nil {
		err = os.WriteFile(s.CertFile, change(bytes.Clone(text)), 0o600)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// RSA keys that Go does not make.
func TestDoctorChecksShortRSAKeys(t *testing.T) {
	for bits, want := range map[string]expect{"rsa:1024": {"files", Warning, "1024 bits", "RSA 2048"}, "rsa:512": {"files", Failure, "unusable", ""}} {
		s := newTestEnv(t)
		dir := privateDir(t)
		s.CertFile, s.KeyFile = filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key")
		out, err := exec.Command("openssl", "req", "-x509", "-newkey", bits, "-nodes", "-subj", "/CN=www.example.net",
			"-addext", "subjectAltName=DNS:www.example.net", "-days", "90", "-keyout", s.KeyFile, "-out", s.CertFile).CombinedOutput()
		if err != nil {
			t.Skipf("openssl: %v\n%s", err, out)
		}
		s.expectFinding(want)
	}
}

// The CA is asked about the account.
func TestDoctorReportsAccounts(t *testing.T) {
	state := func(a acme.Account) func(*testEnv) {
		return func(s *testEnv) {
			a.CA = "https://localhost/directory"
			s.Accounts = func(context.Context) []acme.Account { return []acme.Account{a} }
		}
	}
	for _, tt := range []struct {
		name  string
		state acme.Account
		want  expect
	}{
		{"valid", acme.Account{URL: "https://localhost/1", Status: acme.AccountValid}, expect{"account", OK, "valid at the CA", ""}},
		{"deactivated", acme.Account{URL: "https://localhost/1", Status: acme.AccountDeactivated}, expect{"account", Warning, "deactivated", "registers another"}},
		{"unknown", acme.Account{Status: acme.AccountUnknown}, expect{"account", Warning, "unknown to the CA", "registers another"}},
		{"revoked", acme.Account{Status: acme.AccountRevoked}, expect{"account", Failure, "revoked", "Ask the CA"}},
		{"CA does not answer", acme.Account{Err: errors.New("no route")}, expect{"account", Warning, "no route", "about the CA"}},
		{"none yet", acme.Account{Err: fs.ErrNotExist}, expect{"account", OK, "terms are agreed to", ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestEnv(t)
			state(tt.state)(s)
			s.expectFinding(tt.want)
		})
	}
}

// Files that the user of the server cannot read.
func TestDoctorLooksAsTheServiceUser(t *testing.T) {
	s := newTestEnv(t)
	withFiles(s, s.root.sign(t, validity{}, "www.example.net"))
	s.serviceUser = func(string) (serviceUser, bool) { return serviceUser{uid: 4242}, true }
	s.expectFinding(expect{"files", Failure, "The user of the server (4242", "deploy hook"})
}
