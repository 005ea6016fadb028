package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"inbox/cmd/inbox/internal/limits"
)

// requestAs sends a GET with the given password and additional header lines.
func (p *program) requestAs(name, password, path string, header ...string) response {
	p.t.Helper()
	r, err := http.NewRequest("GET", p.url+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	if name != "" {
		r.SetBasicAuth(name, password)
	}
	for _, line := range header {
		field, value, _ := strings.Cut(line, ": ")
		r.Header.Set(field, value)
	}
	a, err := p.send(r)
	if err != nil {
		p.t.Fatal(err)
	}
	return a
}

// Values of package limits.
const guessBurst, noveltyBurst = 10, 60

func TestRequestsAreLimited(t *testing.T) {
	p := start(t, "-https=false", "-rate", "1", "-burst", "5", "-cors")
	last := response{}
	for i := range 6 {
		last = p.requestAs("", "", "/ice", "Origin: https://site.example", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: cors")
		if i < 5 && last.status != http.StatusOK {
			t.Fatalf("request %d: got %d, want 200", i, last.status)
		}
	}
	if last.status != http.StatusTooManyRequests || !strings.Contains(last.body, "rate-limited") {
		t.Errorf("got %d %q, want 429 with a problem document", last.status, last.body)
	}
	for _, name := range []string{"Retry-After", "RateLimit", "RateLimit-Policy", "Access-Control-Allow-Origin"} {
		if last.header.Get(name) == "" {
			t.Errorf("got no %s in %v", name, last.header)
		}
	}
	if a := p.request("GET", "/healthz", "", ""); a.status != http.StatusOK {
		t.Errorf("health check from loopback: got %d, want 200", a.status)
	}
}

func TestPagesAreRateLimited(t *testing.T) {
	p := start(t, "-https=false", "-rate", "1", "-burst", "2")
	for _, want := range []int{200, 200, 429} {
		if a := p.request("GET", "/", "", ""); a.status != want {
			t.Errorf("got %d, want %d", a.status, want)
		}
	}
}

func TestSmallBurstWarning(t *testing.T) {
	for _, row := range []struct {
		args string
		want bool
	}{
		{"-burst 23", true}, {"-burst 24", false}, {"-burst 1 -rate 0", false}, {"-burst 1 -rate-dry-run", false},
	} {
		p := start(t, strings.Fields("-https=false "+row.args)...)
		if got := strings.Contains(p.log.String(), "level=WARN msg=\"-burst is too low"); got != row.want {
			t.Errorf("%s: warning logged: %t, want %t:\n%s", row.args, got, row.want, p.log)
		}
	}
}

func TestDryRunRefusesNothing(t *testing.T) {
	p := start(t, "-https=false", "-rate", "1", "-burst", "1", "-conn-rate", "1", "-max-conns-per-ip", "1", "-rate-dry-run")
	for range 20 {
		if a := p.request("GET", "/ice", "", ""); a.status != http.StatusOK {
			t.Fatalf("got %d, want 200", a.status)
		}
	}
	for began := time.Now(); !strings.Contains(p.log.String(), "nothing refused\" requests="); time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > 10*time.Second {
			t.Fatalf("the log does not report what would have been rejected:\n%s", p.log)
		}
	}
}

// TestGuessingIsLimited checks that one address can try ten passwords. The owner, known
// from another address, is not locked out.
func TestGuessingIsLimited(t *testing.T) {
	p := start(t, "-https=false", "-trusted-proxies", "127.0.0.1")
	from := func(addr, password string) int {
		return p.requestAs("bob", password, "/inbox?wait=0", "X-Forwarded-For: "+addr).status
	}
	if got := from("192.0.2.1", "builder"); got != 204 {
		t.Fatalf("owner: got %d, want 204", got)
	}
	for i := range 15 {
		want := 401
		if i >= guessBurst {
			want = 429
		}
		if got := from("198.51.100.1", "guess"+strconv.Itoa(i)); got != want {
			t.Errorf("guess %d: got %d, want %d", i, got, want)
		}
	}
	for _, row := range []struct {
		client, addr, password string
		want                   int
	}{
		{"the guesser with the right password", "198.51.100.1", "builder", 429},
		{"a guesser at another address", "198.51.100.2", "guess", 429},
		{"the owner", "192.0.2.1", "builder", 204},
	} {
		if got := from(row.addr, row.password); got != row.want {
			t.Errorf("%s: got %d, want %d", row.client, got, row.want)
		}
	}
}

func TestNewNamesAndMissesAreLimited(t *testing.T) {
	p := start(t, "-https=false")
	for i := range noveltyBurst + 1 {
		want := 204
		if i == noveltyBurst {
			want = 429
		}
		if a := p.request("GET", "/inbox?wait=0", fmt.Sprint("peer", i), ""); a.status != want {
			t.Errorf("name %d: got %d, want %d", i, a.status, want)
		}
	}
	if a := p.request("GET", "/inbox?wait=0", "peer0", ""); a.status != 204 {
		t.Errorf("a claimed name: got %d, want 204", a.status)
	}
	for i := range noveltyBurst + 1 {
		want := 404
		if i == noveltyBurst {
			want = 429
		}
		if a := p.request("POST", "/inbox?to=nobody", "peer0", "hello"); a.status != want {
			t.Errorf("miss %d: got %d, want %d", i, a.status, want)
		}
	}
	if a := p.request("POST", "/inbox?to=peer1", "peer0", "hello"); a.status != 429 {
		t.Errorf("a hit after the misses: got %d, want 429, so that it looks like a miss", a.status)
	}
}

func TestHeldPollsAreLimited(t *testing.T) {
	p := start(t, "-https=false", "-max-conns-per-ip", "3")
	var conns []net.Conn
	for i := range 2 {
		c := p.dial()
		fmt.Fprintf(c, "GET /inbox HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\n\r\n", "Basic "+base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "peer%d:x", i)))
		conns = append(conns, c)
	}
	third := p.dial()
	fmt.Fprint(third, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	if line, _ := bufio.NewReader(third).ReadString('\n'); !strings.Contains(line, "200") {
		t.Errorf("third connection: got %q, want 200", line)
	}
	fourth := p.dial()
	fourth.SetDeadline(time.Now().Add(5 * time.Second))
	if n, err := fourth.Read(make([]byte, 1)); err != io.EOF && n == 0 && !strings.Contains(fmt.Sprint(err), "reset") {
		t.Errorf("fourth connection: got %v, want it closed", err)
	}
	for _, c := range conns {
		c.Close()
	}
}

