package doctor

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"inbox/tlsmgr"
)

func discardLogger() *log.Logger { return log.New(io.Discard, "", 0) }

func TestDoctorFindsNothing(t *testing.T) {
	s := newTestEnv(t)
	s.RenewTest, s.DryRun = true, func(context.Context) error { return nil }
	found, ok := s.run()
	if !ok {
		t.Error("got a failure in a healthy environment")
	}
	var ids []string
	for _, f := range found {
		ids = append(ids, f.Check)
		if f.Level != OK || f.Fix != "" {
			t.Errorf("got %+v in a healthy environment", f)
		}
	}
	want := []string{"source", "clock", "state", "ports", "access", "files", "names", "ca", "caa", "account", "certificates", "orders", "renew-test"}
	if got := slices.Compact(ids); !slices.Equal(got, want) {
		t.Errorf("got the checks %v, want %v", got, want)
	}
}

// The text report groups findings by check.
func TestDoctorReport(t *testing.T) {
	findings := []Finding{
		good("", "All is fine.").withCheck("source"),
		failure("www.example.net", "The name has no address in DNS.", "Add a record.").withCheck("names"),
		warning("www.example.org", strings.Repeat("word ", 20)+"end.", "Wait.").withCheck("names"),
	}
	want := `Certificate source
  ok       All is fine.
DNS names
  failure  www.example.net: The name has no address in DNS.
             Add a record.
  warning  www.example.org: word word word word word word word word word word word word word
           word word word word word word word end.
             Wait.

1 failure, 1 warning. Fix the failures first.
`
	if got := report(findings); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestDoctorReportEnds(t *testing.T) {
	for want, findings := range map[string][]Finding{
		"No problems found.":                        {good("", "fine")},
		"No failures, 2 warnings.":                  {warning("", "a", "b"), warning("", "a", "b")},
		"2 failures, 0 warnings. Fix the failures ": {failure("", "a", "b"), failure("", "a", "b")},
	} {
		if got := report(findings); !strings.Contains(got, "\n"+want) {
			t.Errorf("got\n%s\nwant the last line %q", got, want)
		}
	}
}

// Without -json the report is text.
func TestDoctorPrintsText(t *testing.T) {
	s := newTestEnv(t)
	s.JSON = false
	s.zone.reset()
	s.start()
	var out bytes.Buffer
	if Run(t.Context(), s.Config, &out) {
		t.Error("got no failure, want one")
	}
	for _, want := range []string{"\nDNS names\n  failure  www.example.net: ", "(203.0.113.5)", "\n1 failure, 0 warnings. "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got\n%s\nwithout %q", out.String(), want)
		}
	}
}

// Every check has a heading.
func TestDoctorTitles(t *testing.T) {
	e := &examination{Config: Config{HTTPS: true, RenewTest: true, Domains: []string{"www.example.net"}, TURN: &TURN{}}}
	for _, c := range e.checks() {
		if titleOf(c.id) == "" {
			t.Errorf("no title for %q", c.id)
		}
	}
}

// A machine for development has no domains.
func TestDoctorWithoutDomains(t *testing.T) {
	s := newTestEnv(t)
	s.Domains, s.Email, s.HTTPBind, s.CertFile = nil, "", "", "server.crt"
	s.ca.down = true
	s.expectFinding(expect{"source", OK, "A self-signed certificate for development, because -domain is not set and server.crt does not exist", ""})
	s.HTTPS = false
	s.expectFinding(expect{"source", OK, "Plain HTTP, because of -https=false", ""})
}

