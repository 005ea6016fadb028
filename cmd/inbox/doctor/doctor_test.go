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

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

func TestDoctorFindsNothing(t *testing.T) {
	s := newStage(t)
	s.RenewTest, s.Order = true, func(context.Context) error { return nil }
	found, well := s.run()
	if !well {
		t.Error("a failure in a healthy world")
	}
	var ids []string
	for _, f := range found {
		ids = append(ids, f.Check)
		if f.Level != Fine || f.Mend != "" {
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
		good("", "All that is fine.").in("source"),
		failure("www.example.net", "It has no address in DNS.", "Add a record.").in("names"),
		warning("www.example.org", strings.Repeat("word ", 20)+"end.", "Wait.").in("names"),
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

// TestDoctorPrintsForPeople is the same findings without -json.
func TestDoctorPrintsForPeople(t *testing.T) {
	s := newStage(t)
	s.JSON = false
	s.zone.forget()
	s.open()
	var out bytes.Buffer
	if Run(t.Context(), s.Checkup, &out) {
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
	e := &examination{Checkup: Checkup{HTTPS: true, RenewTest: true, Domains: []string{"www.example.net"}}}
	for _, c := range e.checks() {
		if titleOf(c.id) == "" {
			t.Errorf("no title for %q", c.id)
		}
	}
}

// TestDoctorWithoutDomains is a look at a machine for development.
func TestDoctorWithoutDomains(t *testing.T) {
	s := newStage(t)
	s.Domains, s.Email, s.HTTPBind, s.CertFile = nil, "", "", "server.crt"
	s.ca.down = true
	s.find(expect{"source", Fine, "A self-signed certificate for development, because there is neither -domain nor server.crt", ""})
	s.HTTPS = false
	s.find(expect{"source", Fine, "Plain HTTP, because of -https=false", ""})
}

func TestDoctorIsInterrupted(t *testing.T) {
	s := newStage(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.open()
	var out bytes.Buffer
	if well := Run(ctx, s.Checkup, &out); well || !strings.Contains(out.String(), "was interrupted") {
		t.Errorf("well: %v, and\n%s", well, out.String())
	}
}

// broken is a pipe whose reader has left.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestDoctorCannotPrint(t *testing.T) {
	s := newStage(t)
	s.open()
	if Run(t.Context(), s.Checkup, broken{}) {
		t.Error("all is well with a report that nobody read")
	}
}

// TestDoctorKeepsSecrets: reports are pasted in public places.
func TestDoctorKeepsSecrets(t *testing.T) {
	for _, email := range []string{"anna@my-domain.net", "anna", "anna@nodot"} {
		s := newStage(t)
		s.Email = email
		s.open()
		var out bytes.Buffer
		Run(t.Context(), s.Checkup, &out)
		if strings.Contains(out.String(), "anna") {
			t.Errorf("the report repeats the mail address:\n%s", out.String())
		}
	}
}

// TestInTheWorld: nothing is left nil but what may be.
func TestInTheWorld(t *testing.T) {
	c := Checkup{}.inTheWorld()
	if c.resolver == nil || c.localAddrs == nil || c.listen == nil || c.dial == nil || c.proxy == nil ||
		c.holder == nil || c.disk == nil || c.now == nil || c.States == nil {
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

func TestDoctorFindsInAccounts(t *testing.T) {
	examineAll(t, []spoiled{
		{"nobody agreed", func(s *stage) { s.Email = "" },
			expect{"account", Failed, "Nobody has agreed to the terms of the CA.", "-acme-agree"}},
		{"terms to read", func(s *stage) { s.Email, s.ca.Meta.TermsOfService = "", "https://ca.example/terms" },
			expect{"account", Failed, "(https://ca.example/terms)", "-email"}},
		{"agreed without mail", func(s *stage) { s.Email, s.Agreed = "", true },
			expect{"account", Fine, "without -email it cannot warn you", ""}},
		{"no address", func(s *stage) { s.Email = "me" }, expect{"account", Failed, "no e-mail address", "plainly"}},
		{"with a name", func(s *stage) { s.Email = "Me <me@my-domain.net>" }, expect{"account", Failed, "no e-mail address", "plainly"}},
		{"no dot", func(s *stage) { s.Email = "me@localhost" }, expect{"account", Failed, "has no dot", "internet"}},
		{"example at Let's Encrypt", func(s *stage) { s.Email, s.CAURL = "me@mail.example.org", "" },
			expect{"account", Failed, "Let's Encrypt refuses", "of your own"}},
		{"example elsewhere", func(s *stage) { s.Email = "me@example.org" }, expect{"account", Fine, "has an address", ""}},
	})
}

func TestDoctorFindsInStoredCertificates(t *testing.T) {
	ended := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	stored := func(n tlsmgr.NameState) func(*stage) {
		return func(s *stage) {
			n.Name = "www.example.net"
			s.States = func() []tlsmgr.NameState { return []tlsmgr.NameState{n} }
		}
	}
	examineAll(t, []spoiled{
		{"none", stored(tlsmgr.NameState{}), expect{"certificates", Fine, "no certificate of the CA yet", ""}},
		{"files stand in", stored(tlsmgr.NameState{Source: "file", NotAfter: ended}), expect{"certificates", Fine, "no certificate of the CA yet", ""}},
		{"ended", stored(tlsmgr.NameState{Source: "acme", NotAfter: ended}), expect{"certificates", Warned, "ended at 2026-01-02 03:04:05", "why it was not renewed"}},
		{"good", stored(tlsmgr.NameState{Source: "acme", Issuer: "R13", NotAfter: ended.AddDate(70, 0, 0)}),
			expect{"certificates", Fine, "a certificate of R13 until 2096-01-02", ""}},
	})
}

func TestDoctorFindsInNotes(t *testing.T) {
	at := time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)
	noted := func(next time.Time) func(*stage) {
		return func(s *stage) {
			s.States = func() []tlsmgr.NameState {
				return []tlsmgr.NameState{{Name: "www.example.net", LastError: errors.New("connection refused"), LastAttempt: at, NextAttempt: next}}
			}
		}
	}
	examineAll(t, []spoiled{
		{"with a next attempt", noted(at.Add(time.Hour)), expect{"supervisor", Warned, "2026-11-01 10:00:00 failed: connection refused", "at 2026-11-01 11:00:00"}},
		{"without", noted(time.Time{}), expect{"supervisor", Warned, "connection refused", "Mend what the CA says."}},
		{"nobody reached", func(s *stage) {
			s.States = func() []tlsmgr.NameState {
				return []tlsmgr.NameState{{Name: "www.example.net", LastError: errors.New("connection refused")}}
			}
		}, expect{"supervisor", Warned, "No order was made: connection refused", "Mend what the CA says."}},
	})
}

func TestDoctorFindsInDryOrders(t *testing.T) {
	examineAll(t, []spoiled{
		{"refused", func(s *stage) {
			s.RenewTest, s.Order = true, func(context.Context) error { return errors.New("no way through") }
		}, expect{"renew-test", Failed, "failed: no way through", "port 80 or 443"}},
		{"cannot", func(s *stage) { s.RenewTest = true }, expect{"renew-test", Failed, "Without -domain", "-renew-test"}},
	})
}
