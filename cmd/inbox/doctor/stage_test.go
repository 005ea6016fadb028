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

// stage is a healthy world for a Checkup: a DNS server and a CA on loopback,
// a state directory, free ports. Each test spoils something in it.
type stage struct {
	Checkup
	t    *testing.T
	zone *zone
	ca   *fakeCA
	root issued
	up   sync.Once
}

// here is the address that the machine of the stage has.
var here = netip.MustParseAddr("203.0.113.5")

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{t: t, zone: newZone(t), root: issue(t, nil, term{}, "root")}
	s.ca = newFakeCA(t, s.root.sign(t, term{}, "localhost", "acme-v02.api.letsencrypt.org", "acme-staging-v02.api.letsencrypt.org"))
	s.zone.add("www.example.net. 60 IN A 203.0.113.5")
	s.Checkup = Checkup{
		Domains: []string{"www.example.net"}, Email: "me@my-domain.net", Engine: "certmagic", HTTPS: true, JSON: true,
		Bind: ":443", HTTPBind: ":80", StateDir: privateDir(t), CAURL: "https://localhost/directory", Roots: s.root.pool(), SecondRoots: s.root.pool(),
		resolver: s.zone.client(), dial: s.dialLoopback, now: time.Now,
		localAddrs: func() ([]netip.Addr, error) { return []netip.Addr{here}, nil },
		// The ports of the stage are free, whatever those of the machine are.
		listen: func(network, _ string) (net.Listener, error) { return net.Listen(network, "127.0.0.1:0") },
		proxy:  func(*http.Request) (*url.URL, error) { return nil, nil },
		holder: func(string) (holder, bool) { return holder{}, false },
		disk: func(string) (disk, error) {
			return disk{freeBytes: 1 << 30, allInodes: 1 << 20, freeInodes: 1 << 20}, nil
		},
	}
	return s
}

// dialLoopback leads the way to every CA to the one of the stage, and refuses
// to leave this machine.
func (s *stage) dialLoopback(ctx context.Context, network, address string) (net.Conn, error) {
	if host, port, _ := net.SplitHostPort(address); port == "443" && host != "127.0.0.1" && host != "::1" {
		address = s.ca.Listener.Addr().String()
	}
	if host, _, _ := net.SplitHostPort(address); network != "unix" && host != "127.0.0.1" && host != "::1" {
		s.t.Errorf("the doctor wants to connect to %s", address)
		return nil, os.ErrPermission
	}
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

// listening makes the port of an option be that of a listener of the test.
func (s *stage) listening(addr net.Addr) string {
	s.listen = net.Listen
	s.HTTPBind = ""
	s.Bind = addr.String()
	return s.Bind
}

// open starts the servers, once the test has spoiled what it wants to.
func (s *stage) open() {
	s.up.Do(func() {
		s.zone.serve()
		s.ca.serve(s.t)
	})
}

// run examines, and returns the findings and whether all is well.
func (s *stage) run() ([]Finding, bool) {
	s.t.Helper()
	s.open()
	var out bytes.Buffer
	well := Run(s.t.Context(), s.Checkup, &out)
	var found []Finding
	if err := json.Unmarshal(out.Bytes(), &found); err != nil {
		s.t.Fatalf("%v in:\n%s", err, out.String())
	}
	return found, well
}

// expect is what a check is to find: its worst finding, and words of it.
type expect struct {
	check      string
	level      Grade
	text, mend string
}

// find runs the doctor and holds what it found against what was expected:
// the finding, nothing worse anywhere, and the verdict that follows.
func (s *stage) find(want expect) {
	s.t.Helper()
	found, well := s.run()
	if wantWell := want.level != Failed; well != wantWell {
		s.t.Errorf("all is well: %v, want %v", well, wantWell)
	}
	met := false
	for _, f := range found {
		met = met || want.meets(f)
		if f.Level != Fine && f.Check != want.check {
			s.t.Errorf("the check %q also found: %+v", f.Check, f)
		}
		if f.Text == "" || f.Level != Fine && f.Mend == "" {
			s.t.Errorf("a finding without words: %+v", f)
		}
	}
	if !met {
		s.t.Errorf("got\n%s\nwant %+v", report(found), want)
	}
}

// show runs the doctor and demands a line that has nothing wrong.
func (s *stage) show(check, text string) {
	s.t.Helper()
	found, _ := s.run()
	if !slices.ContainsFunc(found, expect{check, Fine, text, ""}.meets) {
		s.t.Errorf("got\n%s\nwant %q of %s", report(found), text, check)
	}
}

func (want expect) meets(f Finding) bool {
	return f.Check == want.check && f.Level == want.level && strings.Contains(f.Text, want.text) && strings.Contains(f.Mend, want.mend)
}

// spoiled is one row of a table: a healthy world, one thing spoiled, what is found.
type spoiled struct {
	name  string
	spoil func(*stage)
	want  expect
}

func examineAll(t *testing.T, rows []spoiled) {
	t.Helper()
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			s := newStage(t)
			row.spoil(s)
			s.find(row.want)
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