func TestDoctorIsInterrupted(t *testing.T) {
	s := newTestEnv(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.start()
	var out bytes.Buffer
	if ok := Run(ctx, s.Config, &out); ok || !strings.Contains(out.String(), "was interrupted") {
		t.Errorf("got %v and\n%s", ok, out.String())
	}
}

// closedPipe is a pipe whose reader has closed it.
type closedPipe struct{}

func (closedPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestDoctorCannotPrint(t *testing.T) {
	s := newTestEnv(t)
	s.start()
	if Run(t.Context(), s.Config, closedPipe{}) {
		t.Error("got success, want a failure: the report was not written")
	}
}

// Reports get posted in public, so they must not contain the e-mail address.
func TestDoctorKeepsSecrets(t *testing.T) {
	for _, email := range []string{"anna@my-domain.net", "anna", "anna@nodot"} {
		s := newTestEnv(t)
		s.Email = email
		s.start()
		var out bytes.Buffer
		Run(t.Context(), s.Config, &out)
		if strings.Contains(out.String(), "anna") {
			t.Errorf("the report contains the e-mail address:\n%s", out.String())
		}
	}
}

// withDefaults sets every function.
func TestWithDefaults(t *testing.T) {
	c := Config{}.withDefaults()
	if c.resolver == nil || c.localAddrs == nil || c.listen == nil || c.dial == nil || c.proxy == nil ||
		c.findPortOwner == nil || c.bindUDP == nil || c.udpBuffer == nil || c.disk == nil || c.now == nil || c.States == nil {
		t.Errorf("got %+v", c)
	}
	addrs, err := c.localAddrs()
	if err != nil || !slices.ContainsFunc(addrs, func(a netip.Addr) bool { return a.IsLoopback() }) {
		t.Errorf("got the addresses %v, %v; want loopback among them", addrs, err)
	}
}

func TestForEachKeepsTheOrder(t *testing.T) {
	var names []string
	for range 100 {
		names = append(names, time.Now().String())
	}
	found := forEach(names, func(name string) []Finding { return []Finding{good(name, "a"), good(name, "b")} })
	for i, f := range found {
		if f.Name != names[i/2] {
			t.Fatalf("finding %d: got name %q, want %q", i, f.Name, names[i/2])
		}
	}
	if len(found) != 2*len(names) {
		t.Errorf("got %d findings, want %d", len(found), 2*len(names))
	}
}

func TestDoctorChecksAccount(t *testing.T) {
	runCases(t, []testCase{
		{"not agreed", func(s *testEnv) { s.Email = "" },
			expect{"account", Failure, "The CA's terms of service have not been agreed to.", "-acme-agree"}},
		{"URL of the terms", func(s *testEnv) { s.Email, s.ca.Meta.TermsOfService = "", "https://ca.example/terms" },
			expect{"account", Failure, "(https://ca.example/terms)", "-email"}},
		{"agreed without mail", func(s *testEnv) { s.Email, s.TermsAgreed = "", true },
			expect{"account", OK, "Without -email the CA cannot send warnings", ""}},
		{"no address", func(s *testEnv) { s.Email = "me" }, expect{"account", Failure, "Not a valid e-mail address", "plain address"}},
		{"with a name", func(s *testEnv) { s.Email = "Me <me@my-domain.net>" }, expect{"account", Failure, "Not a valid e-mail address", "plain address"}},
		{"no dot", func(s *testEnv) { s.Email = "me@localhost" }, expect{"account", Failure, "has no dot", "internet"}},
		{"example at Let's Encrypt", func(s *testEnv) { s.Email, s.CA.URL = "me@mail.example.org", "" },
			expect{"account", Failure, "Let's Encrypt rejects", "of your own"}},
		{"example elsewhere", func(s *testEnv) { s.Email = "me@example.org" }, expect{"account", OK, "can send warnings", ""}},
	})
}

func TestDoctorChecksStoredCertificates(t *testing.T) {
	expired := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	stored := func(n tlsmgr.NameState) func(*testEnv) {
		return func(s *testEnv) {
			n.Name = "www.example.net"
			s.States = func() []tlsmgr.NameState { return []tlsmgr.NameState{n} }
		}
	}
	runCases(t, []testCase{
		{"none", stored(tlsmgr.NameState{}), expect{"certificates", OK, "No certificate from the CA yet", ""}},
		{"files used meanwhile", stored(tlsmgr.NameState{Source: "file", NotAfter: expired}), expect{"certificates", OK, "No certificate from the CA yet", ""}},
		{"expired", stored(tlsmgr.NameState{Source: "acme", NotAfter: expired}), expect{"certificates", Warning, "expired at 2026-01-02 03:04:05", "why it was not renewed"}},
		{"good", stored(tlsmgr.NameState{Source: "acme", Issuer: "R13", NotAfter: expired.AddDate(70, 0, 0)}),
			expect{"certificates", OK, "a certificate from R13, valid until 2096-01-02", ""}},
	})
}

func TestDoctorReportsLastOrders(t *testing.T) {
	at := time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)
	failed := func(next time.Time) func(*testEnv) {
		return func(s *testEnv) {
			s.States = func() []tlsmgr.NameState {
				return []tlsmgr.NameState{{Name: "www.example.net", LastError: errors.New("connection refused"), LastAttempt: at, NextAttempt: next}}
			}
		}
	}
	runCases(t, []testCase{
		{"with a next attempt", failed(at.Add(time.Hour)), expect{"orders", Warning, "The order at 2026-11-01 10:00:00 failed: connection refused", "retries at 2026-11-01 11:00:00"}},
		{"without", failed(time.Time{}), expect{"orders", Warning, "connection refused", "Fix the problem reported by the CA."}},
		{"another user", func(s *testEnv) {
			s.States = func() []tlsmgr.NameState {
				return []tlsmgr.NameState{{Name: "www.example.net", LastError: &fs.PathError{Op: "open", Path: "x", Err: fs.ErrPermission}}}
			}
		}, expect{"orders", Warning, "No order was placed: open x: permission denied", "Run the doctor as root"}},
		{"CA not reached", func(s *testEnv) {
			s.States = func() []tlsmgr.NameState {
				return []tlsmgr.NameState{{Name: "www.example.net", LastError: errors.New("connection refused")}}
			}
		}, expect{"orders", Warning, "No order was placed: connection refused", "Fix the problem reported by the CA."}},
	})
}

func TestDoctorReportsDryRun(t *testing.T) {
	runCases(t, []testCase{
		{"refused", func(s *testEnv) {
			s.RenewTest, s.DryRun = true, func(context.Context) error { return errors.New("connection refused") }
		}, expect{"renew-test", Failure, "failed: connection refused", "port 80 or 443"}},
		{"without domains", func(s *testEnv) { s.RenewTest = true }, expect{"renew-test", Failure, "Without -domain", "-renew-test"}},
	})
}
