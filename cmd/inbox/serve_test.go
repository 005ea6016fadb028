package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestMessageDelivery(t *testing.T) {
	for _, scheme := range []string{"-https=true", "-https=false"} {
		p := start(t, scheme)
		p.claim("alice")
		p.want(http.StatusOK, "POST", "/inbox?to=alice", "bob", "hello")
		got := p.want(http.StatusOK, "GET", "/inbox", "alice", "")
		if got.body != "hello" || got.header.Get("X-From") != "bob" {
			t.Errorf("%s: got %q from %q, want hello from bob", scheme, got.body, got.header.Get("X-From"))
		}
		p.want(http.StatusNoContent, "GET", "/inbox?wait=0", "alice", "")
	}
}

// TestFormContentTypeIsAccepted checks the content type that curl -d sets: any type is
// accepted.
func TestFormContentTypeIsAccepted(t *testing.T) {
	p := start(t)
	p.claim("alice")
	r, _ := http.NewRequest("POST", p.url+"/inbox?to=alice", strings.NewReader("hello"))
	r.SetBasicAuth("bob", "secret")
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if a, err := p.send(r); err != nil || a.status != http.StatusOK {
		t.Fatalf("POST: %v, %v", a, err)
	}
	if got := p.request("GET", "/inbox", "alice", ""); got.body != "hello" {
		t.Errorf("got %q, want hello", got.body)
	}
}

// TestConcurrentFirstRequests covers a crash of the original program, which wrote to a map
// concurrently.
func TestConcurrentFirstRequests(t *testing.T) {
	p := start(t, "-https=false", "-rate", "0") // more new names than one address can claim at once
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			name := fmt.Sprintf("peer%d", i)
			if a, err := p.tryRequest("GET", "/inbox?wait=0", name, ""); err != nil || a.status != http.StatusNoContent {
				t.Errorf("%s: %v, %v", name, a.status, err)
			}
		})
	}
	all.Wait()
}

func TestProtocols(t *testing.T) {
	p := start(t)
	if got := p.want(http.StatusOK, "GET", "/healthz", "", ""); got.proto != "HTTP/2.0" {
		t.Errorf("HTTPS: got %s, want HTTP/2.0", got.proto)
	}
	plain := start(t, "-https=false")
	if got := plain.want(http.StatusOK, "GET", "/healthz", "", ""); got.proto != "HTTP/1.1" || got.body != "ok\n" {
		t.Errorf("plain HTTP: got %s %q, want HTTP/1.1 and ok", got.proto, got.body)
	}
}

func TestPages(t *testing.T) {
	mine, source, empty := t.TempDir(), t.TempDir(), t.TempDir()
	for _, dir := range []string{mine, source} {
		if err := os.MkdirAll(filepath.Join(dir, "public"), 0o755); err != nil {
			t.Fatal(err)
		}
		page := filepath.Join(dir, "public", "index.html")
		writeFile(t, page, "my own page")
		if err := os.Chmod(page, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(source, "public", "public.go"), "package public")
	for _, tt := range []struct {
		name, dir string
		args      []string
		own       bool
	}{
		{"no directory", empty, nil, false},
		{"a directory of that name", mine, nil, true},
		{"this program's source", source, nil, false},
		{"this program's source, explicit", source, []string{"-public", "public"}, true},
		{"built-in pages, explicit", mine, []string{"-public="}, false},
		{"another directory", empty, []string{"-public", filepath.Join(mine, "public")}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(tt.dir)
			p := start(t, tt.args...)
			got := p.want(http.StatusOK, "GET", "/", "", "")
			if own := got.body == "my own page"; own != tt.own {
				t.Errorf("serves the directory: %v, want %v", own, tt.own)
			}
			if policy := got.header.Get("Content-Security-Policy"); (policy == "") != tt.own {
				t.Errorf("got policy %q, served from the directory: %v", policy, tt.own)
			}
			if !strings.Contains(p.log.String(), "msg=pages") {
				t.Errorf("the log does not name the pages:\n%s", p.log)
			}
		})
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestStartErrors(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "server.crt"), "not a certificate")
	writeFile(t, filepath.Join(dir, "secret"), "short")
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"port taken", []string{"-bind", taken.Addr().String()}, "choose another port with -bind"},
		{"no such address", []string{"-bind", "192.0.2.99:0"}, "cannot bind 192.0.2.99:0: this machine does not have that address"},
		{"pages missing", []string{"-public", filepath.Join(dir, "none")}, "-public"},
		{"unusable files", []string{"-server-cert", filepath.Join(dir, "server.crt")}, "fix the files"},
		{"damaged secret", []string{"-state", dir}, "remove the file to generate a new secret"},
	} {
		args := append([]string{"-bind", "127.0.0.1:0", "-state", t.TempDir()}, tt.args...)
		code, _, stderr := runOnce(t, nil, args...)
		if code != exitFailure || !strings.Contains(stderr, "inbox: ") || !strings.Contains(stderr, tt.want) {
			t.Errorf("%s: exit code %d, want 1 and %q:\n%s", tt.name, code, tt.want, stderr)
		}
	}
}

