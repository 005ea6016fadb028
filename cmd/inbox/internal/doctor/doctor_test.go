package doctor

import (
	"bytes"
	"context"
	"errors"
	"io"
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
		t.Error("a failure in a healthy world")
	}
	var ids []string
	for _, f := range found {
		ids = append(ids, f.Check)
		if f.Level != OK || f.Fix != "" {
			t.Errorf("got %+v in a healthy world", f)
		}
	}
	want := []string{"source", "clock", "state", "ports", "files", "names", "ca", "caa", "account", "certificates", "supervisor", "renew-test"}
	if got := slices.Compact(ids); !slices.Equal(got, want) {
		t.Errorf("got the checks %v, want %v", got, want)
	}
}

// TestDoctorReport is what a person reads, and the order in which.
func TestDoctorReport(t *testing.T) {
	findings := []Finding{
		good("", "All that is fine.").withCheck("source"),
		failure("www.example.net", "It has no address in DNS.", "Add a record.").withCheck("names"),
		warning("www.example.org", strings.Repeat("word ", 20)+"end.", "Wait.").withCheck("names"),
	}
	want := `What serves
  ok       All that is fine.
Names in DNS
  failure  www.example.net: It has no address in DNS.
             Add a record.
  warning  www.example.org: word word word word word word word word word word word word word
           word word word word word word word end.
             Wait.

1 failure, 1 warning. Mend the failures first.
`
	if got := report(findings); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestDoctorReportEnds(t *testing.T) {
	for want, findings := range map[string][]Finding{
		"All is well.":                               {good("", "fine")},
		"No failure, 2 warnings.":                    {warning("", "a", "b"), warning("", "a", "b")},
		"2 failures, 0 warnings. Mend the failures ": {failure("", "a", "b"), failure("", "a", "b")},
	} {
		if got := report(findings); !strings.Contains(got, "\n"+want) {
			t.Errorf("got\n%s\nwant the end %q", got, want)
		}
	}
}

// TestDoctorPrintsText is the same findings without -json.
func TestDoctorPrintsText(t *testing.T) {
	s := newTestEnv(t)
	s.JSON = false
	s.zone.reset()
	s.start()
	var out bytes.Buffer
	if Run(t.Context(), s.Config, &out) {
		t.Error("all is well, want a failure")
	}
	for _, want := range []string{"\nNames in DNS\n  failure  www.example.net: ", "(203.0.113.5)", "\n1 failure, 0 warnings. "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got\n%s\nwithout %q", out.String(), want)
		}
	}
}

// TestDoctorTitles: every check has a line above its findings.
func TestDoctorTitles(t *testing.T) {
	e := &examination{Config: Config{HTTPS: true, RenewTest: true, Domains: []string{"www.example.net"}}}
	for _, c := range e.checks() {
		if titleOf(c.id) == "" {
			t.Errorf("no title for %q", c.id)
		}
	}
}

// TestDoctorWithoutDomains is a look at a machine for development.
func TestDoctorWithoutDomains(t *testing.T) {
	s := newTestEnv(t)
	s.Domains, s.Email, s.HTTPBind, s.CertFile = nil, "", "", "server.crt"
	s.ca.down = true
	s.expectFinding(expect{"source", OK, "A self-signed certificate for development, because there is neither -domain nor server.crt", ""})
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
		t.Errorf("well: %v, and\n%s", ok, out.String())
	}
}

// closedPipe is a pipe whose reader has left.
type closedPipe struct{}

func (closedPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestDoctorCannotPrint(t *testing.T) {
	s := newTestEnv(t)
	s.start()
	if Run(t.Context(), s.Config, closedPipe{}) {
		t.Error("all is well with a report that nobody read")
	}
}

// TestDoctorKeepsSecrets: reports are pasted in public places.
func TestDoctorKeepsSecrets(t *testing.T) {
	for _, email := range []string{"anna@my-domain.net", "anna", "anna@nodot"} {
		s := newTestEnv(t)
		s.Email = email
		s.start()
		var out bytes.Buffer
		Run(t.Context(), s.Config, &out)
		if strings.Contains(out.String(), "anna") {
			t.Errorf("the report repeats the mail address:\n%s", out.String())
		}
	}
}

// TestWithDefaults: nothing is left nil but what may be.
func TestWithDefaults(t *testing.T) {
	c := Config{}.withDefaults()
	if c.resolver == nil || c.localAddrs == nil || c.listen == nil || c.dial == nil || c.proxy == nil ||
		c.findPortOwner == nil || c.disk == nil || c.now == nil || c.States == nil {
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
			t.Fatalf("finding %d is about %q, want %q", i, f.Name, names[i/2])
		}
	}
	if len(found) != 2*len(names) {
		t.Errorf("got %d findings", len(found))
	}
}

