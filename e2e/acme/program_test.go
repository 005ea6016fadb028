package acme

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"inbox/e2e"
)

// program builds the server binary once, for all tests that run it.
var program = sync.OnceValues(func() (string, error) {
	return e2e.Build(context.Background(), buildDir)
})

// options are those of the program for a name, with certificates from the CA of the rig.
func (r *rig) options(name string) []string {
	return []string{"-domain", name, "-email", "me@example.test", "-state", r.dir,
		"-bind", addrOf(r.tlsPort), "-http-bind", addrOf(r.httpPort), "-acme-ca", r.ca.url(), "-acme-root", r.ca.serverRootFile}
}

// startProgram runs the server for a name.
func (r *rig) startProgram(name string, extraArgs ...string) (stop func()) {
	r.t.Helper()
	path, err := program()
	if err != nil {
		r.t.Fatal(err)
	}
	server, err := e2e.Start(path, append(append(r.options(name), "-acme-preflight=false"), extraArgs...)...)
	if err != nil {
		r.t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		if err := server.Stop(); err != nil {
			r.t.Error(err)
		}
	})
	r.t.Cleanup(stop)
	return stop
}

// httpClient returns a client that trusts the CA.
func (r *rig) httpClient() *http.Client { return (&testServer{t: r.t, rig: r}).client() }

func (r *rig) waitUntilServed(name string) {
	r.t.Helper()
	client := r.httpClient()
	eventually(r.t, 60*time.Second, name+" is served with a certificate of the CA", func() bool {
		resp, err := client.Get(fmt.Sprintf("https://%s:%d/healthz", name, r.tlsPort))
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// A host name and an e-mail address are sufficient to serve HTTPS, as the README says.
func TestProgramObtainsItsCertificate(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"certmagic", "autocert"} {
		t.Run(engine, func(t *testing.T) {
			r, name := newRig(t, pebbleOptions{}), newName()
			r.startProgram(name, "-acme", engine)
			r.waitUntilServed(name)
			https, http := fmt.Sprintf("https://%s:%d", name, r.tlsPort), fmt.Sprintf("http://%s:%d", name, r.httpPort)
			for _, row := range []struct {
				url, host, user string
				status          int
				header, want    string
			}{
				{https + "/", "", "", 200, "Strict-Transport-Security", "max-age=604800"},
				{https + "/inbox?wait=0", "", "bob", 204, "Cache-Control", "no-store"},
				{https + "/", "other.test", "", 421, "", ""},
				{https + "/healthz", "other.test", "", 200, "", ""},
				{http + "/send.html?x=1", "", "", 308, "Location", https + "/send.html?x=1"},
				{http + "/inbox", "", "bob", 403, "", ""},
				{http + "/", "other.test", "", 421, "", ""},
				{http + "/.well-known/acme-challenge/guess", "", "", 404, "", ""},
			} {
				r.wantResponse(row.url, row.host, row.user, row.status, row.header, row.want)
			}
		})
	}
}

// An IP address is sufficient to serve HTTPS.
func TestProgramWithIPAddress(t *testing.T) {
	t.Parallel()
	r := newRig(t, pebbleOptions{profiles: map[string]time.Duration{"shortlived": time.Hour}})
	r.startProgram("127.0.0.1")
	r.waitUntilServed("127.0.0.1")
	https, http := fmt.Sprintf("https://127.0.0.1:%d", r.tlsPort), fmt.Sprintf("http://127.0.0.1:%d", r.httpPort)
	r.wantResponse(https+"/send.html", "", "", 200, "Strict-Transport-Security", "")
	r.wantResponse(https+"/inbox?wait=0", "", "bob", 204, "Cache-Control", "no-store")
	r.wantResponse(http+"/send.html", "", "", 308, "Location", https+"/send.html")
}

func (r *rig) wantResponse(url, host, user string, status int, header, want string) {
	r.t.Helper()
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Host = host
	if user != "" {
		req.SetBasicAuth(user, "password")
	}
	resp, err := r.httpClient().Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != status || header != "" && resp.Header.Get(header) != want {
		r.t.Errorf("%s with host %q: got %d and %v; want %d and %s %q", url, host, resp.StatusCode, resp.Header, status, header, want)
	}
}

// Challenge requests of a pending order are not rate limited: the CA sends three of them,
// with a burst of one request.
func TestChallengesAreNotRateLimited(t *testing.T) {
	t.Parallel()
	r, name := newRig(t, pebbleOptions{}), newName()
	r.startProgram(name, "-acme-challenge", "http-01", "-rate", "1", "-burst", "1")
	r.waitUntilServed(name)
	if got := r.ca.orders(); got != 1 {
		t.Errorf("%d orders, want 1", got)
	}
}

// Contradictory options exit with status 2, a configured port that is in use with 1.
func TestProgramStartFailures(t *testing.T) {
	t.Parallel()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, row := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"-domain", "a.example.test"}, 2, "-email"},
		{[]string{"-domain", "a.example.test", "-https=false", "-acme-agree"}, 2, "-https=false"},
		{[]string{"-domain", "203.0.113.5", "-acme-agree", "-acme", "autocert"}, 2, "autocert does not support the IP address"},
		{[]string{"-domain", "a.example.test", "-acme-agree", "-acme", "autocert", "-acme-profile", "x"}, 2, "profile"},
		{[]string{"-domain", "a.example.test", "-acme-agree", "-acme", "autocert", "-acme-fallback-ca", "https://ca.test/dir"}, 2, "fallback CA"},
		{[]string{"-domain", "https://a.example.test/", "-acme-agree"}, 2, "host name"},
		{[]string{"-http-bind", ":80"}, 2, "-domain"},
		{[]string{"-domain", "a.example.test", "-acme-agree", "-http-bind", taken.Addr().String()}, 1, "-http-bind"},
	} {
		args := append([]string{"-state", t.TempDir(), "-bind", "127.0.0.1:0", "-http-bind", "127.0.0.1:0"}, row.args...)
		if row.args[0] == "-http-bind" {
			args = row.args
		}
		out, err := exec.Command(path, args...).CombinedOutput()
		code := -1
		if exit, ok := err.(*exec.ExitError); ok {
			code = exit.ExitCode()
		}
		if code != row.code || !strings.Contains(string(out), row.says) {
			t.Errorf("%q: got exit code %d and %q; want %d and %q", row.args, code, out, row.code, row.says)
		}
	}
}