// TestPermissionErrorsNameUser constructs the error, as root is never denied access.
func TestPermissionErrorsNameUser(t *testing.T) {
	refused := fmt.Errorf("read key: %w", &fs.PathError{Op: "open", Path: "/cert/server.key", Err: fs.ErrPermission})
	if got, want := addUserHint(refused).Error(), fmt.Sprintf("permission denied; the server runs as user %d, which needs access: chown %[1]d /cert/server.key", os.Geteuid()); !strings.Contains(got, want) {
		t.Errorf("got %q, want it to contain %q", got, want)
	}
	for _, other := range []error{errors.New("full"), &fs.PathError{Op: "open", Path: "/cert/server.key", Err: fs.ErrNotExist}} {
		if got := addUserHint(other); got != other {
			t.Errorf("got %v, want it unchanged", got)
		}
	}
}

func TestMailboxOptions(t *testing.T) {
	t.Run("inbox-timeout", func(t *testing.T) {
		t.Parallel()
		p := start(t, "-inbox-timeout", "1")
		p.claim("alice")
		p.want(http.StatusOK, "POST", "/inbox?to=alice", "bob", "x")
		for deadline := time.Now().Add(10 * time.Second); p.request("POST", "/inbox?to=alice", "bob", "x").status != http.StatusNotFound; {
			if time.Now().After(deadline) {
				t.Fatal("the inbox did not expire")
			}
		}
	})
	t.Run("inbox-capacity", func(t *testing.T) {
		p := start(t, "-inbox-capacity", "2")
		p.claim("alice")
		for _, status := range []int{200, 200, 503} {
			p.want(status, "POST", "/inbox?to=alice", "bob", "x")
		}
	})
	t.Run("long-polling", func(t *testing.T) {
		t.Parallel()
		p := start(t, "-long-polling=false")
		began := time.Now()
		p.want(http.StatusNoContent, "GET", "/inbox", "alice", "")
		p.want(http.StatusNoContent, "GET", "/inbox?wait=20", "alice", "")
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("two empty polls took %v", took)
		}
	})
	t.Run("poll-timeout", func(t *testing.T) {
		t.Parallel()
		p := start(t, "-poll-timeout", "1")
		began := time.Now()
		p.want(http.StatusNoContent, "GET", "/inbox", "alice", "")
		if took := time.Since(began); took < time.Second || took > 20*time.Second {
			t.Errorf("an empty poll took %v, want a second", took)
		}
	})
}

