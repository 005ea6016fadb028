package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"
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
const guessBurst, newNameBurst = 10, 60

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
	for began := time.Now(); !strings.Contains(p.log.String(), "limits reached in a dry run\" requests="); time.Sleep(20 * time.Millisecond) {
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
	for i := range newNameBurst + 1 {
		want := 204
		if i == newNameBurst {
			want = 429
		}
		if a := p.request("GET", "/inbox?wait=0", fmt.Sprint("peer", i), ""); a.status != want {
			t.Errorf("name %d: got %d, want %d", i, a.status, want)
		}
	}
	if a := p.request("GET", "/inbox?wait=0", "peer0", ""); a.status != 204 {
		t.Errorf("a claimed name: got %d, want 204", a.status)
	}
	for i := range newNameBurst + 1 {
		want := 404
		if i == newNameBurst {
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

// TestWrongCodesAreLimited checks that a code that exists looks like any other after ten wrong
// ones.
func TestWrongCodesAreLimited(t *testing.T) {
	p := start(t, "-https=false")
	p.claim("peer")
	p.claim("code-K7MX2P")
	for i := range guessBurst + 1 {
		want := 404
		if i == guessBurst {
			want = 429
		}
		if a := p.request("POST", fmt.Sprint("/inbox?to=code-", i), "peer", "hello"); a.status != want {
			t.Errorf("wrong code %d: got %d, want %d", i, a.status, want)
		}
	}
	if a := p.request("POST", "/inbox?to=code-K7MX2P", "peer", "hello"); a.status != 429 || !strings.Contains(a.body, `"codes"`) {
		t.Errorf("the right code: got %d %s, want a 429 of the limit codes", a.status, a.body)
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

// TestMemoryIsLimited checks that -max-memory sets the runtime's memory limit, less a sixteenth for
// what the runtime does not count.
func TestMemoryIsLimited(t *testing.T) {
	before, percent := debug.SetMemoryLimit(-1), debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetMemoryLimit(before); debug.SetGCPercent(percent) })
	t.Setenv("GOMEMLIMIT", "")
	const limit int64 = 123 << 30
	start(t, "-max-memory", fmt.Sprint(limit))
	if got := debug.SetMemoryLimit(-1); got != limit/16*15 {
		t.Errorf("got a runtime limit of %d bytes, want %d", got, limit/16*15)
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
	waitPolls := func(want float64) {
		t.Helper()
		for began := time.Now(); p.metricValue("inbox_polls_open") != want; time.Sleep(time.Millisecond) {
			if time.Since(began) > 20*time.Second {
				t.Fatalf("got %v open polls, want %v", p.metricValue("inbox_polls_open"), want)
			}
		}
	}
	for i := range newNameBurst {
		c := p.dial()
		fmt.Fprintf(c, "POST /inbox?to=nobody%d&wait=20 HTTP/1.1\r\nHost: x\r\n%sContent-Length: 0\r\n\r\n", i, basicAuthHeader("peer"))
		waitPolls(1) // the request waits before it is abandoned
		c.Close()
		waitPolls(0)
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
