package doctor

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"inbox/cmd/inbox/internal/conn"
	"inbox/cmd/inbox/internal/host"
	"inbox/inbox/ice"
	"inbox/ratelimit"
	"inbox/turn"
)

// fakeRelay is an inbox server with a real relay, on ports of the loopback interface. Tests
// change what it offers before they run the doctor.
type fakeRelay struct {
	*turn.Server
	udp      *net.UDPConn
	tcp      net.Listener
	status   int          // of GET /ice
	servers  []ice.Server // in the responses of GET /ice to owners
	withheld string

	mu      sync.Mutex
	mailbox string       // that the doctor claimed
	deleted atomic.Int64 // requests that delete it
}

// newFakeRelay starts a relay with a certificate for the names, and configures the doctor for
// a server whose -turn is its first name, and which has no -domain.
func newFakeRelay(s *testEnv, names ...string) *fakeRelay {
	s.t.Helper()
	f := &fakeRelay{status: http.StatusOK}
	var err error
	if f.Server, err = turn.New(turn.Config{Secret: make([]byte, 32), Logger: slog.New(slog.DiscardHandler)}); err != nil {
		s.t.Fatal(err)
	}
	if f.udp, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		s.t.Fatal(err)
	}
	if f.tcp, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		s.t.Fatal(err)
	}
	f.serve(s, names)
	s.bindTo(f.tcp.Addr())
	withoutCA(s)
	s.CertFile = s.t.TempDir() // exists, so that the certificate is not self-signed
	s.TURN = &TURN{
		Host: names[0], Relay: true, Bind: f.udp.LocalAddr().String(), ICEPath: "/ice",
		BufferBytes: 4 << 20, MinBufferBytes: 1 << 20,
	}
	s.udpBuffer = func(string) int { return 2 << 20 }
	f.answerAt(s, f.udp.LocalAddr().String())
	f.offer(s)
	return f
}

func (f *fakeRelay) serve(s *testEnv, names []string) {
	config := &tls.Config{Certificates: []tls.Certificate{s.root.sign(s.t, validity{}, names...).Certificate}}
	frames := &ratelimit.FrameLimiter{Limiter: ratelimit.NewLimiter(ratelimit.Budget{}, 0), ClientIP: &ratelimit.ClientIP{}}
	unfinished := &ratelimit.UnfinishedLimiter{Share: ratelimit.NewShare(ratelimit.ShareLimits{}), ClientIP: &ratelimit.ClientIP{}}
	server, err := conn.NewServer(&http.Server{Handler: f, ErrorLog: discardLogger(), IdleTimeout: lookupTimeout}, config, frames, unfinished, f.ServeConn)
	if err != nil {
		s.t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { f.ServeUDP(f.udp) })
	serving.Go(func() { server.Serve(f.tcp) })
	s.t.Cleanup(func() {
		f.tcp.Close()
		server.Close()
		f.Close()
		serving.Wait()
	})
}

// answerAt makes the address 203.0.113.5 lead to another, or nowhere if it is empty.
func (f *fakeRelay) answerAt(s *testEnv, address string) {
	s.dial = func(ctx context.Context, network, to string) (net.Conn, error) {
		if h, _, _ := net.SplitHostPort(to); network == "udp" && h == localAddr.String() {
			if to = address; to == "" {
				return nil, syscall.ENETUNREACH
			}
		}
		return s.dialLoopback(ctx, network, to)
	}
}

// offer makes GET /ice offer STUN, TURN over UDP and over TLS, beside a server of others.
func (f *fakeRelay) offer(s *testEnv) {
	c := f.Credentials("doctor", turn.Payer{})
	name := s.TURN.Host
	if name == "" {
		name = s.Domains[0]
	}
	udp := net.JoinHostPort(name, host.Port(s.TURN.Bind))
	f.servers = []ice.Server{
		{URLs: []string{"stun:" + udp}},
		{URLs: []string{"turn:" + udp + "?transport=udp", "turns:" + net.JoinHostPort(name, "443") + "?transport=tcp"}, Username: c.Username, Credential: c.Password},
		{URLs: []string{"turn:turn.example:3478"}, Username: "guest", Credential: "visitor"},
	}
}