func TestLimitOptions(t *testing.T) {
	big := strings.Repeat("x", 600)
	for _, tt := range []struct {
		option string
		first  int // status of the largest allowed request
		then   int
		kind   string
		ask    func(p *program) (allowed, refused response)
	}{
		{"-max-body-size=600", 200, 413, "body-too-large", func(p *program) (response, response) {
			return p.request("POST", "/inbox?to=alice", "bob", big), p.request("POST", "/inbox?to=alice", "bob", big+"x")
		}},
		{"-max-inboxes=2", 204, 503, "too-many-inboxes", func(p *program) (response, response) {
			return p.request("GET", "/inbox?wait=0", "bob", ""), p.request("GET", "/inbox?wait=0", "carol", "")
		}},
		{"-max-inboxes-per-ip=2", 204, 429, "payer-full", func(p *program) (response, response) {
			return p.request("GET", "/inbox?wait=0", "bob", ""), p.request("GET", "/inbox?wait=0", "carol", "")
		}},
		{"-max-queued-bytes=1600 -max-body-size=600", 200, 503, "server-full", func(p *program) (response, response) {
			return p.request("POST", "/inbox?to=alice", "bob", big), fill(p, big)
		}},
		{"-max-queued-bytes-per-ip=1600 -max-body-size=600", 200, 429, "payer-full", func(p *program) (response, response) {
			return p.request("POST", "/inbox?to=alice", "bob", big), fill(p, big)
		}},
	} {
		t.Run(tt.option, func(t *testing.T) {
			p := start(t, strings.Fields(tt.option)...)
			p.claim("alice")
			allowed, refused := tt.ask(p)
			if allowed.status != tt.first || refused.status != tt.then {
				t.Errorf("status %d, then %d; want %d, then %d", allowed.status, refused.status, tt.first, tt.then)
			}
			if want := "urn:inbox:problem:" + tt.kind; !strings.Contains(refused.body, want) {
				t.Errorf("got problem %s, want %s", refused.body, want)
			}
		})
	}
}

// fill posts until a post is refused.
func fill(p *program, body string) (a response) {
	for range 10 {
		if a = p.request("POST", "/inbox?to=alice", "bob", body); a.status != http.StatusOK {
			return a
		}
	}
	return a
}

func TestCORSOptions(t *testing.T) {
	for _, tt := range []struct {
		args   []string
		origin string
		allow  string
		status int
	}{
		{nil, "https://other.example", "", 403},
		{[]string{"-cors"}, "https://other.example", "*", 204},
		{[]string{"-cors-origins", "https://a.example, https://b.example"}, "https://b.example", "https://b.example", 204},
		{[]string{"-cors-origins", "https://a.example,https://b.example"}, "https://other.example", "", 403},
	} {
		p := start(t, tt.args...)
		r, _ := http.NewRequest("GET", p.url+"/inbox?wait=0", nil)
		r.SetBasicAuth("alice", "secret")
		r.Header.Set("Origin", tt.origin)
		a, err := p.send(r)
		if err != nil || a.status != tt.status || a.header.Get("Access-Control-Allow-Origin") != tt.allow {
			t.Errorf("%v from %s: %v, status %d, allowed %q; want %d, %q", tt.args, tt.origin, err, a.status,
				a.header.Get("Access-Control-Allow-Origin"), tt.status, tt.allow)
		}
	}
}

