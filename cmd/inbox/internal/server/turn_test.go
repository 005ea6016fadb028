package server

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/logging"
	pion "github.com/pion/turn/v5"

	"inbox/cmd/inbox/internal/config"
	"inbox/cmd/inbox/internal/conn"
	"inbox/cmd/inbox/internal/limits"
	"inbox/cmd/inbox/internal/relaynodes"
	"inbox/inbox"
	"inbox/inbox/ice"
	"inbox/ratelimit"
)

// testTimeout bounds the wait for an event that must happen.
const testTimeout = 30 * time.Second

// newRelayServer builds a server with a relay on a free port.
func newRelayServer(t *testing.T, p Process, args ...string) *server {
	t.Helper()
	return build(t, p, resolve(t, append([]string{"-turn", "auto", "-turn-bind", "127.0.0.1:0"}, args...)...), nil)
}

// iceResponse is the body of GET /ice.
type iceResponse struct {
	ICEServers []ice.Server
	TURN       string
}

// urls returns the URLs, with PORT instead of the UDP port.
func (r iceResponse) urls(s *server) (urls []string) {
	udp := ":" + portOfUDP(s)
	for _, server := range r.ICEServers {
		for _, u := range server.URLs {
			urls = append(urls, strings.ReplaceAll(u, udp, ":PORT"))
		}
	}
	return urls
}

func portOfUDP(s *server) string {
	_, port, _ := net.SplitHostPort(s.relay.socket.Load().LocalAddr().String())
	return port
}

// request calls the main handler as a user of a host.
func (s *server) request(t *testing.T, method, target, host, user string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	r.Host, r.RemoteAddr = host, "127.0.0.1:1"
	if user != "" {
		r.SetBasicAuth(user, "password of "+user)
	}
	w := httptest.NewRecorder()
	s.main.server.Handler.ServeHTTP(w, r)
	return w
}

func (s *server) getICE(t *testing.T, host, user string) (got iceResponse) {
	t.Helper()
	w := s.request(t, "GET", "/ice", host, user)
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK {
		t.Fatalf("GET /ice: got %d %s, %v", w.Code, w.Body, err)
	}
	return got
}

func TestRelayURLs(t *testing.T) {
	certFile, keyFile := writeTestCertificate(t)
	files := "-server-cert " + certFile + " -server-key " + keyFile
	rows := []struct {
		name, args, host string
		want             string // without the port of UDP
	}{
		{"self-signed", "", "inbox.example:3000", "stun:inbox.example:PORT turn:inbox.example:PORT?transport=udp"},
		{"files", files, "inbox.example:3000", "stun:inbox.example:PORT turn:inbox.example:PORT?transport=udp turns:inbox.example:3000?transport=tcp"},
		{"default port", files, "Inbox.Example.", "stun:inbox.example:PORT turn:inbox.example:PORT?transport=udp turns:inbox.example:443?transport=tcp"},
		{"address", files, "192.0.2.1", "stun:192.0.2.1:PORT turn:192.0.2.1:PORT?transport=udp"},
		{"IPv6", files, "[2001:db8::1]:3000", "stun:[2001:db8::1]:PORT turn:[2001:db8::1]:PORT?transport=udp"},
		{"localhost", files, "localhost:3000", "stun:localhost:PORT turn:localhost:PORT?transport=udp turns:localhost:3000?transport=tcp"},
		{"name", files + " -turn turn.example", "inbox.example:8443", "stun:turn.example:PORT turn:turn.example:PORT?transport=udp turns:turn.example:8443?transport=tcp"},
		{"name, invalid host", files + " -turn turn.example", "a b", "stun:turn.example:PORT turn:turn.example:PORT?transport=udp turns:turn.example:443?transport=tcp"},
		{"proxies", files + " -trusted-proxies 10.0.0.1", "inbox.example", "stun:inbox.example:PORT turn:inbox.example:PORT?transport=udp"},
		{"proxies that pass TLS", files + " -trusted-proxies 10.0.0.1 -proxy-protocol", "inbox.example",
			"stun:inbox.example:PORT turn:inbox.example:PORT?transport=udp turns:inbox.example:443?transport=tcp"},
		{"plain HTTP", "-https=false -turn 2001:db8::1", "inbox.example", "stun:[2001:db8::1]:PORT turn:[2001:db8::1]:PORT?transport=udp"},
	}
	for _, host := range []string{"", "a b", "a,stun:evil.example", "user@inbox.example", "inbox.example/x", "inbox.example:0", "inbox.example:99999", "*.example", "[fe80::1%25eth0]", "-"} {
		rows = append(rows, struct{ name, args, host, want string }{"invalid host " + host, files, host, ""})
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			s := newRelayServer(t, testProcess(), strings.Fields(row.args)...)
			got := s.getICE(t, row.host, "alice")
			if urls := strings.Join(got.urls(s), " "); urls != row.want {
				t.Errorf("got %s, want %s", urls, row.want)
			}
			for _, server := range got.ICEServers {
				if hasCredentials := server.Username != "" && server.Credential != ""; hasCredentials != strings.HasPrefix(server.URLs[0], "turn") {
					t.Errorf("got %+v", server)
				}
			}
			stun, _, _ := strings.Cut(row.want, " ")
			if urls := strings.Join(s.getICE(t, row.host, "").urls(s), " "); urls != stun {
				t.Errorf("without credentials: got %s, want %s", urls, stun)
			}
		})
	}
}

