package recipes

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

// Addresses of the link between the CDN and the server. The documentation trusts the network.
const (
	cdnAddr    = "192.0.2.9"
	originAddr = "192.0.2.1"
)

// cdnConfig makes nginx behave like a CDN: it has a certificate of its own, a cache and buffers,
// sends the name of the site to the server over HTTPS, and names the client in a field.
const cdnConfig = `
map $http_upgrade $cdn_connection {
	default upgrade;
	""      close;
}
proxy_cache_path /var/cache/cdn keys_zone=cdn:1m;
gzip on;
gzip_types *;
proxy_http_version 1.1;
proxy_set_header Host $host;
proxy_set_header CF-Connecting-IP $remote_addr;
proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
proxy_set_header X-Forwarded-Proto $scheme;
proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection $cdn_connection;
proxy_ssl_server_name on;
proxy_ssl_name $host;
proxy_cache cdn;
proxy_read_timeout 100s;
server {
	listen 443 ssl http2;
	ssl_certificate /etc/letsencrypt/live/` + site + `/fullchain.pem;
	ssl_certificate_key /etc/letsencrypt/live/` + site + `/privkey.pem;
	location / { proxy_pass https://` + originAddr + `; }
}
server {
	listen 80;
	location / { proxy_pass http://` + originAddr + `; }
}
`

// TestCDN runs the server behind a stand-in for a CDN. The name of the site leads to the CDN,
// which also passes the challenge of the CA on.
func TestCDN(t *testing.T) {
	t.Parallel()
	cdn, origin := newMachine(t, "cdn", "nginx"), newMachine(t, "origin")
	cdn.must(network.IP("link add wire netns CDN type veth peer name wire netns ORIGIN",
		"-n CDN addr add "+cdnAddr+"/24 dev wire", "-n CDN link set wire up",
		"-n ORIGIN addr add "+originAddr+"/24 dev wire", "-n ORIGIN link set wire up"))
	cdn.startCAFor(origin, cdnAddr)
	cdn.writeCertificate()
	cdn.mkdir("/var/cache")
	cdn.write("/etc/nginx/conf.d/cdn.conf", cdnConfig)
	cdn.startNginx("")

	origin.write("/etc/resolv.conf", "nameserver "+cdnAddr+"\n")
	options := docBlock(t, "CDN", "with the networks that the CDN publishes and its header field:")
	origin.startInbox(options, "INBOX_ACME_CA=https://"+cdnAddr+":14000/dir", "INBOX_ACME_ROOT="+caRoot, limits)
	origin.awaitTLS("Pebble")

	cdn.awaitTLS("proxy")
	cdn.checkMailboxes(keepsCanceledPoll)
	cdn.checkRedirect()
	checkCache(cdn)
	checkClientLimit(origin) // a client that does not come through the CDN
	urls, username, credential := cdn.iceServers("relay")
	if want := strings.Fields(strings.ReplaceAll(stunURL+" "+turnURL, site, "turn.example.org")); !slices.Equal(urls, want) {
		t.Errorf("GET /ice: got %q, want %q", urls, want)
	}
	origin.checkTransport("udp", "3478", username, credential)
}

// checkCache checks that a cache does not answer a request for a mailbox, which has the URL of a
// request for another.
func checkCache(m *machine) {
	m.t.Helper()
	for _, name := range []string{"first", "second"} {
		m.wantStatus(m.client(40), m.request("POST", "/inbox?to="+name, name, "to "+name), http.StatusOK)
		m.wantStatus(m.client(40), m.request("GET", "/inbox?wait=0", "other "+name, ""), http.StatusNoContent)
		if got := m.wantStatus(m.client(40), m.request("GET", "/inbox?wait=0", name, ""), http.StatusOK); got != "to "+name {
			m.t.Errorf("got %q through the cache, want the message to %s", got, name)
		}
	}
}
