package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// proxies are the reverse proxies of docs/proxy.md. command embeds the documented
// block into a configuration that listens at addr, writes it to dir, and returns the
// command to run.
var proxies = []struct {
	name    string
	command func(t *testing.T, dir, documented, addr string) []string
}{
	{"nginx", func(t *testing.T, dir, documented, addr string) []string {
		writeCertificate(t, dir)
		writeFile(t, dir, "nginx.conf", fmt.Sprintf(`
daemon off;
user root;
pid %[1]s/pid;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	server {
		listen %[2]s ssl http2;
		ssl_certificate %[1]s/crt;
		ssl_certificate_key %[1]s/key;
		%[3]s
	}
}
`, dir, addr, documented))
		return []string{"nginx", "-e", dir + "/error.log", "-p", dir, "-c", dir + "/nginx.conf"}
	}},
	{"Caddy", func(t *testing.T, dir, documented, addr string) []string {
		site := strings.Replace(documented, "example.org {", "https://"+addr+" {\n\ttls internal", 1)
		writeFile(t, dir, "Caddyfile", "{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n}\n"+site)
		return []string{"caddy", "run", "--adapter", "caddyfile", "--config", dir + "/Caddyfile"}
	}},
}

// TestBehindProxies runs the server behind proxies with the configuration in
// docs/proxy.md.
func TestBehindProxies(t *testing.T) {
	for _, proxy := range proxies {
		t.Run(proxy.name, func(t *testing.T) {
			t.Parallel()
			args := strings.Fields(proxyDocBlock(t, "otherwise limits all clients as one:"))
			if len(args) < 2 || args[0] != "inbox" {
				t.Fatalf("got command %q in docs/proxy.md, want inbox with options", args)
			}
			args = append(args[1:], "-bind", "127.0.0.1:0", "-rate", "1", "-burst", "40") // the last -bind wins
			server := startInbox(t, args...)
			dir, addr := t.TempDir(), freeAddr(t)
			block := strings.ReplaceAll(proxyDocBlock(t, proxy.name+":"), "127.0.0.1:3000", server.Addr)
			startProxy(t, dir, addr, proxy.command(t, dir, block, addr))
			url := "https://" + addr

			checkCall(t, url)
			checkLongPolls(t, url)
			t.Run("same-origin page", func(t *testing.T) {
				ask := newRequest(t, "GET", url+"/inbox?wait=0", "page", "")
				ask.Header.Set("Origin", url)
				wantStatus(t, 10, ask, http.StatusNoContent)
				ask = newRequest(t, "GET", url+"/inbox?wait=0", "page", "")
				ask.Header.Set("Origin", "https://other.example")
				wantStatus(t, 10, ask, http.StatusForbidden)
			})
			checkRateLimit(t, url)
		})
	}
}