// TestRelayBehindProxyWithoutHost has a proxy that sends the address of its upstream as the host.
func TestRelayBehindProxyWithoutHost(t *testing.T) {
	const warning = "a trusted proxy replaces the host of requests"
	offered := "stun:HOST:PORT turn:HOST:PORT?transport=udp"
	for _, row := range []struct {
		peer, client, host, args string
		want                     string
		warned                   bool
	}{
		{"127.0.0.1", "203.0.113.5", "127.0.0.1:18450", "", "", true},
		{"127.0.0.1", "203.0.113.5", "localhost", "", "", true},
		{"127.0.0.1", "2001:db8::5", "a.localhost", "", "", true},
		{"127.0.0.1", "2001:db8::5", "[fd00::1]", "", "", true},
		{"127.0.0.1", "203.0.113.5", "10.0.0.1", "", "", true},
		{"127.0.0.1", "203.0.113.5", "[::ffff:10.0.0.1]", "", "", true},
		{"127.0.0.1", "203.0.113.5", "0.0.0.0", "", "", true},
		{"203.0.113.6", "", "127.0.0.1", "", "", false}, // no proxy: a client that invents a host
		{"127.0.0.1", "203.0.113.5", "inbox.example", "", offered, false},
		{"127.0.0.1", "203.0.113.5", "192.0.2.1", "", offered, false},
		{"127.0.0.1", "203.0.113.5", "localhost", "-turn turn.example", strings.ReplaceAll(offered, "HOST", "turn.example"), false},
		{"127.0.0.1", "192.168.0.2", "10.0.0.1", "", offered, false},
		{"127.0.0.1", "100.64.0.2", "10.0.0.1", "", offered, false},
		{"127.0.0.1", "127.0.0.1", "localhost", "", offered, false},
		{"192.168.0.2", "", "192.168.0.1", "", offered, false},
	} {
		t.Run(row.client+" "+row.host+row.args, func(t *testing.T) {
			var log bytes.Buffer
			s := newRelayServer(t, testProcess(), strings.Fields("-trusted-proxies 127.0.0.1 "+row.args)...)
			s.proxies.Log = slog.New(slog.NewTextHandler(&log, nil))
			for range 2 {
				r := httptest.NewRequest("GET", "/ice", nil)
				r.Host, r.RemoteAddr = row.host, net.JoinHostPort(row.peer, "1")
				r.SetBasicAuth("alice", "password of alice")
				r.Header.Set("X-Forwarded-For", row.client)
				w := httptest.NewRecorder()
				s.main.server.Handler.ServeHTTP(w, r)
				var got iceResponse
				if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
					t.Fatalf("%v in %s", err, w.Body)
				}
				host, _, _ := requestHost(r)
				if urls, want := strings.Join(got.urls(s), " "), strings.ReplaceAll(row.want, "HOST", host); urls != want {
					t.Errorf("got %q, want %q", urls, want)
				}
			}
			if got := strings.Count(log.String(), warning); got > 1 || (got == 1) != row.warned {
				t.Errorf("got the log %q", log.String())
			}
		})
	}
}

func TestRelayOfDomains(t *testing.T) {
	s := newDomainServer(t, "-turn", "auto", "-turn-bind", "127.0.0.1:0")
	if got, want := strings.Join(s.getICE(t, "a.example:8443", "alice").urls(s), " "),
		"stun:a.example:PORT turn:a.example:PORT?transport=udp turns:a.example:8443?transport=tcp"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if w := s.request(t, "GET", "/ice", "b.example", "alice"); w.Code != http.StatusMisdirectedRequest {
		t.Errorf("another host: got %d, want 421", w.Code)
	}
}