// TestTestssl audits the running program with testssl.sh. It ignores the findings about
// revocation, which depends on the CA, the max-age of HSTS, and compression.
func TestTestssl(t *testing.T) {
	t.Parallel()
	testssl, err := exec.LookPath("testssl")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("testssl is not installed (Debian: testssl.sh)")
		}
		t.Skip("needs testssl (Debian: testssl.sh)")
	}
	r, name := newRig(t, pebbleOptions{validity: 90 * 24 * time.Hour}), newName()
	r.startProgram(name, "-rate", "0", "-conn-rate", "0", "-max-conns-per-ip", "0")
	r.waitUntilServed(name)
	roots := filepath.Join(t.TempDir(), "roots.pem")
	issuer := httptest.NewRecorder()
	r.ca.management.ServeHTTP(issuer, httptest.NewRequest("GET", "/roots/0", nil))
	if err := os.WriteFile(roots, issuer.Body.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	report := filepath.Join(t.TempDir(), "report.json")
	ctx, cancel := deadlineContext(t)
	defer cancel()
	// All checks except the browser simulation, which takes long and has no findings.
	audit := exec.CommandContext(ctx, testssl, "--quiet", "--color", "0", "--warnings", "off", "--add-ca", roots,
		"-p", "-s", "-f", "-P", "-S", "-h", "-U",
		"--ip", "127.0.0.1", "--jsonfile", report, fmt.Sprintf("%s:%d", name, r.tlsPort))
	audit.WaitDelay = 10 * time.Second
	out, err := audit.CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("the audit did not finish before the test deadline; increase -timeout:\n%s", out)
	}
	findings := readFindings(t, report)
	if len(findings) < 50 {
		t.Fatalf("got %d findings, want 50 at least: %v\n%s", len(findings), err, out)
	}
	for _, f := range findings {
		switch {
		case f.Severity != "MEDIUM" && f.Severity != "HIGH" && f.Severity != "CRITICAL":
		case f.ID == "cert_revocation":
		case f.ID == "BREACH": // only pages are compressed, and they contain no secrets
		case f.ID == "HSTS_time": // a week, so that an operator can give up HTTPS
		default:
			t.Errorf("%s, %s: %s", f.ID, f.Severity, f.Finding)
		}
	}
}

// deadlineContext ends 30 seconds before the test deadline, which leaves time for the
// report. A fixed timeout would be too short on a busy machine, which takes ten times
// longer.
func deadlineContext(t *testing.T) (context.Context, context.CancelFunc) {
	end, limited := t.Deadline()
	if !limited {
		return context.WithCancel(t.Context())
	}
	return context.WithDeadline(t.Context(), end.Add(-30*time.Second))
}

type auditFinding struct{ ID, Severity, Finding string }

func readFindings(t *testing.T, path string) (findings []auditFinding) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &findings)
	}
	if err != nil {
		t.Fatal(err)
	}
	return findings
}

// A proxy on port 80 redirects the challenge to https, where the server answers it.
func TestChallengeRedirectedToHTTPS(t *testing.T) {
	t.Parallel()
	r, name := newRig(t, pebbleOptions{}), newName()
	proxy, err := net.Listen("tcp", addrOf(r.httpPort))
	if err != nil {
		t.Fatal(err)
	}
	redirect := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		http.Redirect(w, req, fmt.Sprintf("https://%s:%d%s", name, r.tlsPort, req.URL.Path), http.StatusMovedPermanently)
	}), ErrorLog: discardLogger()}
	go redirect.Serve(proxy)
	defer redirect.Close()
	cert, key := writeSelfSigned(t, time.Hour, name) // until there is a better one
	r.startProgram(name, "-acme-challenge", "http-01", "-server-cert", cert, "-server-key", key, "-http-bind", addrOf(freePort(t)))
	r.waitUntilServed(name)
	if got := r.ca.orders(); got != 1 {
		t.Errorf("got %d orders, want 1", got)
	}
}