func TestAutomaticSizes(t *testing.T) {
	const gib = 1 << 30
	for _, row := range []struct {
		name                    string
		args                    []string
		memory, files           int64
		maxMemory, queued, conn int64
	}{
		{"a VPS", nil, gib, 1 << 20, gib / 4 * 3, 256 << 20, 4096},
		{"a small one", nil, gib / 2, 1 << 20, gib / 8 * 3, 128 << 20, 2048},
		{"few files", nil, gib, 2048, gib / 4 * 3, 256 << 20, 2048 - 64 - limits.MaxTarpittedConns},
		{"unknown", nil, 0, 0, 0, 256 << 20, 1 << 20},
		{"given", []string{"-max-memory", "1000", "-max-conns", "7", "-max-queued-bytes", "0"}, gib, 1 << 20, 1000, 0, 7},
		{"none", []string{"-max-memory", "0", "-max-conns", "0"}, gib, 1 << 20, 0, 256 << 20, 0},
	} {
		c, err := parse(row.args, nil)
		if err != nil {
			t.Fatal(err)
		}
		c.resolveAuto(row.memory, row.files)
		if c.maxMemory != row.maxMemory || c.maxQueuedBytes != row.queued || c.maxConns != row.conn {
			t.Errorf("%s: got %d, %d, %d, want %d, %d, %d", row.name, c.maxMemory, c.maxQueuedBytes, c.maxConns, row.maxMemory, row.queued, row.conn)
		}
	}
}

// TestMemoryIsLimited checks that -max-memory sets the runtime's memory limit.
func TestMemoryIsLimited(t *testing.T) {
	before, percent := debug.SetMemoryLimit(-1), debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetMemoryLimit(before); debug.SetGCPercent(percent) })
	t.Setenv("GOMEMLIMIT", "")
	const limit int64 = 123 << 30
	start(t, "-max-memory", fmt.Sprint(limit))
	if got := debug.SetMemoryLimit(-1); got != limit {
		t.Errorf("got a runtime limit of %d bytes, want %d", got, limit)
	}
}

// newDomainServer builds a server with -domain that is not serving.
func newDomainServer(t *testing.T, args ...string) *server {
	t.Helper()
	c, err := parse(append([]string{
		"-domain", "a.example", "-acme-agree", "-acme-ca", "https://127.0.0.1:1/directory", "-bind", "127.0.0.1:0", "-http-bind", "127.0.0.1:0",
		"-state", t.TempDir(),
	}, args...), nil)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	ls, err := listenAll(c, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ls.close)
	srv, err := newServer(c, process{stderr: io.Discard, timeouts: defaultTimeouts()}, ls, log)
	if err != nil {
		t.Fatal(err)
	}
	return srv
}