// writeTestCertificate writes the certificate of a self-signed server into files of its own.
func writeTestCertificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	s := build(t, testProcess(), resolve(t), nil)
	text, err := os.ReadFile(filepath.Join(s.cfg.StateDir, "selfsigned.pem"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "pem")
	writeFile(t, file, string(text))
	return file, file
}

// client is a TURN client over UDP.
type client struct {
	*pion.Client
	relay net.PacketConn
}

// openRelayClient opens an allocation with the credentials of a response.
func openRelayClient(t *testing.T, s *server, ice iceResponse) (*client, error) {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	turnServer := ice.ICEServers[len(ice.ICEServers)-1]
	client := &client{}
	if client.Client, err = pion.NewClient(&pion.ClientConfig{
		Conn: c, TURNServerAddr: s.relay.socket.Load().LocalAddr().String(),
		Username: turnServer.Username, Password: turnServer.Credential,
		LoggerFactory: &logging.DefaultLoggerFactory{Writer: io.Discard},
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	if err := client.Listen(); err != nil {
		t.Fatal(err)
	}
	if client.relay, err = client.Allocate(); err == nil {
		t.Cleanup(func() { client.relay.Close() })
	}
	return client, err
}

func mustOpenRelayClient(t *testing.T, s *server, ice iceResponse) *client {
	t.Helper()
	c, err := openRelayClient(t, s, ice)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wantRelayed requires that a packet gets from one client to another.
func wantRelayed(t *testing.T, from, to *client) {
	t.Helper()
	for c, peer := range map[*client]*client{from: to, to: from} {
		if err := c.CreatePermission(peer.relay.LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := from.relay.WriteTo([]byte("hello"), to.relay.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	to.relay.SetReadDeadline(time.Now().Add(testTimeout))
	buf := make([]byte, 100)
	if n, _, err := to.relay.ReadFrom(buf); err != nil || string(buf[:n]) != "hello" {
		t.Fatalf("got %q, %v", buf[:n], err)
	}
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(testTimeout); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

func (s *server) allocations() int64 { return s.relay.server.State().UDP.Allocations }

// packetBytes is what a packet of wantRelayed counts for: five bytes and the headers.
const packetBytes = 5 + 48

// TestDeleteEndsRelays calls through the relay, deletes a mailbox, and restarts the server.
func TestDeleteEndsRelays(t *testing.T) {
	p := testProcess()
	s := newRelayServer(t, p)
	stop, ended := runInBackground(t, s)
	ice := s.getICE(t, "localhost", "alice")
	alice, bob := mustOpenRelayClient(t, s, ice), mustOpenRelayClient(t, s, s.getICE(t, "localhost", "bob"))
	wantRelayed(t, alice, bob)
	if w := s.request(t, "DELETE", "/inbox", "localhost", "alice"); w.Code != http.StatusNoContent {
		t.Fatalf("DELETE: %d", w.Code)
	}
	eventually(t, "the end of an allocation", func() bool { return s.allocations() == 1 })
	if _, err := openRelayClient(t, s, ice); err == nil {
		t.Error("the credentials of a deleted mailbox open an allocation")
	}
	mustOpenRelayClient(t, s, s.getICE(t, "localhost", "alice"))
	bobs := s.getICE(t, "localhost", "bob")
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	s.close() // releases the state directory

	cfg := *s.cfg
	next := build(t, p, &cfg, nil)
	stop, ended = runInBackground(t, next)
	if got := next.relay.server.State().MonthBytes; got != packetBytes {
		t.Errorf("got %d bytes of the month after a restart, want %d", got, packetBytes)
	}
	mustOpenRelayClient(t, next, bobs) // the secret is the same
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestLedgerIsSavedEveryMinute checks the file while the relay runs, as a crash would leave it.
func TestLedgerIsSavedEveryMinute(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		clientIP := &ratelimit.ClientIP{}
		r, err := openRelay(&config.TURN{Relay: true, MonthBytes: 1e12, Bind: config.Address{Value: "127.0.0.1:99999"}}, relayParts{ // no port is bound
			secret: []byte("a secret of the test"), stateDir: dir,
			limits: limits.New(limits.Config{}, clientIP, conn.NewClientResolver(clientIP, nil)),
		}, discardLog)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan bool)
		go func() { r.run(ctx); close(ended) }()
		time.Sleep(ledgerInterval + time.Second)
		if got, err := os.ReadFile(filepath.Join(dir, ledgerFile)); err != nil || !bytes.Equal(got, r.server.Ledger()) {
			t.Errorf("got %q, %v, want the ledger", got, err)
		}
		cancel()
		<-ended
	})
}

// TestRevocationsSurviveACrash revokes credentials while the relay runs, and opens another relay
// without closing it.
func TestRevocationsSurviveACrash(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		open := func() *relay {
			clientIP := &ratelimit.ClientIP{}
			noPort := config.Address{Value: "127.0.0.1:99999"} // a socket does not fit into the bubble
			r, err := openRelay(&config.TURN{Relay: true, Bind: noPort}, relayParts{
				secret: []byte("a secret of the test"), stateDir: dir,
				limits: limits.New(limits.Config{}, clientIP, conn.NewClientResolver(clientIP, nil)),
			}, discardLog)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		r := open()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan bool)
		go func() { r.run(ctx); close(ended) }()
		for _, owner := range []string{"alice", "bob", "carol"} {
			r.ownerDeleted(owner)
		}
		want := r.server.Revocations()
		time.Sleep(revokedDelay + time.Millisecond)
		next := open()
		if got := next.server.Revocations(); !bytes.Equal(got, want) || len(got) < 3*20 {
			t.Errorf("got %x after a crash, want %x", got, want)
		}
		next.close()
		cancel()
		<-ended
	})
}

func TestMonthUsedUp(t *testing.T) {
	var log strings.Builder
	cfg := resolve(t, "-turn", "auto", "-turn-bind", "127.0.0.1:0")
	cfg.TURN.MonthBytes = 20 * packetBytes
	s := build(t, testProcess(), cfg, nil)
	s.relay.log = slog.New(slog.NewTextHandler(&log, nil))
	s.relay.payer = func(*http.Request) inbox.Payer { return inbox.Payer{} } // no share
	stop, ended := runInBackground(t, s)
	alice, bob := mustOpenRelayClient(t, s, s.getICE(t, "localhost", "alice")), mustOpenRelayClient(t, s, s.getICE(t, "localhost", "bob"))
	if s.relay.warnOfMonth(); log.Len() > 0 {
		t.Errorf("got %s, want no warning before the month is used", log.String())
	}
	for range 20 {
		wantRelayed(t, alice, bob) // the last packet is above 99 %
	}
	want := iceResponse{[]ice.Server{{URLs: []string{"stun:localhost:" + portOfUDP(s)}}}, "month-used"}
	if got := s.getICE(t, "localhost", "alice"); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	store := new(monthStore)
	relay, other := relaynodes.New(store, "inbox:", discardLog), relaynodes.New(store, "inbox:", discardLog)
	relay.Exchange(t.Context(), s.relay.server)
	if other.Exchange(t.Context(), nil); !other.MonthUsed() {
		t.Error("another node does not know that the month's traffic is used up")
	}
	s.relay.warnOfMonth()
	s.relay.warnOfMonth()
	if got := strings.Count(log.String(), "traffic of the relay is used up"); got != 1 {
		t.Errorf("got %d warnings, want one: %s", got, log.String())
	}
	stop()
	<-ended
}

func TestTURNSocket(t *testing.T) {
	occupied, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer occupied.Close()
	address := config.Address{Option: "turn-bind", Value: occupied.LocalAddr().String()}
	given := address
	given.From = "command line"
	free := config.Address{Option: "turn-bind", Value: "127.0.0.1:0"}
	passed := func() *net.UDPConn {
		c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	for _, row := range []struct {
		name       string
		cfg        *config.TURN
		passed     *net.UDPConn
		want       bool
		log, fails string
	}{
		{"free", &config.TURN{Relay: true, Bind: free}, nil, true, "", ""},
		{"occupied default", &config.TURN{Relay: true, Bind: address}, nil, false, "no STUN and TURN over UDP", ""},
		{"occupied and given", &config.TURN{Relay: true, Bind: given}, nil, false, "", "is already in use by another program; stop it, or choose another port with -turn-bind"},
		{"passed", &config.TURN{Relay: true, Bind: address}, passed(), true, "", ""},
		{"passed and given", &config.TURN{Relay: true, Bind: given}, passed(), true, "-turn-bind is ignored", ""},
		{"off", nil, nil, false, "", ""},
		{"off and passed", nil, passed(), false, "is not used", ""},
		{"another node", &config.TURN{Bind: free}, passed(), false, "is not used", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			var log strings.Builder
			c, err := bindTURN(row.cfg, row.passed, slog.New(slog.NewTextHandler(&log, nil)))
			if c != nil {
				defer c.Close()
			}
			if (c != nil) != row.want || (err != nil) != (row.fails != "") || err != nil && !strings.Contains(err.Error(), row.fails) {
				t.Errorf("got %v, %v", c, err)
			}
			if !strings.Contains(log.String(), row.log) {
				t.Errorf("got the log %s, want %q", log.String(), row.log)
			}
			if row.passed != nil && !row.want {
				if err := row.passed.SetReadBuffer(1); err == nil {
					t.Error("the passed socket is open")
				}
			}
		})
	}
}

// TestDefaultTURNPortIsAwaited has a port that another process releases while the server runs.
func TestDefaultTURNPortIsAwaited(t *testing.T) {
	other, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	cfg := resolve(t, "-turn", "auto")
	cfg.TURN.Bind.Value = other.LocalAddr().String()
	s := build(t, testProcess(), cfg, nil)
	stop, ended := runInBackground(t, s)
	if got := s.getICE(t, "localhost", "alice"); len(got.ICEServers) > 0 {
		t.Errorf("got %+v while the port is occupied, want none", got)
	}
	other.Close()
	for deadline := time.Now().Add(testTimeout); len(s.getICE(t, "localhost", "alice").ICEServers) == 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("GET /ice has no server, although the port is free")
		}
	}
	alice, bob := mustOpenRelayClient(t, s, s.getICE(t, "localhost", "alice")), mustOpenRelayClient(t, s, s.getICE(t, "localhost", "bob"))
	wantRelayed(t, alice, bob)
	stop()
	<-ended
}

// TestStopWhileTURNPortIsOccupied checks that the wait for the port ends with the server.
func TestStopWhileTURNPortIsOccupied(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	bind := config.Address{Option: "turn-bind", Value: "192.0.2.1:1"} // not of this machine
	if c := awaitTURNPort(ctx, &config.TURN{Relay: true, Bind: bind}, discardLog); c != nil {
		t.Errorf("got %v, want none", c.LocalAddr())
	}
}

func TestReceiveBuffer(t *testing.T) {
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var log strings.Builder
	growReceiveBuffer(c, slog.New(slog.NewTextHandler(&log, nil)))
	limit, err := os.ReadFile("/proc/sys/net/core/rmem_max")
	if err != nil {
		t.Skip("no limit of receive buffers on this system")
	}
	small := len(strings.TrimSpace(string(limit))) < len("1048576")
	if warned := strings.Contains(log.String(), "sysctl -w net.core.rmem_max=4194304"); warned != small {
		t.Errorf("limit %s: got the log %s", limit, log.String())
	}
}

func TestRequestHost(t *testing.T) {
	got := map[string][2]string{}
	for _, host := range []string{"a.example", "A.example.:8443", "[::1]:3000", "192.0.2.1"} {
		h, port, ok := requestHost(&http.Request{Host: host})
		if !ok {
			t.Errorf("%s is refused", host)
		}
		got[host] = [2]string{h, port}
	}
	want := map[string][2]string{"a.example": {"a.example", "443"}, "A.example.:8443": {"a.example", "8443"}, "[::1]:3000": {"::1", "3000"}, "192.0.2.1": {"192.0.2.1", "443"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func FuzzRequestHost(f *testing.F) {
	for _, seed := range []string{"a.example:1", "[::1]", "a,stun:b", "a b", "é.example", "a%41"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, host string) {
		h, port, ok := requestHost(&http.Request{Host: host})
		if !ok {
			return
		}
		url := "turns:" + net.JoinHostPort(h, port) + "?transport=tcp"
		servers, err := ice.Parse(`[{"urls":["` + url + `"],"username":"u","credential":"c"}]`)
		if err != nil || len(servers) != 1 || servers[0].URLs[0] != url {
			t.Errorf("%q: got %q, %v", host, url, err)
		}
	})
}

// monthStore is a store of the month's state.
type monthStore struct{ value any }

func (m *monthStore) Do(_ context.Context, command []string, _ string, args ...string) (any, error) {
	switch command[0] {
	case "GET":
		return m.value, nil
	case "SET":
		m.value = args[0]
	}
	return nil, nil
}