func (f *fakeRelay) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, _, owner := r.BasicAuth()
	switch {
	case r.URL.Path == "/ice" && owner:
		f.mu.Lock()
		f.mailbox = name
		f.mu.Unlock()
		w.WriteHeader(f.status)
		json.NewEncoder(w).Encode(map[string]any{"iceServers": f.servers, "turn": f.withheld})
	case r.Method == http.MethodDelete && owner:
		f.mu.Lock()
		defer f.mu.Unlock()
		if name == f.mailbox {
			f.deleted.Add(1)
		}
	default:
		fakeInbox(http.StatusOK)(w, r)
	}
}

// checkTURN runs the check alone.
func (s *testEnv) checkTURN() []Finding {
	s.t.Helper()
	s.start()
	e := &examination{Config: s.Config.withDefaults()}
	e.cas = e.configuredCAs()
	return e.checkTURN(s.t.Context())
}

// wantFinding is a finding with a part of its text and of its fix.
type wantFinding struct {
	level           Level
	name, text, fix string
}

func expectFindings(t *testing.T, got []Finding, want ...wantFinding) {
	t.Helper()
	matches := len(got) == len(want)
	for i := 0; matches && i < len(got); i++ {
		g, w := got[i], want[i]
		matches = g.Level == w.level && g.Name == w.name && strings.Contains(g.Text, w.text) && strings.Contains(g.Fix, w.fix) && (g.Fix == "") == (w.fix == "")
	}
	if !matches {
		t.Errorf("got\n%s\nwant\n%+v", report(got), want)
	}
}

const relayName = "www.example.net"

// The findings of a relay without problems.
func relayPort(s *testEnv) wantFinding {
	return wantFinding{OK, "-turn-bind " + s.TURN.Bind, "In use by a running inbox.", ""}
}

var (
	goodBuffer  = wantFinding{OK, "receive buffer", "a receive buffer of 2048 KiB", ""}
	goodHairpin = wantFinding{OK, relayName, "Answers STUN over UDP port ", ""}
	goodUDP     = wantFinding{OK, "TURN over UDP", "and back", ""}
	goodTLS     = wantFinding{OK, "TURN over TLS", "and back", ""}
)

// TestDoctorTestsTheRelay sends packets through a relay, and deletes the mailbox that this took.
func TestDoctorTestsTheRelay(t *testing.T) {
	s := newTestEnv(t)
	f := newFakeRelay(s, relayName)
	expectFindings(t, s.checkTURN(), relayPort(s), goodBuffer, goodHairpin, goodUDP, goodTLS)
	if f.deleted.Load() != 1 || !strings.HasPrefix(f.mailbox, "doctor-") {
		t.Errorf("got mailbox %q deleted %d times, want once", f.mailbox, f.deleted.Load())
	}
	if got := f.State(); got.UDP.Allocated != 2 || got.TLS.Allocated != 2 {
		t.Errorf("got %+v, want two allocations of each transport", got)
	}
}

// TestDoctorTestsTheRelayOfADomain uses the first host name of -domain.
func TestDoctorTestsTheRelayOfADomain(t *testing.T) {
	s := newTestEnv(t)
	f := newFakeRelay(s, relayName)
	s.Domains, s.TURN.Host, s.CertFile = []string{relayName}, "", ""
	f.offer(s)
	s.Domains = []string{"203.0.113.5", "WWW.Example.net", "mail.example.net"}
	expectFindings(t, s.checkTURN(), relayPort(s), goodBuffer, goodHairpin, goodUDP, goodTLS)
}

