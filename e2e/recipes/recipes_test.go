package recipes

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"inbox/e2e"
)

const (
	envAfter = "In `/etc/inbox/inbox.env`:"
	// upstream is where a proxy that terminates TLS finds the server.
	upstream = "127.0.0.1:3000"
)

// nginxMain is the part of nginx.conf that distributions have. The module is a package of its
// own.
const nginxMain = `%s
user www-data;
daemon off;
pid /run/nginx.pid;
events {}
http {
	access_log off;
	include /etc/nginx/conf.d/*.conf;
}
`

// startNginx starts nginx with the files in its directory. Its main file includes conf.d, and
// what more commands append.
func (m *machine) startNginx(more string) {
	m.t.Helper()
	load := ""
	if more != "" {
		load = "load_module " + streamModule(m.t) + ";"
	}
	m.mkdir("/var/lib/nginx", "/var/log/nginx", "/etc/nginx/conf.d")
	m.write("/etc/nginx/nginx.conf", fmt.Sprintf(nginxMain, load))
	m.runDoc(more)
	m.start("nginx", "-c", "/etc/nginx/nginx.conf", "-e", "stderr")
	m.awaitProxy()
}

// awaitProxy waits until a proxy listens, without which the CA would refuse the first order.
func (m *machine) awaitProxy() {
	m.t.Helper()
	m.eventually("the proxy listens", func() error {
		c, err := m.dial(m.t.Context(), 2, "tcp", "80")
		if err == nil {
			c.Close()
		}
		return err
	})
}

// streamModule returns the path of the module that passes connections on.
func streamModule(t *testing.T) string {
	t.Helper()
	const name = "ngx_stream_module.so"
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	const installed = "/usr/lib/nginx/modules/" + name
	if _, err := os.Stat(installed); err != nil {
		skipOrFail(t, "requires libnginx-mod-stream: run scripts/test install")
	}
	return installed
}

// writeCertificate writes a certificate where the documentation has it, for nginx and HAProxy.
func (m *machine) writeCertificate() {
	m.t.Helper()
	cert, key := certificate(m.t)
	m.write("/etc/letsencrypt/live/"+site+"/fullchain.pem", cert)
	m.write("/etc/letsencrypt/live/"+site+"/privkey.pem", key)
	m.write("/etc/haproxy/certs/site.pem", cert+key)
}

// checkHTTPProxy checks a proxy that terminates TLS, in front of a running server.
func (m *machine) checkHTTPProxy(more ...func(*machine)) {
	m.checkMailboxes(endsCanceledPoll, more...)
	m.checkRelay(stunURL, turnURL)
	m.checkRedirect()
	m.checkDoctor("ok -bind " + upstream + ": In use by a running inbox.")
}

// checkRedirect checks port 80.
func (m *machine) checkRedirect() {
	m.t.Helper()
	r := m.request("GET", "/send.html", "", "")
	r.URL.Scheme = "http"
	resp, err := m.client(18).Do(r)
	m.must(err)
	resp.Body.Close()
	if got := resp.Header.Get("Location"); got != "https://"+site+"/send.html" || resp.StatusCode/100 != 3 {
		m.t.Errorf("port 80: got %s to %q, want a redirect to HTTPS", resp.Status, got)
	}
}

func TestNginx(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "nginx", "nginx")
	m.startInbox(docBlock(t, "nginx", envAfter), limits)
	m.writeCertificate()
	m.write("/etc/nginx/conf.d/inbox.conf", docBlock(t, "nginx", "with the paths of your certificate:"))
	m.startNginx("")
	m.awaitTLS("proxy")
	m.checkHTTPProxy(inBrowser("chromium", "chromium"))
}

// TestNginxLogin runs nginx with the log-in of docs/proxy.md, which protects the pages and leaves
// the mailboxes to their own passwords.
func TestNginxLogin(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "login", "nginx")
	m.startInbox(docBlock(t, "nginx", envAfter))
	m.writeCertificate()
	login, err := e2e.DocBlock("../../docs/proxy.md", "put this before the `location` block:")
	m.must(err)
	m.write("/etc/nginx/inbox.htpasswd", "staff:{PLAIN}secret\n")
	block := docBlock(t, "nginx", "with the paths of your certificate:")
	m.write("/etc/nginx/conf.d/inbox.conf", strings.Replace(block, "location /", login+"location /", 1))
	m.startNginx("")
	m.awaitTLS("proxy")
	checkMessage(m)
	client := m.client(19)
	for path, withLogin := range map[string]int{"/": 200, "/send.html": 200, "/inbox.js": 200, "/inbox/": 0, "/icecream": 0} {
		m.wantStatus(client, m.request("GET", path, "", ""), http.StatusUnauthorized)
		if withLogin > 0 {
			r := m.request("GET", path, "", "")
			r.SetBasicAuth("staff", "secret")
			m.wantStatus(client, r, withLogin)
		}
	}
}