// TestEveryResponseIsRateLimited checks responses of the layers in front of pages and
// mailboxes.
func TestEveryResponseIsRateLimited(t *testing.T) {
	srv := newDomainServer(t, "-rate", "1", "-burst", "2")
	for i, row := range []struct {
		name    string
		handler http.Handler
		request string
		status  int
	}{
		{"another host", srv.mainServer.Handler, "GET / HTTP/1.1\r\nHost: other.example\r\n\r\n", 421},
		{"another host on port 80", srv.redirectServer.Handler, "GET / HTTP/1.1\r\nHost: other.example\r\n\r\n", 421},
		{"redirect to HTTPS", srv.redirectServer.Handler, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", 308},
		{"an unknown token", srv.redirectServer.Handler, "GET /.well-known/acme-challenge/x HTTP/1.1\r\nHost: a.example\r\n\r\n", 404},
		{"a large header", srv.mainServer.Handler, "GET / HTTP/1.1\r\nHost: a.example\r\nX: " + strings.Repeat("x", 17<<10) + "\r\n\r\n", 431},
		{"health check from another address", srv.mainServer.Handler, "GET /healthz HTTP/1.1\r\nHost: a.example\r\n\r\n", 200},
		{"an unknown method", srv.mainServer.Handler, "BREW /inbox HTTP/1.1\r\nHost: a.example\r\n\r\n", 405},
	} {
		for _, want := range []int{row.status, row.status, 429} {
			r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(row.request)))
			if err != nil {
				t.Fatal(err)
			}
			r.RemoteAddr = fmt.Sprintf("192.0.2.%d:1", i)
			w := httptest.NewRecorder()
			row.handler.ServeHTTP(w, r)
			if w.Code != want {
				t.Errorf("%s: got %d, want %d", row.name, w.Code, want)
			}
		}
	}
}

// TestRefusalsAreProblemDocuments checks that refusals before the mailbox handler are problem
// documents, and are counted.
func TestRefusalsAreProblemDocuments(t *testing.T) {
	srv := newDomainServer(t, "-rate", "1", "-burst", "1", "-metrics-bind", "127.0.0.1:0")
	for i, row := range []struct {
		name    string
		handler http.Handler
		host, x string
		status  int
		kind    string
	}{
		{"another host", srv.mainServer.Handler, "other.example", "", 421, "misdirected-request"},
		{"another host on port 80", srv.redirectServer.Handler, "other.example", "", 421, "misdirected-request"},
		{"a large header", srv.mainServer.Handler, "a.example", strings.Repeat("x", 17<<10), 431, "header-too-large"},
		{"too many requests", srv.mainServer.Handler, "a.example", "", 429, "rate-limited"},
	} {
		r := httptest.NewRequest("GET", "/inbox", nil)
		r.Host, r.RemoteAddr = row.host, fmt.Sprintf("192.0.2.%d:1", i)
		r.Header.Set("X", row.x)
		if row.status == http.StatusTooManyRequests {
			row.handler.ServeHTTP(httptest.NewRecorder(), r)
		}
		w := httptest.NewRecorder()
		row.handler.ServeHTTP(w, r)
		var p struct {
			Type, Title, Detail string
			Status              int
		}
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
			t.Errorf("%s: got %q: %v", row.name, w.Body, err)
		}
		if w.Code != row.status || p.Status != row.status || p.Type != "urn:inbox:problem:"+row.kind || p.Title == "" || p.Detail == "" ||
			w.Header().Get("Content-Type") != "application/problem+json" || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: got %d %+v with %v", row.name, w.Code, p, w.Header())
		}
	}
	if got := srv.metricsSources().Refusals()["misdirected-request"]; got != 2 {
		t.Errorf("got %d misdirected requests counted, want 2", got)
	}
	if got := srv.limits.Refused(); got["header"] != 1 || got["requests"] != 1 {
		t.Errorf("got %v counted, want one large header and one request over the rate", got)
	}
}

// TestServerWideOptionsIsRateLimited checks OPTIONS *, which net/http would answer without
// calling the handler.
func TestServerWideOptionsIsRateLimited(t *testing.T) {
	p := start(t, "-https=false", "-rate", "1", "-burst", "2")
	c := p.dial()
	answers := bufio.NewReader(c)
	last := 0
	for range 3 {
		io.WriteString(c, "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
		a, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, a.Body)
		last = a.StatusCode
	}
	if last != http.StatusTooManyRequests {
		t.Errorf("third request: got %d, want 429", last)
	}
}

// TestAbandonedPendingSendsAreMisses checks that a pending send counts as a miss if the
// client disconnects before the 404, as it has also learned that the name is unclaimed.
func TestAbandonedPendingSendsAreMisses(t *testing.T) {
	p := start(t, "-https=false", "-metrics-bind", "127.0.0.1:0")
	p.claim("peer")
	waitHeld := func(want float64) {
		t.Helper()
		for began := time.Now(); p.metricValue("inbox_polls_open") != want; time.Sleep(time.Millisecond) {
			if time.Since(began) > 20*time.Second {
				t.Fatalf("got %v open polls, want %v", p.metricValue("inbox_polls_open"), want)
			}
		}
	}
	for i := range noveltyBurst {
		c := p.dial()
		fmt.Fprintf(c, "POST /inbox?to=nobody%d&wait=20 HTTP/1.1\r\nHost: x\r\n%sContent-Length: 0\r\n\r\n", i, basicAuthHeader("peer"))
		waitHeld(1) // the request is held before it is abandoned
		c.Close()
		waitHeld(0)
	}
	for range 20 {
		a := p.request("POST", "/inbox?to=nobody", "peer", "hello")
		if a.status == http.StatusTooManyRequests && strings.Contains(a.body, `"misses"`) {
			return
		}
		time.Sleep(20 * time.Millisecond) // until the server has detected the last disconnect
	}
	t.Error("abandoned pending sends are not limited as misses")
}