func TestDoctorFindsProblemsOfTheRelay(t *testing.T) {
	const restart = "Restart it with the options"
	for _, row := range []struct {
		name   string
		certOf string
		change func(*testEnv, *fakeRelay)
		want   func(*testEnv) []wantFinding
	}{
		{"no hairpin", relayName, func(s *testEnv, f *fakeRelay) { f.answerAt(s, "") }, func(s *testEnv) []wantFinding {
			return []wantFinding{relayPort(s), goodBuffer,
				{Warning, relayName, "203.0.113.5 does not answer STUN from this machine, over UDP port ", "NAT without hairpin"}, goodUDP, goodTLS}
		}},
		{"no address in DNS", relayName, func(s *testEnv, f *fakeRelay) { s.zone.reset() }, func(s *testEnv) []wantFinding {
			return []wantFinding{relayPort(s), goodBuffer, {Warning, relayName, "The lookup of the name failed", "Correct -turn"}, goodUDP, goodTLS}
		}},
		{"certificate of another name", "mail.example.net", func(s *testEnv, f *fakeRelay) {}, func(s *testEnv) []wantFinding {
			return []wantFinding{relayPort(s), goodBuffer, goodHairpin, goodUDP,
				{Warning, "TURN over TLS", "does not cover the name in the URL: x509: certificate is valid for mail.example.net, not www.example.net", "Add the name to -domain"}}
		}},
		{"untrusted certificate", relayName, func(s *testEnv, f *fakeRelay) { s.CA.RootsFile = "" }, func(s *testEnv) []wantFinding {
			return []wantFinding{relayPort(s), goodBuffer, goodHairpin, goodUDP,
				{Warning, "TURN over TLS", "does not chain to a root that this machine trusts", "fullchain.pem"}}
		}},
		{"small buffer", relayName, func(s *testEnv, f *fakeRelay) { s.udpBuffer = func(string) int { return 208 << 10 } }, func(s *testEnv) []wantFinding {
			return []wantFinding{relayPort(s), {Warning, "receive buffer", "has 208 KiB: packets of calls are lost", "sysctl -w net.core.rmem_max=4194304,"}, goodHairpin, goodUDP, goodTLS}
		}},
		{"buffer unknown", relayName, func(s *testEnv, f *fakeRelay) { s.udpBuffer = func(string) int { return 0 } }, func(s *testEnv) []wantFinding {
			return []wantFinding{relayPort(s), goodHairpin, goodUDP, goodTLS}
		}},
		{"month used up", relayName, func(s *testEnv, f *fakeRelay) { f.servers, f.withheld = f.servers[:1], "month-used" }, func(s *testEnv) []wantFinding {
			return []wantFinding{relayPort(s), goodBuffer, goodHairpin, {Warning, "", "The month's traffic of the relay is used up", "Raise -turn-month"}}
		}},
		{"started with other options", relayName, func(s *testEnv, f *fakeRelay) { f.servers = f.servers[2:] }, func(s *testEnv) []wantFinding {
			return []wantFinding{{Warning, "-turn-bind " + s.TURN.Bind, "Another program uses the port", "coturn"}, {Warning, "", "The running inbox offers no TURN.", restart}}
		}},
		{"refused", relayName, func(s *testEnv, f *fakeRelay) { f.status = http.StatusTooManyRequests }, func(*testEnv) []wantFinding {
			return []wantFinding{{Warning, "", "gave no credentials of the relay: status 429", "Run the doctor again later"}}
		}},
		{"TLS only", relayName, func(s *testEnv, f *fakeRelay) {
			f.servers = f.servers[1:]
			f.servers[0].URLs = f.servers[0].URLs[1:]
			s.TURN.Bind = freeUDPPort(s.t)
			s.bindUDP = bindUDP
		}, func(s *testEnv) []wantFinding {
			return []wantFinding{{Warning, "-turn-bind " + s.TURN.Bind, "the running inbox does not use the port", "Restart it."}, goodTLS}
		}},
		{"wrong credentials", relayName, func(s *testEnv, f *fakeRelay) { f.servers[1].Credential = "wrong" }, func(s *testEnv) []wantFinding {
			return []wantFinding{relayPort(s), goodBuffer, goodHairpin,
				{Failure, "TURN over UDP", "No packet passes through the relay: open a relay: ", "Check the log"},
				{Failure, "TURN over TLS", "No packet passes through the relay: open a relay: ", "Check the log"}}
		}},
		{"several problems", "mail.example.net", func(s *testEnv, f *fakeRelay) {
			f.answerAt(s, "")
			s.udpBuffer = func(string) int { return 208 << 10 }
		}, func(s *testEnv) []wantFinding {
			return []wantFinding{relayPort(s), {Warning, "receive buffer", "208 KiB", "sysctl"}, {Warning, relayName, "does not answer STUN", "hairpin"},
				goodUDP, {Warning, "TURN over TLS", "does not cover", "-domain"}}
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newTestEnv(t)
			f := newFakeRelay(s, row.certOf)
			s.TURN.Host = relayName
			f.offer(s)
			row.change(s, f)
			expectFindings(t, s.checkTURN(), row.want(s)...)
		})
	}
}

func freeUDPPort(t *testing.T) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().String()
}

