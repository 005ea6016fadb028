package doctor

import (
	"context"
	"errors"
	"net"
	"net/http"
	"testing"
	"time"

	"inbox/tlsmgr"
)

func TestDoctorFindsInAuthorities(t *testing.T) {
	stranger := issue(t, nil, term{}, "stranger")
	past := term{time.Now().Add(-48 * time.Hour), time.Now().Add(-24 * time.Hour)}
	says := func(body string) func(*stage) { return func(s *stage) { s.ca.body = body } }
	examineAll(t, []spoiled{
		{"away", func(s *stage) { s.ca.down = true }, expect{"ca", Failed, "connection refused", "whether this machine reaches it"}},
		{"ill", func(s *stage) { s.ca.status = http.StatusServiceUnavailable }, expect{"ca", Failed, "status 503", "-acme-ca"}},
		{"no directory", says("<html>"), expect{"ca", Failed, "no ACME directory", "-acme-ca"}},
		{"no orders", says(`{"newNonce":"https://a","newAccount":"https://b"}`), expect{"ca", Failed, "newOrder is missing", "-acme-ca"}},
		{"no accounts", says(`{"newNonce":"https://a","newOrder":"https://b"}`), expect{"ca", Failed, "newAccount or newOrder is missing", "-acme-ca"}},
		{"a private root", func(s *stage) { s.Roots = stranger.pool() }, expect{"ca", Failed, "unknown authority", "-acme-root FILE"}},
		{"expired", func(s *stage) { s.ca.own = s.root.sign(t, past, "localhost") }, expect{"ca", Failed, "expired", "clock of this machine"}},
		{"another host", func(s *stage) { s.ca.own = s.root.sign(t, term{}, "ca.example") }, expect{"ca", Failed, "not localhost", "correct the host"}},
		{"no TLS", func(s *stage) { s.ca.plain = true }, expect{"ca", Failed, "server gave HTTP response to HTTPS client", "does not speak HTTPS"}},
		{"no URL", func(s *stage) { s.CAURL = "https://[" }, expect{"ca", Failed, "missing ']'", "-acme-ca"}},
		{"wants an account", func(s *stage) { s.ca.Meta.ExternalAccountRequired = true }, expect{"ca", Failed, "external account binding", "-acme-eab-kid"}},
		{"gets an account", func(s *stage) { s.ca.Meta.ExternalAccountRequired, s.ExternalAccount = true, true }, expect{"ca", Fine, "The CA answers", ""}},
		{"has no such profile", func(s *stage) {
			s.Profile, s.ca.Meta.Profiles = "short", map[string]string{"classic": "", "long": ""}
		}, expect{"ca", Failed, `no profile "short"; it has "classic", "long"`, "-acme-profile"}},
		{"has no profiles", func(s *stage) { s.Profile = "short" }, expect{"ca", Failed, "it has none", "-acme-profile"}},
		{"has the profile", func(s *stage) { s.Profile, s.ca.Meta.Profiles = "short", map[string]string{"short": ""} },
			expect{"ca", Fine, "The CA answers", ""}},
	})
}

// TestDoctorWithTwoAuthorities: while one can be used, the other is a warning.
func TestDoctorWithTwoAuthorities(t *testing.T) {
	s := newStage(t)
	s.CAURL, s.SecondCAURL = "https://elsewhere.example/directory", "https://localhost/directory"
	s.find(expect{"ca", Warned, "not elsewhere.example", "correct the host"})
	s.show("ca", "The CA answers")
	s.show("source", "from https://elsewhere.example/directory, else https://localhost/directory")
}

// TestDoctorTellsAuthoritiesApart: each has its own roots and its own account.
func TestDoctorTellsAuthoritiesApart(t *testing.T) {
	s := newStage(t)
	s.SecondCAURL, s.SecondRoots = "https://localhost/second", issue(t, nil, term{}, "stranger").pool()
	s.find(expect{"ca", Warned, "unknown authority", "-acme-root"})
	s.show("ca", "The CA answers")
	s = newStage(t)
	s.SecondCAURL, s.SecondAccount, s.ca.Meta.ExternalAccountRequired = "https://localhost/second", true, true
	s.find(expect{"ca", Warned, "external account binding", "-acme-eab-key"})
}

// TestDoctorWaitsForAuthorities only for so long.
func TestDoctorWaitsForAuthorities(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // it accepts in the kernel, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	s := newStage(t)
	s.CAURL = "https://" + silent.Addr().String()
	e := &examination{Checkup: s.inTheWorld()}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	e.authorities = e.askAuthorities(ctx)
	found := e.checkAuthorities(ctx)
	if len(found) != 1 || !(expect{"", Failed, "deadline exceeded", "did not answer within 10 seconds"}).meets(found[0]) {
		t.Errorf("got %+v", found)
	}
}

func TestMendCAWithoutTLS(t *testing.T) {
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
	s := newStage(t)
	s.CAURL = "https://" + smtp.Addr().String()
	s.find(expect{"ca", Failed, "does not look like a TLS handshake", "does not speak HTTPS"})
}

func TestDoctorFindsInProfilesForAddresses(t *testing.T) {
	offers := func(profiles ...string) func(*stage) {
		return func(s *stage) {
			s.Domains = []string{"203.0.113.5"}
			s.ca.Meta.Profiles = map[string]string{}
			for _, p := range profiles {
				s.ca.Meta.Profiles[p] = "about it"
			}
		}
	}
	examineAll(t, []spoiled{
		{"the usual", offers("classic", "shortlived"), expect{"ca", Fine, `with its profile "shortlived"`, ""}},
		{"none", offers(), expect{"ca", Fine, "ordered without one", ""}},
		{"others", offers("classic"), expect{"ca", Warned, `no profile "shortlived"`, "-acme-profile"}},
	})
}

// TestCAURLs: production unless something else was asked for.
func TestCAURLs(t *testing.T) {
	for want, c := range map[string]Checkup{
		tlsmgr.LetsEncrypt: {}, tlsmgr.LetsEncryptStaging: {Staging: true}, "https://ca": {CAURL: "https://ca", Staging: true},
	} {
		e := &examination{Checkup: c}
		if got := e.caURLs(); len(got) != 1 || got[0] != want {
			t.Errorf("got %v, want %s", got, want)
		}
	}
}

func TestDoctorFindsInClocks(t *testing.T) {
	off := func(d time.Duration) func(*stage) {
		return func(s *stage) { s.ca.date = func() time.Time { return time.Now().Add(d) } }
	}
	year := func(y int) func(*stage) {
		return func(s *stage) { s.now = func() time.Time { return time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC) } }
	}
	examineAll(t, []spoiled{
		{"never set", year(1970), expect{"clock", Failed, "1970-01-01 00:00:00, which cannot be", "timedatectl"}},
		{"far future", year(2107), expect{"clock", Failed, "2107-01-01", "timedatectl"}},
		{"ten minutes behind", off(10 * time.Minute), expect{"clock", Failed, "behind that of the CA", "timedatectl"}},
		{"ten minutes ahead", off(-10 * time.Minute), expect{"clock", Failed, "ahead of that of the CA", "timedatectl"}},
		{"a minute", off(time.Minute), expect{"clock", Warned, "1m0s behind", "timedatectl"}},
		{"ten seconds", off(10 * time.Second), expect{"clock", Fine, "agrees", ""}},
		{"no date", func(s *stage) { s.ca.date = nil }, expect{"clock", Fine, "nothing else was asked", ""}},
	})
}

func TestMendCAOfUnknownTrouble(t *testing.T) {
	if got := mendCA(errors.New("unheard of")); got == "" {
		t.Error("no mend")
	}
}
