package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// testEnv is a healthy environment: a DNS server and a CA on loopback, a state
// directory, free ports. Each test breaks something in it.
type testEnv struct {
	Config
	t       *testing.T
	zone    *fakeDNS
	ca      *fakeCA
	root    testCert
	started sync.Once
}

// localAddr is the machine's address in a testEnv.
var localAddr = netip.MustParseAddr("203.0.113.5")

func newTestEnv(t *testing.T) *testEnv {
	t.Helper()
	s := &testEnv{t: t, zone: newFakeDNS(t), root: issueCert(t, nil, validity{}, "root")}
	s.ca = newFakeCA(t, s.root.sign(t, validity{}, "localhost", "acme-v02.api.letsencrypt.org", "acme-staging-v02.api.letsencrypt.org"))
	s.zone.add("www.example.net. 60 IN A 203.0.113.5")
	s.Config = Config{
		Domains: []string{"www.example.net"}, Email: "me@my-domain.net", Engine: "certmagic", HTTPS: true, JSON: true,
		Bind: ":443", HTTPBind: ":80", StateDir: privateDir(t), CA: s.root.ca(t, "https://localhost/directory"),
		MailboxPath: "/inbox", HealthPath: "/healthz", PrivateFiles: []string{"secret"},
		resolver: s.zone.client(), dial: s.dialLoopback, now: time.Now,
		localAddrs: func() ([]netip.Addr, error) { return []netip.Addr{localAddr}, nil },
		// All ports are free, whatever the machine's are.
		listen:        func(network, _ string) (net.Listener, error) { return net.Listen(network, "127.0.0.1:0") },
		proxy:         func(*http.Request) (*url.URL, error) { return nil, nil },
		findPortOwner: func(string, string) (portOwner, bool) { return portOwner{}, false },
		disk: func(string) (disk, error) {
			return disk{freeBytes: 1 << 30, allInodes: 1 << 20, freeInodes: 1 << 20}, nil
		},
	}
	return s
}

// dialLoopback connects to the fake CA for every CA, and rejects other addresses
// that are not on loopback.
func (s *testEnv) dialLoopback(ctx context.Context, network, address string) (net.Conn, error) {
	if host, port, _ := net.SplitHostPort(address); port == "443" && host != "127.0.0.1" && host != "::1" {
		address = s.ca.Listener.Addr().String()
	}
	if host, _, _ := net.SplitHostPort(address); network != "unix" && host != "127.0.0.1" && host != "::1" {
		s.t.Errorf("the doctor connects to %s", address)
		return nil, os.ErrPermission
	}
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

// bindTo sets -bind to the address of a listener of the test.
func (s *testEnv) bindTo(addr net.Addr) string {
	s.listen = net.Listen
	s.HTTPBind = ""
	s.Bind = addr.String()
	return s.Bind
}

// start starts the servers after the test has changed them.
func (s *testEnv) start() {
	s.started.Do(func() {
		s.zone.serve()
		s.ca.serve(s.t)
	})
}

// run returns the findings, and whether there were no failures.
func (s *testEnv) run() ([]Finding, bool) {
	s.t.Helper()
	s.start()
	var out bytes.Buffer
	ok := Run(s.t.Context(), s.Config, &out)
	var found []Finding
	if err := json.Unmarshal(out.Bytes(), &found); err != nil {
		s.t.Fatalf("%v in:\n%s", err, out.String())
	}
	return found, ok
}

// expect describes the worst finding of a check.
type expect struct {
	check     string
	level     Level
	text, fix string
}

// expectFinding runs the doctor and expects the finding, no warning or failure of
// another check, and the matching result.
func (s *testEnv) expectFinding(want expect) {
	s.t.Helper()
	found, ok := s.run()
	if wantOK := want.level != Failure; ok != wantOK {
		s.t.Errorf("got result %v, want %v", ok, wantOK)
	}
	met := false
	for _, f := range found {
		met = met || want.matches(f)
		if f.Level != OK && f.Check != want.check {
			s.t.Errorf("check %q also found %+v", f.Check, f)
		}
		if f.Text == "" || f.Level != OK && f.Fix == "" {
			s.t.Errorf("got a finding without text or fix: %+v", f)
		}
	}
	if !met {
		s.t.Errorf("got\n%s\nwant %+v", report(found), want)
	}
}

// expectOK runs the doctor and expects a finding at level OK.
func (s *testEnv) expectOK(check, text string) {
	s.t.Helper()
	found, _ := s.run()
	if !slices.ContainsFunc(found, expect{check, OK, text, ""}.matches) {
		s.t.Errorf("got\n%s\nwant %q of %s", report(found), text, check)
	}
}

func (want expect) matches(f Finding) bool {
	return f.Check == want.check && f.Level == want.level && strings.Contains(f.Text, want.text) && strings.Contains(f.Fix, want.fix)
}

// testCase breaks one thing in a healthy environment.
type testCase struct {
	name  string
	setup func(*testEnv)
	want  expect
}

func runCases(t *testing.T, rows []testCase) {
	t.Helper()
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			s := newTestEnv(t)
			row.setup(s)
			s.expectFinding(row.want)
		})
	}
}

func privateDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}
