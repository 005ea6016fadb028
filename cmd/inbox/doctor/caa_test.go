package doctor

import (
	"context"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"inbox/tlsmgr"
)

func TestDoctorFindsInCAA(t *testing.T) {
	record := func(at string, flag int, tag, value string) func(*stage) {
		return func(s *stage) { s.zone.caa(at, flag, tag, value) }
	}
	examineAll(t, []spoiled{
		{"none", func(*stage) {}, expect{"caa", Fine, "no CAA record", ""}},
		{"permits", record("www.example.net", 0, "issue", "ca.example"), expect{"caa", Fine, "permit ca.example.", ""}},
		{"permits in capitals", record("www.example.net", 0, "ISSUE", " CA.Example ; x=y"), expect{"caa", Fine, "permit ca.example.", ""}},
		{"another CA", record("www.example.net", 0, "issue", "other.example"),
			expect{"caa", Failed, "of www.example.net do not permit ca.example", `CAA 0 issue "ca.example"`}},
		{"another CA for the parent", record("example.net", 0, "issue", "other.example"),
			expect{"caa", Failed, "of example.net do not permit ca.example", "Add to example.net"}},
		{"another CA for the top", record("net", 0, "issue", "other.example"), expect{"caa", Failed, "of net do not permit", "Add to net"}},
		{"the child counts", func(s *stage) {
			record("example.net", 0, "issue", "other.example")(s)
			record("www.example.net", 0, "issue", "ca.example")(s)
		}, expect{"caa", Fine, "of www.example.net permit", ""}},
		{"nobody", record("example.net", 0, "issue", ";"), expect{"caa", Failed, "do not permit", "Add to"}},
		{"reports only", record("example.net", 0, "iodef", "mailto:me@example.net"), expect{"caa", Fine, "restrict no CA", ""}},
		{"wildcards only", record("example.net", 0, "issuewild", ";"), expect{"caa", Fine, "restrict no CA", ""}},
		{"critical and unknown", record("example.net", 128, "future", "x"), expect{"caa", Failed, `the tag "future"`, "remove"}},
		{"unknown, and not critical", record("example.net", 0, "future", "x"), expect{"caa", Fine, "restrict no CA", ""}},
		{"critical and known", record("example.net", 128, "issue", "ca.example"), expect{"caa", Fine, "permit ca.example", ""}},
		{"one account", record("example.net", 0, "issue", "ca.example; accounturi=https://ca.example/1"), expect{"caa", Fine, "not checked", ""}},
		{"other challenges", record("example.net", 0, "issue", "ca.example; validationmethods=dns-01"),
			expect{"caa", Failed, "for other challenges", "CAA 0 issue"}},
		{"our challenge too", record("example.net", 0, "issue", "ca.example; validationmethods=dns-01,http-01"), expect{"caa", Fine, "permit", ""}},
		{"our other challenge", record("example.net", 0, "issue", "ca.example; validationmethods=tls-alpn-01"), expect{"caa", Fine, "permit", ""}},
		{"DNS is ill", func(s *stage) { s.zone.rcode["CAA"] = dns.RcodeServerFailure },
			expect{"caa", Warned, "SERVFAIL", "A CA refuses as long as"}},
		{"a CA without a name", func(s *stage) {
			record("example.net", 0, "issue", "other.example")(s)
			s.ca.Meta.CAAIdentities = nil
		}, expect{"caa", Warned, "does not say by which name", "documentation"}},
		{"Let's Encrypt has one", func(s *stage) {
			record("example.net", 0, "issue", "letsencrypt.org")(s)
			s.ca.Meta.CAAIdentities, s.CAURL = nil, ""
		}, expect{"caa", Fine, "permit letsencrypt.org", ""}},
		{"addresses have none", func(s *stage) {
			record("5", 0, "issue", "other.example")(s)
			s.Domains = []string{"203.0.113.5"}
		}, expect{"names", Fine, "", ""}},
	})
}

// TestDoctorCAAOfTwoAuthorities: one that may is enough.
func TestDoctorCAAOfTwoAuthorities(t *testing.T) {
	s := newStage(t)
	s.CAURL, s.SecondCAURL = tlsmgr.LetsEncryptStaging, "https://localhost/directory"
	s.ca.second = []string{"second.example"}
	s.zone.caa("example.net", 0, "issue", "second.example")
	s.find(expect{"caa", Warned, "do not permit ca.example", "Add to"})
	s.show("caa", "permit second.example")
}

// TestIssuersOfWildcards: the records made for wildcards win.
func TestIssuersOfWildcards(t *testing.T) {
	issue, wild := caaRecord{false, "issue", "a.example"}, caaRecord{false, "issuewild", "b.example"}
	for _, tt := range []struct {
		records  []caaRecord
		wildcard bool
		want     string
	}{
		{[]caaRecord{issue, wild}, true, "b.example"},
		{[]caaRecord{issue, wild}, false, "a.example"},
		{[]caaRecord{issue}, true, "a.example"},
		{[]caaRecord{wild}, false, ""},
	} {
		got := ""
		for _, i := range issuersIn(tt.records, tt.wildcard) {
			got += i.domain
		}
		if got != tt.want {
			t.Errorf("issuersIn(%v, %v) = %q, want %q", tt.records, tt.wildcard, got, tt.want)
		}
	}
}

// asked is a resolver that remembers the names.
type asked struct {
	resolver
	names []string
}

func (a *asked) LookupCAA(_ context.Context, name string) ([]caaRecord, error) {
	a.names = append(a.names, name)
	return nil, nil
}

// TestClimb goes up to the top-level domain, and not to the root.
func TestClimb(t *testing.T) {
	for name, want := range map[string]string{
		"a.b.example.net": "a.b.example.net b.example.net example.net net", "*.example.net": "example.net net", "net.": "net",
	} {
		var a asked
		climb(t.Context(), &a, name)
		if got := strings.Join(a.names, " "); got != want {
			t.Errorf("climb(%s) asked for %q, want %q", name, got, want)
		}
	}
}

func FuzzParseIssuer(f *testing.F) {
	for _, seed := range []string{"", ";", "ca.example", "ca.example; a=b; c", ";;==", "ca.example;validationmethods=http-01,"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		i := parseIssuer("issue", value)
		if strings.Contains(i.domain, ";") || i.domain != strings.TrimSpace(i.domain) {
			t.Errorf("parseIssuer(%q) has the domain %q", value, i.domain)
		}
		if ours := strings.Contains(value, "http-01") || strings.Contains(value, "tls-alpn-01"); !ours && i.letsUs() {
			if methods, limited := i.parameters["validationmethods"]; limited {
				t.Errorf("parseIssuer(%q) lets us by %q", value, methods)
			}
		}
	})
}