// TestDoctorChecksTURNWithoutServer checks ports and options while no server runs.
func TestDoctorChecksTURNWithoutServer(t *testing.T) {
	untested := wantFinding{OK, "", "The relay is tested only while the server runs.", ""}
	const portName = "-turn-bind :3478"
	free := []wantFinding{{OK, portName, "Available.", ""}, {OK, "receive buffer", "2048 KiB", ""}, untested}
	failsWith := func(err error) func(*testEnv) {
		return func(s *testEnv) {
			s.bindUDP = func(string, int) (int, error) { return 0, &net.OpError{Op: "listen", Err: err} }
		}
	}
	for _, row := range []struct {
		name   string
		change func(*testEnv)
		want   []wantFinding
	}{
		{"free", func(*testEnv) {}, free},
		{"small buffer", func(s *testEnv) { s.bindUDP = func(string, int) (int, error) { return 208 << 10, nil } },
			[]wantFinding{free[0], {Warning, "receive buffer", "208 KiB", "sysctl -w net.core.rmem_max=4194304"}, untested}},
		{"in use, default port", failsWith(syscall.EADDRINUSE), []wantFinding{{Warning, portName, "Another program uses the port, so the server offers no STUN", "-turn-bind"}, untested}},
		{"in use, given port", func(s *testEnv) { s.TURN.BindGiven = true; failsWith(syscall.EADDRINUSE)(s) },
			[]wantFinding{{Failure, portName, "Another program uses the port, so the server does not start", "-turn-bind"}, untested}},
		{"in use by a known program", ownedBy("turnserver", failsWith(syscall.EADDRINUSE)), []wantFinding{{Warning, portName, "The program turnserver (process 812)", "Stop that program"}, untested}},
		{"in use by systemd", ownedBy("systemd", failsWith(syscall.EADDRINUSE)), []wantFinding{{OK, portName, "In use by systemd (process 812).", ""}, untested}},
		{"no such address", failsWith(syscall.EADDRNOTAVAIL), []wantFinding{{Failure, portName, "does not have the address", "like :3478"}, untested}},
		{"no permission", failsWith(fs.ErrPermission), []wantFinding{{Warning, portName, "require CAP_NET_BIND_SERVICE", "inbox-turn.socket"}, untested}},
		{"another error", failsWith(errors.New("out of sockets")), []wantFinding{{Failure, portName, "Cannot bind the port: listen: out of sockets", "Correct -turn-bind"}, untested}},
		{"only an IP address", func(s *testEnv) {
			s.Domains, s.TURN.NoTLS, s.TURN.NeedsName = []string{"203.0.113.5"}, "browsers do not use it with an IP address", true
		}, append([]wantFinding{{Warning, "203.0.113.5", "TURN over TLS is not offered: browsers do not use it with an IP address.",
			"Add a host name to -domain, or set -turn to one. Networks that allow only HTTPS need TURN over TLS."}}, free...)},
		{"-turn is not in -domain", func(s *testEnv) { s.TURN.Host, s.TURN.NoTLS = "turn.example.net", "no certificate has the name" },
			append([]wantFinding{{OK, "", "TURN over TLS is not offered: no certificate has the name.", ""}}, free...)},
		{"self-signed", func(s *testEnv) { s.Domains, s.CertFile = nil, "" }, append([]wantFinding{{OK, "", "not offered: the certificate is self-signed", ""}}, free...)},
		{"certificate files without the name of -turn", func(s *testEnv) { withCertFiles(s, "mail.example.net") },
			append([]wantFinding{{Warning, "www.example.net", "does not cover the name of -turn", "Use a certificate that lists the name"}}, free...)},
		{"certificate files with the name of -turn", func(s *testEnv) { withCertFiles(s, relayName) }, free},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newTestEnv(t)
			s.Bind = freePort(t)
			s.TURN = &TURN{Relay: true, Bind: ":3478", ICEPath: "/ice", BufferBytes: 4 << 20, MinBufferBytes: 1 << 20}
			s.bindUDP = func(string, int) (int, error) { return 2 << 20, nil }
			row.change(s)
			expectFindings(t, s.checkTURN(), row.want...)
		})
	}
}

// withCertFiles serves certificate files instead of one for -domain, and sets -turn.
func withCertFiles(s *testEnv, name string) {
	dir := s.t.TempDir()
	s.Domains, s.TURN.Host, s.CertFile, s.KeyFile = nil, relayName, dir+"/cert.pem", dir+"/key.pem"
	s.root.sign(s.t, validity{}, name).write(s.t, s.CertFile, s.KeyFile)
}

