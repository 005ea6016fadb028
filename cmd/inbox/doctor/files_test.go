package doctor

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// withFiles gives the stage a certificate in files.
func withFiles(s *stage, c issued) {
	dir := privateDir(s.t)
	s.CertFile, s.KeyFile = filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key")
	c.write(s.t, s.CertFile, s.KeyFile)
}

// lasting is a row's certificate for the stage's name, from and to relative to now.
func lasting(from, to time.Duration) func(*stage) {
	return func(s *stage) {
		withFiles(s, s.root.sign(s.t, term{time.Now().Add(from), time.Now().Add(to)}, "www.example.net"))
	}
}

func TestDoctorFindsInFiles(t *testing.T) {
	const day = 24 * time.Hour
	whole := lasting(-day, 90*day)
	examineAll(t, []spoiled{
		{"good", whole, expect{"files", Fine, "fits its key", ""}},
		{"no key", func(s *stage) { whole(s); os.Remove(s.KeyFile) }, expect{"files", Failed, "read the key", "Name both files"}},
		{"no certificate", func(s *stage) { whole(s); os.Remove(s.CertFile) }, expect{"files", Failed, "read the certificate", "Name both files"}},
		{"garbage", func(s *stage) { whole(s); os.WriteFile(s.CertFile, []byte("half a"), 0o600) },
			expect{"files", Failed, "failed to find any PEM data", "Both must be PEM"}},
		{"another key", func(s *stage) {
			whole(s)
			s.root.write(s.t, filepath.Join(privateDir(s.t), "other.crt"), s.KeyFile)
		}, expect{"files", Failed, "does not match", "another certificate"}},
		{"a locked key", func(s *stage) { whole(s); writePEM(s.t, s.KeyFile, "ENCRYPTED PRIVATE KEY", []byte{1}) },
			expect{"files", Failed, "passphrase", "openssl pkey"}},
		{"ended", lasting(-90*day, -day), expect{"files", Failed, "The certificate ended on", "Renew it"}},
		{"not begun", lasting(day, 90*day), expect{"files", Failed, "begins only on", "clock"}},
		{"near its end", lasting(-80*day, 10*day+time.Hour), expect{"files", Warned, "in 10 days", "Renew it"}},
		{"a short life near its end", lasting(-6*day, day), expect{"files", Warned, "in 23 hours", "Renew it"}},
		{"a short life", lasting(-day, 5*day), expect{"files", Fine, "fits its key", ""}},
		{"another name", func(s *stage) { withFiles(s, s.root.sign(s.t, term{}, "mail.example.net")) },
			expect{"files", Warned, "not for www.example.net", "served only once"}},
		{"a wildcard", func(s *stage) { withFiles(s, s.root.sign(s.t, term{}, "*.example.net")) }, expect{"files", Fine, "fits its key", ""}},
		{"a common name", func(s *stage) { withFiles(s, issue(s.t, &s.root, term{}, "www.example.net")) },
			expect{"files", Fine, "fits its key", ""}},
		{"nobody's", func(s *stage) {
			stranger := issue(s.t, nil, term{}, "stranger")
			withFiles(s, stranger.sign(s.t, term{}, "www.example.net"))
		}, expect{"files", Warned, "No root that this machine trusts", "fullchain.pem"}},
		{"signed by itself", func(s *stage) { withFiles(s, issue(s.t, nil, term{}, "root", "www.example.net")) },
			expect{"files", Warned, "signed by itself", "from a CA"}},
		{"a key for all to read", func(s *stage) { whole(s); os.Chmod(s.KeyFile, 0o644) },
			expect{"files", Warned, "(mode 0644)", "chmod o-rwx"}},
		{"a key for a group", func(s *stage) { whole(s); os.Chmod(s.KeyFile, 0o640) }, expect{"files", Fine, "fits its key", ""}},
	})
}

// TestDoctorReadsChains: what is between a certificate and its root comes from the file.
func TestDoctorReadsChains(t *testing.T) {
	s := newStage(t)
	between := s.root.intermediate(t)
	leaf := between.sign(t, term{}, "www.example.net")
	withFiles(s, leaf)
	s.find(expect{"files", Warned, "No root that this machine trusts", "its chain is missing"})
	chain, err := os.ReadFile(s.CertFile)
	if err != nil {
		t.Fatal(err)
	}
	between.write(t, s.CertFile, filepath.Join(privateDir(t), "other.key"))
	rest, err := os.ReadFile(s.CertFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.CertFile, append(chain, rest...), 0o600); err != nil {
		t.Fatal(err)
	}
	s.find(expect{"files", Fine, "fits its key", ""})
}

// TestDoctorSaysWhatFilesAreFor, with and without names to order for.
func TestDoctorSaysWhatFilesAreFor(t *testing.T) {
	s := newStage(t)
	lasting(-time.Hour, 1000*time.Hour)(s)
	s.find(expect{"source", Fine, "Until there is one, " + s.CertFile, ""})
	s.Domains = nil
	s.find(expect{"source", Fine, "because it exists and no -domain is given", ""})
}

func TestMendPair(t *testing.T) {
	denied := fmt.Errorf("read the key: %w", os.ErrPermission)
	if got := mendPair(denied); got != "Let the user that the server runs as read the files." {
		t.Errorf("got %q", got)
	}
}

func TestCovers(t *testing.T) {
	byAlternative := &x509.Certificate{DNSNames: []string{"a.example"}}
	byAlternative.Subject.CommonName = "b.example"
	if !covers(byAlternative, "A.example") || covers(byAlternative, "b.example") {
		t.Error("alternative names must win over the common name")
	}
}

func TestCoarse(t *testing.T) {
	for d, want := range map[time.Duration]string{
		72 * time.Hour: "3 days", 47 * time.Hour: "47 hours", 90 * time.Minute: "90 minutes", time.Minute: "1 minute", time.Second: "0 minutes",
	} {
		if got := coarse(d); got != want {
			t.Errorf("coarse(%v) = %q, want %q", d, got, want)
		}
	}
}

var errNoDisk = errors.New("no such file system")