func TestDoctorChecksAccount(t *testing.T) {
	runCases(t, []testCase{
		{"nobody agreed", func(s *testEnv) { s.Email = "" },
			expect{"account", Failure, "Nobody has agreed to the terms of the CA.", "-acme-agree"}},
		{"terms to read", func(s *testEnv) { s.Email, s.ca.Meta.TermsOfService = "", "https://ca.example/terms" },
			expect{"account", Failure, "(https://ca.example/terms)", "-email"}},
		{"agreed without mail", func(s *testEnv) { s.Email, s.TermsAgreed = "", true },
			expect{"account", OK, "without -email it cannot warn you", ""}},
		{"no address", func(s *testEnv) { s.Email = "me" }, expect{"account", Failure, "no e-mail address", "plainly"}},
		{"with a name", func(s *testEnv) { s.Email = "Me <me@my-domain.net>" }, expect{"account", Failure, "no e-mail address", "plainly"}},
		{"no dot", func(s *testEnv) { s.Email = "me@localhost" }, expect{"account", Failure, "has no dot", "internet"}},
		{"example at Let's Encrypt", func(s *testEnv) { s.Email, s.CAURL = "me@mail.example.org", "" },
			expect{"account", Failure, "Let's Encrypt refuses", "of your own"}},
		{"example elsewhere", func(s *testEnv) { s.Email = "me@example.org" }, expect{"account", OK, "has an address", ""}},
	})
}

func TestDoctorChecksStoredCertificates(t *testing.T) {
	ended := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	stored := func(n tlsmgr.NameState) func(*testEnv) {
		return func(s *testEnv) {
			n.Name = "www.example.net"
			s.States = func() []tlsmgr.NameState { return []tlsmgr.NameState{n} }
		}
	}
	runCases(t, []testCase{
		{"none", stored(tlsmgr.NameState{}), expect{"certificates", OK, "no certificate of the CA yet", ""}},
		{"files stand in", stored(tlsmgr.NameState{Source: "file", NotAfter: ended}), expect{"certificates", OK, "no certificate of the CA yet", ""}},
		{"ended", stored(tlsmgr.NameState{Source: "acme", NotAfter: ended}), expect{"certificates", Warning, "ended at 2026-01-02 03:04:05", "why it was not renewed"}},
		{"good", stored(tlsmgr.NameState{Source: "acme", Issuer: "R13", NotAfter: ended.AddDate(70, 0, 0)}),
			expect{"certificates", OK, "a certificate of R13 until 2096-01-02", ""}},
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
		{"with a next attempt", failed(at.Add(time.Hour)), expect{"supervisor", Warning, "2026-11-01 10:00:00 failed: connection refused", "at 2026-11-01 11:00:00"}},
		{"without", failed(time.Time{}), expect{"supervisor", Warning, "connection refused", "Mend what the CA says."}},
		{"nobody reached", func(s *testEnv) {
			s.States = func() []tlsmgr.NameState {
				return []tlsmgr.NameState{{Name: "www.example.net", LastError: errors.New("connection refused")}}
			}
		}, expect{"supervisor", Warning, "No order was made: connection refused", "Mend what the CA says."}},
	})
}

func TestDoctorReportsDryRun(t *testing.T) {
	runCases(t, []testCase{
		{"refused", func(s *testEnv) {
			s.RenewTest, s.DryRun = true, func(context.Context) error { return errors.New("no way through") }
		}, expect{"renew-test", Failure, "failed: no way through", "port 80 or 443"}},
		{"cannot", func(s *testEnv) { s.RenewTest = true }, expect{"renew-test", Failure, "Without -domain", "-renew-test"}},
	})
}
