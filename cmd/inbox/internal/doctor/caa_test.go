package doctor

import (
	"context"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"inbox/tlsmgr/acme"
)

func TestDoctorChecksCAA(t *testing.T) {
	record := func(at string, flag int, tag, value string) func(*testEnv) {
		return func(s *testEnv) { s.zone.addCAA(at, flag, tag, value) }
	}
	runCases(t, []testCase{
		{"none", func(*testEnv) {}, expect{"caa", OK, "No CAA record", ""}},
		{"permits", record("www.example.net", 0, "issue", "ca.example"), expect{"caa", OK, "permit ca.example.", ""}},
		{"permits in capitals", record("www.example.net", 0, "ISSUE", " CA.Example ; x=y"), expect{"caa", OK, "permit ca.example.", ""}},
		{"another CA", record("www.example.net", 0, "issue", "other.example"),
			expect{"caa", Failure, "of www.example.net do not permit ca.example", `to www.example.net: CAA 0 issue "ca.example".`}},
		{"another CA for the parent", record("example.net", 0, "issue", "other.example"),
			expect{"caa", Failure, "of example.net do not permit ca.example", "Add this record to example.net: "}},
		{"another CA for the top", record("net", 0, "issue", "other.example"), expect{"caa", Failure, "of net do not permit", "Add this record to net: "}},
		{"the child takes precedence", func(s *testEnv) {
			record("example.net", 0, "issue", "other.example")(s)
			record("www.example.net", 0, "issue", "ca.example")(s)
		}, expect{"caa", OK, "of www.example.net permit", ""}},
		{"no CA", record("example.net", 0, "issue", ";"), expect{"caa", Failure, "do not permit", "Add this record"}},
		{"reports only", record("example.net", 0, "iodef", "mailto:me@example.net"), expect{"caa", OK, "do not restrict CAs", ""}},
		{"wildcards only", record("example.net", 0, "issuewild", ";"), expect{"caa", OK, "do not restrict CAs", ""}},
		{"critical and unknown", record("example.net", 128, "future", "x"), expect{"caa", Failure, `the unknown tag "future"`, "remove"}},
		{"unknown, and not critical", record("example.net", 0, "future", "x"), expect{"caa", OK, "do not restrict CAs", ""}},
		{"critical and known", record("example.net", 128, "issue", "ca.example"), expect{"caa", OK, "permit ca.example", ""}},
		{"one account", record("example.net", 0, "issue", "ca.example; accounturi=https://ca.example/1"), expect{"caa", OK, "does not compare", ""}},
		{"other challenges", record("example.net", 0, "issue", "ca.example; validationmethods=dns-01"),
			expect{"caa", Failure, "other than http-01 and tls-alpn-01", "CAA 0 issue"}},
		{"our challenge too", record("example.net", 0, "issue", "ca.example; validationmethods=dns-01,http-01"), expect{"caa", OK, "permit", ""}},
		{"our other challenge", record("example.net", 0, "issue", "ca.example; validationmethods=tls-alpn-01"), expect{"caa", OK, "permit", ""}},
		{"DNS server fails", func(s *testEnv) { s.zone.rcode["CAA"] = dns.RcodeServerFailure },
			expect{"caa", Warning, "SERVFAIL", "CAs refuse to issue"}},
		{"a CA without a name", func(s *testEnv) {
			record("example.net", 0, "issue", "other.example")(s)
			s.ca.Meta.CAAIdentities = nil
		}, expect{"caa", Warning, "does not publish its CAA domain name", "documentation"}},
		{"Let's Encrypt has one", func(s *testEnv) {
			record("example.net", 0, "issue", "letsencrypt.org")(s)
			s.ca.Meta.CAAIdentities, s.CA.URL = nil, ""
		}, expect{"caa", OK, "permit letsencrypt.org", ""}},
		{"addresses have none", func(s *testEnv) {
			record("5", 0, "issue", "other.example")(s)
			s.Domains = []string{"203.0.113.5"}
		}, expect{"names", OK, "", ""}},
	})
}

// One permitted CA is enough.
func TestDoctorChecksCAAOfTwoCAs(t *testing.T) {
	s := newTestEnv(t)
	s.FallbackCA, s.CA.URL = s.CA, acme.LetsEncryptStaging
	s.ca.localhostIdentities = []string{"fallback.example"}
	s.zone.addCAA("example.net", 0, "issue", "fallback.example")
	s.expectFinding(expect{"caa", Warning, "do not permit ca.example", "Add this record"})
	s.expectOK("caa", "permit fallback.example")
}

// issuewild records take precedence for wildcards.
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

// caaRecorder is a resolver that records the names.
type caaRecorder struct {
	resolver
	names []string
}

func (a *caaRecorder) LookupCAA(_ context.Context, name string) ([]caaRecord, error) {
	a.names = append(a.names, name)
	return nil, nil
}

// The search ends at the top-level domain, not at the root.
func TestFindCAA(t *testing.T) {
	for name, want := range map[string]string{
		"a.b.example.net": "a.b.example.net b.example.net example.net net", "*.example.net": "example.net net", "net.": "net",
	} {
		var a caaRecorder
		findCAA(t.Context(), &a, name)
		if got := strings.Join(a.names, " "); got != want {
			t.Errorf("findCAA(%s) looked up %q, want %q", name, got, want)
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
		if ours := strings.Contains(value, "http-01") || strings.Contains(value, "tls-alpn-01"); !ours && i.allowsOurChallenges() {
			if methods, limited := i.parameters["validationmethods"]; limited {
				t.Errorf("parseIssuer(%q) allows our challenges by %q", value, methods)
			}
		}
	})
}
