package main

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
)

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

func TestDoctorFindsNothing(t *testing.T) {
	s := newStage(t)
	s.RenewTest, s.renewTest = true, func(context.Context) error { return nil }
	found, code := s.run()
	if code != exitDone {
		t.Errorf("exit code %d", code)
	}
	var ids []string
	for _, f := range found {
		ids = append(ids, f.Check)
		if f.Level != fine || f.Mend != "" {
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
	findings := []finding{
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
	for want, findings := range map[string][]finding{
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
	if code := doctor(t.Context(), s.checkup, &out); code != exitFailure {
		t.Errorf("exit code %d, want %d", code, exitFailure)
	}
	for _, want := range []string{"\nNames in DNS\n  failure  www.example.net: ", "(203.0.113.5)", "\n1 failure, 0 warnings. "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got\n%s\nwithout %q", out.String(), want)
		}
	}
}

// TestDoctorTitles: every check has a line above its findings.
func TestDoctorTitles(t *testing.T) {
	e := &examination{checkup: checkup{HTTPS: true, RenewTest: true, Domains: []string{"www.example.net"}}}
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
	s.find(expect{"source", fine, "A self-signed certificate for development, because there is neither -domain nor server.crt", ""})
	s.HTTPS = false
	s.find(expect{"source", fine, "Plain HTTP, because of -https=false", ""})
}

func TestDoctorIsInterrupted(t *testing.T) {
	s := newStage(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.open()
	var out bytes.Buffer
	if code := doctor(ctx, s.checkup, &out); code != exitFailure || !strings.Contains(out.String(), "was interrupted") {
		t.Errorf("exit code %d and\n%s", code, out.String())
	}
}

// broken is a pipe whose reader has left.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestDoctorCannotPrint(t *testing.T) {
	s := newStage(t)
	s.open()
	if code := doctor(t.Context(), s.checkup, broken{}); code != exitFailure {
		t.Errorf("exit code %d, want %d", code, exitFailure)
	}
}

// TestDoctorKeepsSecrets: reports are pasted in public places.
func TestDoctorKeepsSecrets(t *testing.T) {
	for _, email := range []string{"anna@my-domain.net", "anna", "anna@nodot"} {
		s := newStage(t)
		s.Email = email
		s.open()
		var out bytes.Buffer
		doctor(t.Context(), s.checkup, &out)
		if strings.Contains(out.String(), "anna") {
			t.Errorf("the report repeats the mail address:\n%s", out.String())
		}
	}
}

// TestInTheWorld: nothing is left nil but what may be.
func TestInTheWorld(t *testing.T) {
	c := checkup{}.inTheWorld()
	if c.resolver == nil || c.localAddrs == nil || c.listen == nil || c.dial == nil || c.proxy == nil ||
		c.holder == nil || c.disk == nil || c.now == nil || c.notes == nil {
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
	found := forEach(names, func(name string) []finding { return []finding{good(name, "a"), good(name, "b")} })
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
			expect{"account", failed, "Nobody has agreed to the terms of the CA.", "-acme-agree"}},
		{"terms to read", func(s *stage) { s.Email, s.ca.Meta.TermsOfService = "", "https://ca.example/terms" },
			expect{"account", failed, "(https://ca.example/terms)", "-email"}},
		{"agreed without mail", func(s *stage) { s.Email, s.Agreed = "", true },
			expect{"account", fine, "without -email it cannot warn you", ""}},
		{"no address", func(s *stage) { s.Email = "me" }, expect{"account", failed, "no e-mail address", "plainly"}},
		{"with a name", func(s *stage) { s.Email = "Me <me@my-domain.net>" }, expect{"account", failed, "no e-mail address", "plainly"}},
		{"no dot", func(s *stage) { s.Email = "me@localhost" }, expect{"account", failed, "has no dot", "internet"}},
		{"example at Let's Encrypt", func(s *stage) { s.Email, s.CAURL = "me@mail.example.org", "" },
			expect{"account", failed, "Let's Encrypt refuses", "of your own"}},
		{"example elsewhere", func(s *stage) { s.Email = "me@example.org" }, expect{"account", fine, "has an address", ""}},
	})
}

func TestDoctorFindsInNotes(t *testing.T) {
	at := time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)
	noted := func(next time.Time) func(*stage) {
		return func(s *stage) {
			s.notes = func() []note { return []note{{"www.example.net", "connection refused", at, next}} }
		}
	}
	examineAll(t, []spoiled{
		{"with a next attempt", noted(at.Add(time.Hour)), expect{"supervisor", warned, "2026-11-01 10:00:00 failed: connection refused", "at 2026-11-01 11:00:00"}},
		{"without", noted(time.Time{}), expect{"supervisor", warned, "connection refused", "Mend what the CA says."}},
	})
}

func TestDoctorFindsInDryOrders(t *testing.T) {
	examineAll(t, []spoiled{
		{"refused", func(s *stage) {
			s.RenewTest, s.renewTest = true, func(context.Context) error { return errors.New("no way through") }
		}, expect{"renew-test", failed, "failed: no way through", "port 80 or 443"}},
		{"cannot", func(s *stage) { s.RenewTest = true }, expect{"renew-test", failed, "Without -domain", "-renew-test"}},
	})
}
