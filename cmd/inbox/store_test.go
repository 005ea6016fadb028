//go:build linux

package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// redisPort returns a free port, or skips the test if redis-server is not installed.
func redisPort(t *testing.T) int {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("redis-server is missing: apt install redis-server")
		}
		t.Skip("redis-server is missing: apt install redis-server")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// startRedis starts a redis-server that requires a password.
func startRedis(t *testing.T, port int, password string) (stop func()) {
	t.Helper()
	cmd := exec.Command("redis-server", "--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir(), "--requirepass", password)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = func() { cmd.Process.Kill(); cmd.Wait() }
	t.Cleanup(stop)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", port)); err == nil {
			conn.Close()
			break
		}
	}
	return stop
}

func (p *program) wantReady(status int) {
	p.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if a, err := p.tryRequest("GET", "/readyz", "", ""); err == nil && a.status == status {
			return
		}
	}
	p.t.Fatalf("/readyz did not return %d within a minute", status)
}

// TestTwoServersShareStore runs two servers on a store that starts late, fails and comes
// back.
func TestTwoServersShareStore(t *testing.T) {
	port, dir := redisPort(t), t.TempDir()
	file, key := filepath.Join(dir, "address"), filepath.Join(dir, "key")
	writeFile(t, file, fmt.Sprintf("redis://:geheim@127.0.0.1:%d\n", port))
	writeFile(t, key, "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n")
	options := []string{"-https=false", "-store-file", file, "-store-key-file", key, "-state", t.TempDir()} // shared state directory, which is allowed with a store
	a, b := start(t, options...), start(t, options...)
	a.wantReady(http.StatusServiceUnavailable)
	if refused := a.want(http.StatusServiceUnavailable, "GET", "/inbox", "bob", ""); refused.header.Get("Retry-After") == "" {
		t.Error("got no Retry-After while the store is unavailable")
	}
	stop := startRedis(t, port, "geheim")
	a.wantReady(http.StatusOK)
	b.wantReady(http.StatusOK)
	a.claim("bob")
	b.want(http.StatusOK, "POST", "/inbox?to=bob", "alice", "hello")
	if got := a.want(http.StatusOK, "GET", "/inbox", "bob", ""); got.body != "hello" {
		t.Errorf("got %q, want hello", got.body)
	}
	stop()
	b.want(http.StatusServiceUnavailable, "POST", "/inbox?to=bob", "alice", "hello")
	b.wantReady(http.StatusServiceUnavailable)
	b.want(http.StatusOK, "GET", "/healthz", "", "")
	startRedis(t, port, "geheim")
	b.wantReady(http.StatusOK)
	b.claim("bob")
	for _, p := range []*program{a, b} {
		if code := p.stop(); code != exitDone {
			t.Errorf("got exit code %d", code)
		}
		log := p.log.String()
		if strings.Contains(log, "geheim") {
			t.Errorf("the password is in the log:\n%s", log)
		}
		if strings.Contains(log, "waiting for another server") || strings.Contains(log, "mailboxes saved") {
			t.Errorf("mailboxes are saved although the store has them:\n%s", log)
		}
	}
}

// TestQuotaIsSharedAcrossServers checks that the quota of a client address applies to all
// servers on a store together.
func TestQuotaIsSharedAcrossServers(t *testing.T) {
	port := redisPort(t)
	startRedis(t, port, "geheim")
	args := []string{"-https=false", "-max-inboxes-per-ip", "2", "-store", fmt.Sprintf("redis://:geheim@127.0.0.1:%d", port)}
	a, b := start(t, args...), start(t, args...)
	a.wantReady(http.StatusOK)
	b.wantReady(http.StatusOK)
	a.claim("alice")
	a.claim("bob")
	time.Sleep(1500 * time.Millisecond) // b refreshes its totals once a second
	b.want(http.StatusTooManyRequests, "GET", "/inbox?wait=0", "carol", "")
	b.claim("bob")
}

func TestInvalidStoreOptions(t *testing.T) {
	dir := t.TempDir()
	short := filepath.Join(dir, "short")
	writeFile(t, short, "MDEyMw==\n")
	for _, c := range []struct {
		want string
		args []string
	}{
		{"-store (from command line): the address must begin with redis://", []string{"-store", "http://:geheim@host"}},
		{"HOST:PORT", []string{"-store", "redis://:geheim@host:port"}},
		{"conflicts with -store", []string{"-store", "redis://host", "-store-file", short}},
		{"no such file", []string{"-store-file", filepath.Join(dir, "none")}},
		{"-store-file (from command line): the address must begin with", []string{"-store-file", short}},
		{"requires -store", []string{"-store-key-file", short}},
		{"requires -store", []string{"-store-replicas", "1"}},
		{"from 0 to 100", []string{"-store", "redis://host", "-store-replicas", "-1"}},
		{"from 0 to 100", []string{"-store", "redis://host", "-store-replicas", "101"}},
		{"openssl rand", []string{"-store", "redis://host", "-store-key-file", short}},
		{"is required with -domain", []string{"-store", "redis://host", "-domain", "inbox.example", "-email", "me@inbox.example"}},
		{"requires a store over TLS", []string{"-store", "redis://host", "-store-ca", short}},
		{"no PEM certificate", []string{"-store", "rediss://host", "-store-ca", short}},
		{"from 1 to 10000 with -store", []string{"-store", "redis://host", "-inbox-capacity", "0"}},
	} {
		code, _, stderr := runOnce(t, nil, c.args...)
		if code != exitUsage || !strings.Contains(stderr, c.want) {
			t.Errorf("%q: got exit code %d, %q, want %q", c.args, code, stderr, c.want)
		}
		if strings.Contains(stderr, "geheim") || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: got %q, want one line without the password", c.args, stderr)
		}
	}
}