func TestCaddy(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "caddy", "caddy")
	m.startCA()
	m.startInbox(docBlock(t, "Caddy", envAfter), limits)
	ca := "{\n\tadmin off\n\tskip_install_trust\n\tacme_ca " + caURL + "\n\tacme_ca_root " + caRoot + "\n}\n"
	m.write("/etc/caddy/Caddyfile", ca+docBlock(t, "Caddy", "In `/etc/caddy/Caddyfile`:"))
	m.start("caddy", "run", "--adapter", "caddyfile", "--config", "/etc/caddy/Caddyfile")
	m.awaitTLS("Pebble")
	m.checkHTTPProxy(inBrowser("firefox", "firefox-esr"))
}

func TestHAProxyHTTP(t *testing.T) {
	t.Parallel()
	const section = "HAProxy in HTTP mode"
	m := newMachine(t, "haproxy-http", "haproxy")
	m.startInbox(docBlock(t, section, envAfter), limits)
	m.writeCertificate()
	m.startHAProxy(docBlock(t, section, "of your certificates:"))
	m.awaitTLS("proxy")
	m.checkHTTPProxy()
}

// startHAProxy checks the configuration as the documentation says, and starts HAProxy.
func (m *machine) startHAProxy(config string) {
	m.t.Helper()
	const file = "/etc/haproxy/haproxy.cfg"
	m.write(file, "global\n"+config)
	if out := m.run("haproxy", "-c", "-f", file); strings.Contains(out, "WARNING") {
		m.t.Errorf("got warnings about %s:\n%s", file, out)
	}
	m.start("haproxy", "-db", "-f", file)
	m.awaitProxy()
}

// checkPassedTLS checks a proxy that passes TLS on unopened, and another site at the same port.
func (m *machine) checkPassedTLS() {
	m.awaitTLS("Pebble")
	m.checkMailboxes(endsCanceledPoll)
	m.checkRelay(stunURL, turnURL, tlsURL)
	m.checkRedirect()
	m.checkDoctor("ok -bind 127.0.0.1:8443: In use by a running inbox.", "ok TURN over UDP: A packet passed from a relay to another, and back.")
	r := m.request("GET", "/", "", "")
	r.Host = "unknown.example.org"
	m.wantStatus(m.client(18), r, http.StatusMisdirectedRequest)
	r = m.request("GET", "/", "", "")
	r.URL.Host = "www.example.org"
	if got := m.wantStatus(m.client(18), r, http.StatusOK); got != clientNet+"18" {
		m.t.Errorf("the other site sees the client %q, want %s18", got, clientNet)
	}
}

func TestNginxSNI(t *testing.T) {
	t.Parallel()
	const section = "nginx with SNI"
	m := newMachine(t, "nginx-sni", "nginx")
	ca := m.startCA()
	m.writeCertificate()
	m.write("/etc/nginx/stream.conf", docBlock(t, section, "In `/etc/nginx/stream.conf`:"))
	m.write("/etc/nginx/conf.d/inbox.conf", docBlock(t, section, "for visitors that type the name:"))
	m.write("/etc/nginx/conf.d/site.conf", fmt.Sprintf(`server {
		%s
		ssl_certificate /etc/letsencrypt/live/%[2]s/fullchain.pem;
		ssl_certificate_key /etc/letsencrypt/live/%[2]s/privkey.pem;
		default_type text/plain;
		return 200 $remote_addr;
	}`, docBlock(t, section, "`listen 443 ssl;` by:"), site))
	m.startNginx(docBlock(t, section, "outside of `http`:"))
	m.startInbox(docBlock(t, section, envAfter), append(ca, limits)...)
	m.checkPassedTLS()
}

func TestHAProxySNI(t *testing.T) {
	t.Parallel()
	const section = "HAProxy with SNI"
	m := newMachine(t, "haproxy-sni", "haproxy")
	ca := m.startCA()
	m.writeCertificate()
	m.startHAProxy(docBlock(t, section, "of your certificates:") +
		"    http-request return status 200 content-type text/plain lf-string \"%[src]\"\n")
	m.startInbox(docBlock(t, section, envAfter), append(ca, limits)...)
	m.checkPassedTLS()
}