// Pages of allowed origins import the modules and read refusals of them.
func TestCORSOfModules(t *testing.T) {
	own := t.TempDir()
	writeFile(t, filepath.Join(own, "app.js"), "let a")
	if err := os.Chmod(filepath.Join(own, "app.js"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		args  []string
		path  string
		allow string
		vary  bool // by origin
	}{
		{"no option", nil, "/inbox.js", "", false},
		{"any origin", []string{"-cors"}, "/inbox.js", "*", false},
		{"any origin, imported", []string{"-cors"}, "/codec.js", "*", false},
		{"any origin, missing", []string{"-cors"}, "/missing.js", "*", false},
		{"any origin, a page", []string{"-cors"}, "/send.html", "", false},
		{"listed", []string{"-cors-origins", "https://a.example,https://b.example"}, "/peer.js", "https://b.example", true},
		{"not listed", []string{"-cors-origins", "https://a.example"}, "/peer.js", "", true},
		{"any origin, a directory", []string{"-cors", "-public", own}, "/app.js", "*", false},
	} {
		p := start(t, tt.args...)
		got := p.requestAs("", "", tt.path, "Origin: https://b.example", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: cors")
		allow, vary := got.header.Get("Access-Control-Allow-Origin"), got.header.Values("Vary")
		if allow != tt.allow || slices.Contains(vary, "Origin") != tt.vary {
			t.Errorf("%s: got Access-Control-Allow-Origin %q and Vary %q, want %q and Origin in it: %t", tt.name, allow, vary, tt.allow, tt.vary)
		}
	}
	p := start(t, "-cors", "-rate", "1", "-burst", "2")
	var refused response
	for range 10 {
		if refused = p.requestAs("", "", "/inbox.js", "Origin: https://b.example"); refused.status == http.StatusTooManyRequests {
			break
		}
	}
	if got := refused.header.Get("Access-Control-Allow-Origin"); refused.status != http.StatusTooManyRequests || got != "*" {
		t.Errorf("got status %d and Access-Control-Allow-Origin %q, want 429 and *", refused.status, got)
	}
}

// Over HTTP/1.1 and HTTP/2, pages have no ranges and files have at most one.
func TestPageRanges(t *testing.T) {
	own := t.TempDir()
	writeFile(t, filepath.Join(own, "digits.txt"), "0123456789")
	if err := os.Chmod(filepath.Join(own, "digits.txt"), 0o644); err != nil {
		t.Fatal(err)
	}
	many := "Range: bytes=0-0" + strings.Repeat(",1-1", 3000)
	for _, args := range [][]string{nil, {"-https=false"}} {
		p := start(t, args...)
		for _, field := range []string{"Range: bytes=0-9", many} {
			if got := p.requestAs("", "", "/style.css", field); got.status != http.StatusOK || len(got.body) < 100 {
				t.Errorf("%v, page, %.20s: got status %d and %d bytes, want 200 and the whole page", args, field, got.status, len(got.body))
			}
		}
		p = start(t, append(args, "-public", own)...)
		if got := p.requestAs("", "", "/digits.txt", many); got.status != http.StatusOK || got.body != "0123456789" {
			t.Errorf("%v, file, many ranges: got status %d and %q, want 200 and the whole file", args, got.status, got.body)
		}
		if got := p.requestAs("", "", "/digits.txt", "Range: bytes=2-3"); got.status != http.StatusPartialContent || got.body != "23" {
			t.Errorf("%v, file, one range: got status %d and %q, want 206 and 23", args, got.status, got.body)
		}
	}
}

func TestICEServers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ice.json")
	writeFile(t, file, `[{"urls": "turn:turn.example", "username": "u", "credential": "c"}]`)
	for _, tt := range []struct{ value, want string }{
		{"", "[]"},
		{"stun:stun.example, stun:stun.example:3479", "stun:stun.example:3479"},
		{file, `"credential":"c"`},
	} {
		p := start(t, "-ice-servers", tt.value)
		got := p.want(http.StatusOK, "GET", "/ice", "alice", "")
		var any map[string]any
		if err := json.Unmarshal([]byte(got.body), &any); err != nil || !strings.Contains(got.body, tt.want) {
			t.Errorf("-ice-servers %q: GET /ice returned %s (%v), want it to contain %s", tt.value, got.body, err, tt.want)
		}
	}
}

func TestConfigFileAndEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "inbox.conf")
	writeFile(t, file, "inbox-capacity 1\n")
	p := start(t, "-config", file)
	p.claim("alice")
	p.want(http.StatusOK, "POST", "/inbox?to=alice", "bob", "x")
	p.want(http.StatusServiceUnavailable, "POST", "/inbox?to=alice", "bob", "x")
}

// TestListeningLine checks the log line that parent processes wait for.
func TestListeningLine(t *testing.T) {
	text := start(t)
	want := fmt.Sprintf("msg=listening addr=%s scheme=https\n", text.addr)
	if !strings.Contains(text.log.String(), want) {
		t.Errorf("no %q in:\n%s", want, text.log)
	}
	if !strings.Contains(text.log.String(), "https://localhost:"+urlPort(text.url)) {
		t.Errorf("the banner lacks the local URL:\n%s", text.log)
	}
	asJSON := start(t, "-log-format", "json")
	asJSON.stop()
	lines := bufio.NewScanner(strings.NewReader(asJSON.log.String()))
	for lines.Scan() {
		var line map[string]any
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Errorf("-log-format json: line %q is not JSON", lines.Text())
		}
	}
}

func urlPort(address string) string {
	u, _ := url.Parse(address)
	return u.Port()
}