// TestProxyLogin runs nginx with the login in docs/proxy.md, which protects the pages and
// leaves the mailbox to its own passwords.
func TestProxyLogin(t *testing.T) {
	server := startInbox(t, "-https=false", "-bind", "127.0.0.1:0", "-trusted-proxies", "127.0.0.1")
	nginx := proxies[0]
	dir, addr := t.TempDir(), freeAddr(t)
	writeFile(t, dir, "htpasswd", "staff:{PLAIN}secret\n")
	login := proxyDocBlock(t, "put this before the `location` block:")
	login = strings.ReplaceAll(login, "/etc/nginx/inbox.htpasswd", dir+"/htpasswd")
	block := login + strings.ReplaceAll(proxyDocBlock(t, nginx.name+":"), "127.0.0.1:3000", server.Addr)
	startProxy(t, dir, addr, nginx.command(t, dir, block, addr))
	url := "https://" + addr

	checkCall(t, url)
	for _, path := range []string{"/", "/send.html", "/inbox.js", "/inbox/", "/icecream"} {
		anonymous, err := http.NewRequestWithContext(t.Context(), "GET", url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		wantStatus(t, 10, anonymous, http.StatusUnauthorized)
	}
	for _, path := range []string{"/", "/send.html", "/inbox.js"} {
		staff := newRequest(t, "GET", url+path, "staff", "")
		staff.SetBasicAuth("staff", "secret")
		wantStatus(t, 10, staff, http.StatusOK)
	}
}

// checkCall connects two peers.
func checkCall(t *testing.T, url string) {
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	payload := make([]byte, payloadBytes)
	rand.Read(payload)
	if err := call(ctx, url, 20, payload); err != nil {
		t.Errorf("call: %v", err)
	}
}

// checkLongPolls checks polls that end with a message, with a timeout, and with a
// disconnect of the client, which the proxy must pass on to the server.
func checkLongPolls(t *testing.T, url string) {
	alice := newHTTPClient(30)
	defer alice.CloseIdleConnections()
	began := time.Now()
	wantStatus(t, 30, newRequest(t, "GET", url+"/inbox?wait=2", "alice", ""), http.StatusNoContent)
	if took := time.Since(began); took < 1900*time.Millisecond {
		t.Errorf("the poll waited %v, want 2s", took)
	}
	got := make(chan string, 1)
	go func() {
		resp, err := alice.Do(newRequest(t, "GET", url+"/inbox", "alice", ""))
		if err != nil {
			got <- err.Error()
			return
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		got <- string(text)
	}()
	time.Sleep(300 * time.Millisecond) // until the poll waits; less would only weaken the test
	sent := time.Now()
	wantStatus(t, 31, newRequest(t, "POST", url+"/inbox?to=alice", "bob", "hello"), http.StatusOK)
	if text := <-got; text != "hello" || time.Since(sent) > 2*time.Second {
		t.Errorf("waiting poll: got %q after %v, want hello within two seconds", text, time.Since(sent))
	}

	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if resp, err := alice.Do(newRequest(t, "GET", url+"/inbox", "alice", "").WithContext(ctx)); err == nil {
		resp.Body.Close()
		t.Errorf("canceled poll: got %s, want no response", resp.Status)
	}
	time.Sleep(300 * time.Millisecond) // the proxy closes its connection to the server
	wantStatus(t, 31, newRequest(t, "POST", url+"/inbox?to=alice", "bob", "later"), http.StatusOK)
	if text := wantStatus(t, 30, newRequest(t, "GET", url+"/inbox", "alice", ""), http.StatusOK); text != "later" {
		t.Errorf("after a canceled poll: got %q, want later", text)
	}
}

// checkRateLimit has one client exhaust its budget. It does not get another one with
// forged header fields, and other clients keep theirs.
func checkRateLimit(t *testing.T, url string) {
	client := newHTTPClient(40)
	defer client.CloseIdleConnections()
	limited := false
	for i := 0; i < 60 && !limited; i++ {
		req := newRequest(t, "GET", url+"/robots.txt", "", "")
		req.Header.Set("X-Forwarded-For", fmt.Sprintf("198.51.100.%d", i))
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		limited = resp.StatusCode == http.StatusTooManyRequests
	}
	if !limited {
		t.Error("got no 429 in 60 requests: the proxy does not pass on the client address, or a forged one is trusted")
	}
	for range 10 { // more than an exhausted budget regains meanwhile
		wantStatus(t, 41, newRequest(t, "GET", url+"/robots.txt", "", ""), http.StatusOK)
	}
}

// newRequest creates a request as a peer sends it. The password is derived from the
// name.
func newRequest(t *testing.T, method, url, name, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if name != "" {
		r.SetBasicAuth(name, "secret of "+name)
	}
	return r
}

// wantStatus sends the request from a separate loopback address and returns the body.
func wantStatus(t *testing.T, from int, r *http.Request, want int) string {
	t.Helper()
	client := newHTTPClient(from)
	defer client.CloseIdleConnections()
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != want {
		t.Errorf("%s %s: got %s (%s), %v; want %d", r.Method, r.URL.Path, resp.Status, text, err, want)
	}
	return string(text)
}

func proxyDocBlock(t *testing.T, after string) string {
	t.Helper()
	block, err := DocBlock("../docs/proxy.md", after)
	if err != nil {
		t.Fatal(err)
	}
	return block
}

// startProxy starts the proxy, waits until it listens, and stops it at the end of the
// test.
func startProxy(t *testing.T, dir, addr string, command []string) {
	t.Helper()
	path, err := exec.LookPath(command[0])
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skipf("%s is not installed: run scripts/test install", command[0])
	}
	var output bytes.Buffer
	cmd := exec.Command(path, command[1:]...)
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		<-exited
		if t.Failed() {
			t.Logf("output of %s:\n%s", command[0], output.String())
		}
	})
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(20 * time.Millisecond) {
		// A complete handshake: Caddy creates its certificate after it starts to listen.
		if c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true}); err == nil {
			c.Close()
			return
		}
		select {
		case err := <-exited:
			exited <- err
			t.Fatalf("%s exited: %v\n%s", command[0], err, output.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen after %v", command[0], startTimeout)
		}
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func writeFile(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// writeCertificate writes a self-signed certificate and its key to the files crt and
// key.
func writeCertificate(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"inbox.test"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir, "crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	writeFile(t, dir, "key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
}