// TestDoctorChecksTheRelayOfAStore asks the relay on another node for STUN.
func TestDoctorChecksTheRelayOfAStore(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*testEnv, *fakeRelay)
		want   wantFinding
	}{
		{"answers", func(*testEnv, *fakeRelay) {}, wantFinding{OK, "", "The relay answers STUN over UDP.", ""}},
		{"silent", func(s *testEnv, f *fakeRelay) { f.answerAt(s, "") }, wantFinding{Warning, "", "does not answer STUN over UDP at 203.0.113.5", "Start the server with this name in -domain"}},
		{"no address", func(s *testEnv, f *fakeRelay) { s.zone.reset() }, wantFinding{Warning, "", "The lookup of the relay failed", "Correct -turn"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newTestEnv(t)
			f := newFakeRelay(s, relayName)
			s.TURN.Relay, s.CertFile, s.Domains = false, "", []string{"mail.example.net"}
			row.change(s, f)
			row.want.name = net.JoinHostPort(relayName, host.Port(s.TURN.Bind))
			expectFindings(t, s.checkTURN(), row.want)
		})
	}
}

// TestSilentRelayTimesOut checks that a relay that answers nothing does not block the doctor.
func TestSilentRelayTimesOut(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	e := &examination{Config: Config{}.withDefaults()}
	if e.answersSTUN(t.Context(), silent.LocalAddr().String()) {
		t.Error("got an answer")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dial := func(ctx context.Context) (net.PacketConn, error) {
		c, err := net.Dial("udp", silent.LocalAddr().String())
		return connectedPackets{c}, err
	}
	if err := echo(ctx, &offer{username: "a", password: "b"}, dial); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the end of the context", err)
	}
}

// TestDoctorWithoutTURN checks that nothing is found of TURN if it is off, or in the server.
func TestDoctorWithoutTURN(t *testing.T) {
	for _, c := range []Config{{}, {TURN: &TURN{Relay: true, Bind: "127.0.0.1:0"}, InServer: true}} {
		for _, check := range (&examination{Config: c}).checks() {
			if check.id == "turn" {
				t.Errorf("%+v: got the check", c)
			}
		}
	}
}

// TestBindUDP binds real sockets.
func TestBindUDP(t *testing.T) {
	address := freeUDPPort(t)
	if bytes, err := bindUDP(address, 64<<10); err != nil || bytes != 0 && bytes < 64<<10 {
		t.Errorf("got %d, %v", bytes, err)
	}
	c, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := bindUDP(address, 64<<10); !errors.Is(err, syscall.EADDRINUSE) && !errors.Is(err, os.ErrPermission) {
		t.Errorf("port in use: got %v", err)
	}
	if got := udpBuffer("no port"); got != 0 {
		t.Errorf("invalid port: got %d", got)
	}
	if text := fmt.Sprint(portOwner{"inbox", 1}); text != "inbox (process 1)" {
		t.Errorf("got %s", text)
	}
}

// TestParseOffer ignores the servers of others and malformed responses.
func TestParseOffer(t *testing.T) {
	for _, row := range []struct {
		name, text string
		want       offer
	}{
		{"empty", "", offer{}},
		{"not JSON", "<html>", offer{}},
		{"of others", `{"iceServers":[{"urls":["turn:other.example:3478"],"username":"u","credential":"p"},{"urls":["stun:other.example:3478"]}]}`, offer{}},
		{"without port", `{"iceServers":[{"urls":["turn:a.example"],"username":"u","credential":"p"}]}`, offer{}},
		{"all", `{"iceServers":[{"urls":["stun:a.example:1"]},{"urls":["turn:a.example:1?transport=udp","turns:a.example:443?transport=tcp"],"username":"u","credential":"p"}]}`,
			offer{stun: "a.example:1", tls: "a.example:443", udp: true, username: "u", password: "p"}},
		{"month used", `{"iceServers":[{"urls":["stun:a.example:1"]}],"turn":"month-used"}`, offer{stun: "a.example:1", withheld: "month-used"}},
	} {
		if got := parseOffer([]byte(row.text), "A.example"); *got != row.want {
			t.Errorf("%s: got %+v, want %+v", row.name, *got, row.want)
		}
	}
	if got := parseOffer([]byte(`{"iceServers":[{"urls":["stun:[2001:db8::1]:3478"]}]}`), "2001:DB8::1"); got.stun == "" {
		t.Error("IPv6 address: got no STUN")
	}
}