// TestDoctorChecksStore runs the doctor against a real store. It must not write to the
// store or print a secret.
func TestDoctorChecksStore(t *testing.T) {
	port, dir := redisPort(t), t.TempDir()
	file, key := filepath.Join(dir, "address"), filepath.Join(dir, "key")
	writeFile(t, file, fmt.Sprintf("redis://:geheim@127.0.0.1:%d\n", port))
	writeFile(t, key, "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n")
	examine := func(want ...string) {
		t.Helper()
		var out strings.Builder
		code := run(t.Context(), process{args: []string{"doctor", "-https=false", "-bind", "127.0.0.1:0", "-state", dir, "-store-file", file, "-store-key-file", key}, stdout: &out, stderr: &out})
		for _, text := range want {
			if !strings.Contains(strings.Join(strings.Fields(out.String()), " "), text) {
				t.Errorf("got %v:\n%s\nwant %q", code, out.String(), text)
			}
		}
		if strings.Contains(out.String(), "geheim") {
			t.Errorf("got the password:\n%s", out.String())
		}
	}
	examine("The store is unusable", "connect")
	startRedis(t, port, "geheim")
	examine("No node has used the store yet", "The memory is not limited", "has no append-only file")
	start(t, "-https=false", "-store-file", file, "-store-key-file", key).wantReady(http.StatusOK)
	writeFile(t, key, "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDI=\n")
	examine("with a different key")
	writeFile(t, file, fmt.Sprintf("redis://:geheim-not@127.0.0.1:%d\n", port))
	examine("WRONGPASS")
}

// TestRelayOfStore has one server that is the relay and one that hands out its credentials.
// The latter learns that the month's traffic is used up, and tells of deleted mailboxes.
func TestRelayOfStore(t *testing.T) {
	t.Parallel()
	port, dir := redisPort(t), t.TempDir()
	file, key := filepath.Join(dir, "address"), filepath.Join(dir, "key")
	writeFile(t, file, fmt.Sprintf("redis://:geheim@127.0.0.1:%d\n", port))
	writeFile(t, key, "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n")
	startRedis(t, port, "geheim")
	free := listenUDP(t)
	udp := free.LocalAddr().String()
	free.Close()
	options := []string{"-store-file", file, "-store-key-file", key, "-turn", "relay.example", "-turn-bind", udp}
	setMonth := exec.Command("redis-cli", "-p", fmt.Sprint(port), "-a", "geheim", "SET", "inbox:{turn}:month", "used")
	if out, err := setMonth.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	front := start(t, append(options, "-https=false")...)
	front.wantReady(http.StatusOK)
	front.wantICE(`"turn":"month-used"`)
	start(t, append(options, "-domain", "relay.example", "-acme-agree", "-acme-ca", "https://127.0.0.1:1/", "-http-bind", "")...)
	_, udpPort, _ := net.SplitHostPort(udp)
	front.wantICE(`"turn:relay.example:` + udpPort + `?transport=udp"`)
	server, _ := front.turnServer("alice")
	client, relay, err := allocate(t, listenUDP(t), udp, server)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.CreatePermission(relay.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	front.want(http.StatusNoContent, "DELETE", "/inbox", "alice", "")
	for deadline := time.Now().Add(time.Minute); client.CreatePermission(relay.LocalAddr()) == nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the relay exists a minute after its mailbox was deleted")
		}
	}
	if _, _, err := allocate(t, listenUDP(t), udp, server); err == nil {
		t.Error("the credentials of a deleted mailbox open a relay")
	}
}

// wantICE waits until GET /ice contains a text.
func (p *program) wantICE(text string) {
	p.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		got := p.want(http.StatusOK, "GET", "/ice", "alice", "")
		if strings.Contains(got.body, text) {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("GET /ice: got %s, want %s", got.body, text)
		}
	}
}

// TestWebSocketsOfTwoNodes relays between the nodes of a store, and moves a receiver between them.
func TestWebSocketsOfTwoNodes(t *testing.T) {
	port := redisPort(t)
	startRedis(t, port, "geheim")
	dir := t.TempDir()
	file, key := filepath.Join(dir, "address"), filepath.Join(dir, "key")
	writeFile(t, file, fmt.Sprintf("redis://:geheim@127.0.0.1:%d\n", port))
	writeFile(t, key, "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n")
	options := []string{"-https=false", "-store-file", file, "-store-key-file", key}
	first, second := start(t, options...), start(t, options...)
	first.wantReady(http.StatusOK)
	second.wantReady(http.StatusOK)
	alice, bob := first.socket(t, "alice", "after="), second.socket(t, "bob", "after=")
	last := ""
	for i := range 20 {
		alice.send("send %d bob text %d", i+1, i)
		last = bob.want(fmt.Sprintf(`msg (\d+) alice text %d`, i))[0]
		if i < 10 {
			bob.send("ack %s", last)
		}
	}
	moved := first.socket(t, "bob", "after="+last)
	bob.want("end superseded")
	bob.wantClose(4001)
	alice.send("send 30 bob text there")
	moved.want(`msg \d+ alice text there`)
	moved.send("send 1 carol?wait=20 text hello")
	second.socket(t, "carol", "").want(`msg \d+ bob text hello`)
	moved.want("ok 1")
}
