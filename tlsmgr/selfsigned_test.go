package tlsmgr

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"inbox/tlsmgr/internal/tlstest"
)

// testHostNames returns the names and addresses of a fictitious host.
func testHostNames() certNames {
	return certNames{[]string{"localhost", "box"}, []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback, net.ParseIP("192.0.2.7")}}
}

// selfSignedManager is a manager with its self-signed certificate.
type selfSignedManager struct {
	*Manager
	*selfSigned
}

// startSelfSigned creates a manager with a state directory, host names and a time.
func startSelfSigned(t *testing.T, dir string, host certNames, now time.Time) (*selfSignedManager, *tlstest.LogBuffer) {
	t.Helper()
	log, buf := tlstest.NewLog()
	s := &selfSigned{log: log, localNames: func() certNames { return host }, now: func() time.Time { return now }}
	if dir != "" {
		s.path = filepath.Join(dir, selfSignedFile)
	}
	if err := s.loadOrMake(); err != nil {
		t.Fatal(err)
	}
	return &selfSignedManager{&Manager{source: s, tickets: newTickets(nil, log)}, s}, buf
}

func (s *selfSigned) fingerprint() string { return Fingerprint(s.current.Load().Leaf) }

func TestSelfSignedCoversHostNames(t *testing.T) {
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(s.source.(*selfSigned).current.Load().Leaf)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"localhost", "127.0.0.1", "::1", host} {
		if _, err := handshake(t, s, &tls.Config{RootCAs: roots, ServerName: name}); err != nil {
			t.Errorf("handshake with SNI %s and the certificate trusted: %v", name, err)
		}
	}
}

func TestSelfSignedIsStored(t *testing.T) {
	dir := t.TempDir()
	first, _ := startSelfSigned(t, dir, testHostNames(), time.Now())
	info, err := os.Stat(first.path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("got file mode %v, want 0600", info.Mode().Perm())
	}
	second, buf := startSelfSigned(t, dir, testHostNames(), time.Now().Add(100*24*time.Hour))
	if first.fingerprint() != second.fingerprint() {
		t.Errorf("the second start created another certificate:\n%s", buf)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("got directory entries %v, want one file", entries)
	}
}

func TestSelfSignedIsReissued(t *testing.T) {
	now := time.Now()
	newAddress := testHostNames().union(certNames{ips: []net.IP{net.ParseIP("198.51.100.9")}})
	renamed := testHostNames().union(certNames{dns: []string{"newbox"}})
	ipv6 := testHostNames().union(certNames{ips: []net.IP{net.ParseIP("2001:db8::99")}})
	for _, tt := range []struct {
		name    string
		host    certNames
		now     time.Time
		damage  bool
		reissue bool
		reason  string
	}{
		{"same host, next day", testHostNames(), now.Add(24 * time.Hour), false, false, ""},
		{"more than a third of the lifetime left", testHostNames(), now.Add(selfSignedLifetime*2/3 - 2*time.Hour), false, false, ""},
		{"less than a third of the lifetime left", testHostNames(), now.Add(selfSignedLifetime*2/3 + time.Hour), false, true, "expires soon"},
		{"expired", testHostNames(), now.Add(selfSignedLifetime + time.Hour), false, true, "no valid certificate"},
		{"damaged", testHostNames(), now, true, true, "no valid certificate"},
		{"new IPv4 address", newAddress, now, false, true, "new name or address"},
		{"new host name", renamed, now, false, true, "new name or address"},
		{"new IPv6 address", ipv6, now, false, false, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			first, _ := startSelfSigned(t, dir, testHostNames(), now)
			if tt.damage {
				tlstest.MustWriteFile(t, first.path, []byte("-----BEGIN CERT"))
			}
			second, buf := startSelfSigned(t, dir, tt.host, tt.now)
			if reissued := first.fingerprint() != second.fingerprint(); reissued != tt.reissue {
				t.Errorf("got reissued %v, want %v", reissued, tt.reissue)
			}
			if tt.reissue && buf.Count(tt.reason) != 1 {
				t.Errorf("want the reason %q in the log:\n%s", tt.reason, buf)
			}
			third, _ := startSelfSigned(t, dir, tt.host, tt.now)
			if third.fingerprint() != second.fingerprint() {
				t.Error("the next start created another certificate again")
			}
		})
	}
}

// A laptop that moves between two networks keeps one certificate.
func TestSelfSignedRemembersEarlierNetworks(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	home := testHostNames()
	office := testHostNames()
	office.ips[2] = net.ParseIP("198.51.100.9")
	startSelfSigned(t, dir, home, now)
	atOffice, _ := startSelfSigned(t, dir, office, now)
	atHome, buf := startSelfSigned(t, dir, home, now)
	if atOffice.fingerprint() != atHome.fingerprint() {
		t.Errorf("back in the first network, another certificate was created:\n%s", buf)
	}
}

func TestSelfSignedRenewsWhileServing(t *testing.T) {
	s, _ := startSelfSigned(t, t.TempDir(), testHostNames(), time.Now())
	before := s.fingerprint()
	at := s.State()[0].NextAttempt
	s.now = func() time.Time { return at.Add(time.Second) }
	s.Reload()
	if s.fingerprint() == before {
		t.Error("the certificate was not renewed at the NextAttempt of State")
	}
}

func TestSelfSignedServesWithoutStorage(t *testing.T) {
	notADirectory := filepath.Join(t.TempDir(), "file")
	tlstest.MustWriteFile(t, notADirectory, nil)
	s, buf := startSelfSigned(t, notADirectory, testHostNames(), time.Now())
	if got := servedName(t, s); got != "localhost" {
		t.Errorf("got certificate for %q, want localhost", got)
	}
	if buf.Count("cannot save") != 1 {
		t.Errorf("want one warning that it cannot be saved:\n%s", buf)
	}
	if s.State()[0].LastError == nil {
		t.Error("got no LastError in State")
	}
}

func TestSelfSignedNamesAreBounded(t *testing.T) {
	many := testHostNames()
	for i := range 200 {
		many.add(nil, []net.IP{net.IPv4(10, 0, 0, byte(i))})
	}
	dir := t.TempDir()
	first, _ := startSelfSigned(t, dir, many, time.Now())
	if n := len(first.current.Load().Leaf.IPAddresses); n > maxNames {
		t.Errorf("got %d addresses in the certificate, want at most %d", n, maxNames)
	}
	second, _ := startSelfSigned(t, dir, many, time.Now())
	if first.fingerprint() != second.fingerprint() {
		t.Error("a host with many addresses gets a new certificate at each start")
	}
}

func TestRunStopsWithContext(t *testing.T) {
	s, _ := startSelfSigned(t, "", testHostNames(), time.Now())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Errorf("Run: got %v, want nil", err)
	}
}

func TestValidHost(t *testing.T) {
	for host, want := range map[string]bool{"box": true, "box.example.org": true, "": false, "bücher": false, "a b": false} {
		if got := validHost(host); got != want {
			t.Errorf("validHost(%q): got %v, want %v", host, got, want)
		}
	}
}
