package doctor

import (
	"context"
	"errors"
	"net"
	"net/http"
	"testing"
	"time"

	"inbox/tlsmgr/acme"
)

func TestDoctorChecksCAs(t *testing.T) {
	stranger := issueCert(t, nil, validity{}, "stranger")
	past := validity{time.Now().Add(-48 * time.Hour), time.Now().Add(-24 * time.Hour)}
	responds := func(body string) func(*testEnv) { return func(s *testEnv) { s.ca.body = body } }
	runCases(t, []testCase{
		{"down", func(s *testEnv) { s.ca.down = true }, expect{"ca", Failure, "connection refused", "this machine can reach it"}},
		{"overloaded", func(s *testEnv) { s.ca.status = http.StatusServiceUnavailable }, expect{"ca", Failure, "status 503", "-acme-ca"}},
		{"not a directory", responds("<html>"), expect{"ca", Failure, "not an ACME directory", "-acme-ca"}},
		{"no orders", responds(`{"newNonce":"https://a","newAccount":"https://b"}`), expect{"ca", Failure, "newOrder is missing", "-acme-ca"}},
		{"no accounts", responds(`{"newNonce":"https://a","newOrder":"https://b"}`), expect{"ca", Failure, "newAccount or newOrder is missing", "-acme-ca"}},
		{"a private root", func(s *testEnv) { s.CA = stranger.ca(s.t, s.CA.URL) }, expect{"ca", Failure, "unknown authority", "-acme-root FILE"}},
		{"expired", func(s *testEnv) { s.ca.cert = s.root.sign(t, past, "localhost") }, expect{"ca", Failure, "expired", "clock of this machine"}},
		{"another host", func(s *testEnv) { s.ca.cert = s.root.sign(t, validity{}, "ca.example") }, expect{"ca", Failure, "not localhost", "correct the host"}},
		{"no TLS", func(s *testEnv) { s.ca.noTLS = true }, expect{"ca", Failure, "server gave HTTP response to HTTPS client", "does not serve HTTPS"}},
		{"invalid URL", func(s *testEnv) { s.CA.URL = "https://[" }, expect{"ca", Failure, "not an ACME directory URL", "Correct -acme-ca"}},
		{"no roots", func(s *testEnv) { s.CA.RootsFile = "none.pem" }, expect{"ca", Failure, "read CA root certificates", "-acme-root"}},
		{"no EAB key", func(s *testEnv) { s.CA.EABKeyID, s.CA.EABKeyFile = "kid-1", "none" }, expect{"ca", Failure, "read EAB key", "-acme-eab-key"}},
		{"requires an account", func(s *testEnv) { s.ca.Meta.ExternalAccountRequired = true }, expect{"ca", Failure, "external account binding", "-acme-eab-kid"}},
		{"account given", func(s *testEnv) { s.ca.Meta.ExternalAccountRequired, s.CA = true, withAccount(s.t, s.CA) }, expect{"ca", OK, "The CA is reachable", ""}},
		{"unknown profile", func(s *testEnv) {
			s.Profile, s.ca.Meta.Profiles = "short", map[string]string{"classic": "", "long": ""}
		}, expect{"ca", Failure, `no profile "short". Available: "classic", "long".`, "-acme-profile"}},
		{"no profiles", func(s *testEnv) { s.Profile = "short" }, expect{"ca", Failure, "Available: none", "-acme-profile"}},
		{"known profile", func(s *testEnv) { s.Profile, s.ca.Meta.Profiles = "short", map[string]string{"short": ""} },
			expect{"ca", OK, "The CA is reachable", ""}},
	})
}

// An unusable CA is a warning while the other is usable.
func TestDoctorWithTwoCAs(t *testing.T) {
	s := newTestEnv(t)
	s.FallbackCA, s.CA.URL = s.CA, "https://elsewhere.example/directory"
	s.expectFinding(expect{"ca", Warning, "not elsewhere.example", "correct the host"})
	s.expectOK("ca", "The CA is reachable")
	s.expectOK("source", "from https://elsewhere.example/directory, else https://localhost/directory")
}

// Each CA has its own roots and its own account.
func TestDoctorKeepsCAsApart(t *testing.T) {
	s := newTestEnv(t)
	s.FallbackCA = issueCert(t, nil, validity{}, "stranger").ca(t, "https://localhost/fallback")
	s.expectFinding(expect{"ca", Warning, "unknown authority", "-acme-fallback-root FILE"})
	s.expectOK("ca", "The CA is reachable")
	s = newTestEnv(t)
	s.FallbackCA, s.ca.Meta.ExternalAccountRequired = withAccount(t, s.CA), true
	s.expectFinding(expect{"ca", Warning, "external account binding", "-acme-eab-key"})
	s.CA, s.FallbackCA = s.FallbackCA, s.CA
	s.expectFinding(expect{"ca", Warning, "external account binding", "-acme-fallback-eab-key"})
	s = newTestEnv(t)
	s.FallbackCA, s.CA.URL = s.CA, "https://elsewhere.example/directory"
	s.Profile, s.ca.Meta.Profiles = "short", map[string]string{"classic": ""}
	s.expectFinding(expect{"ca", Warning, "not elsewhere.example", "correct the host in -acme-ca"})
	if n := tally(s.Examine(t.Context()), Warning); n != 1 {
		t.Errorf("got %d warnings, want 1: the profile is that of the first CA", n)
	}
}

func TestDoctorLimitsWaitForCAs(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts; nothing responds
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	s := newTestEnv(t)
	s.CA.URL = "https://" + silent.Addr().String()
	e := &examination{Config: s.withDefaults()}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	e.cas = e.configuredCAs()
	e.fetchDirectories(ctx)
	found := e.checkCAs(ctx)
	if len(found) != 1 || !(expect{"", Failure, "deadline exceeded", "did not respond within 10 seconds"}).matches(found[0]) {
		t.Errorf("got %+v", found)
	}
}

func TestFixForCAWithoutTLS(t *testing.T) {
	smtp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer smtp.Close()
	go func() {
		if c, err := smtp.Accept(); err == nil {
			c.Write([]byte("220 mail.example.net ESMTP\r\n"))
			c.Close()
		}
	}()
	s := newTestEnv(t)
	s.CA.URL = "https://" + smtp.Addr().String()
	s.expectFinding(expect{"ca", Failure, "does not look like a TLS handshake", "does not serve HTTPS"})
}

func TestDoctorChecksIPProfiles(t *testing.T) {
	offers := func(profiles ...string) func(*testEnv) {
		return func(s *testEnv) {
			s.Domains = []string{"203.0.113.5"}
			s.ca.Meta.Profiles = map[string]string{}
			for _, p := range profiles {
				s.ca.Meta.Profiles[p] = "about it"
			}
		}
	}
	runCases(t, []testCase{
		{"the usual", offers("classic", "shortlived"), expect{"ca", OK, `with the profile "shortlived"`, ""}},
		{"none", offers(), expect{"ca", OK, "ordered without one", ""}},
		{"others", offers("classic"), expect{"ca", Warning, `no profile "shortlived"`, "-acme-profile"}},
	})
}

// The default is Let's Encrypt's production environment.
func TestCAURLs(t *testing.T) {
	for want, c := range map[string]Config{
		acme.LetsEncrypt: {}, acme.LetsEncryptStaging: {Staging: true}, "https://ca": {CA: acme.CA{URL: "https://ca"}, Staging: true},
	} {
		e := &examination{Config: c}
		e.cas = e.configuredCAs()
		if got := e.caURLs(); len(got) != 1 || got[0] != want {
			t.Errorf("got %v, want %s", got, want)
		}
	}
}

func TestDoctorChecksClock(t *testing.T) {
	off := func(d time.Duration) func(*testEnv) {
		return func(s *testEnv) { s.ca.date = func() time.Time { return time.Now().Add(d) } }
	}
	year := func(y int) func(*testEnv) {
		return func(s *testEnv) { s.now = func() time.Time { return time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC) } }
	}
	runCases(t, []testCase{
		{"never set", year(1970), expect{"clock", Failure, "1970-01-01 00:00:00, which is implausible", "timedatectl"}},
		{"far future", year(2107), expect{"clock", Failure, "2107-01-01", "timedatectl"}},
		{"ten minutes behind", off(10 * time.Minute), expect{"clock", Failure, "behind the clock of the CA", "timedatectl"}},
		{"ten minutes ahead", off(-10 * time.Minute), expect{"clock", Failure, "ahead of the clock of the CA", "timedatectl"}},
		{"a minute", off(time.Minute), expect{"clock", Warning, "1m0s behind", "timedatectl"}},
		{"ten seconds", off(10 * time.Second), expect{"clock", OK, "agrees", ""}},
		{"no date", func(s *testEnv) { s.ca.date = nil }, expect{"clock", OK, "not compared", ""}},
	})
}

func TestFixForUnknownCAError(t *testing.T) {
	if got := fixForCA(errors.New("unheard of")); got == "" {
		t.Error("got no fix")
	}
}
