package server

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

// localRequest returns a request of a page on this machine. Each change is "Name: value" of a
// field; "Name:" removes it.
func localRequest(changes ...string) *http.Request {
	r := httptest.NewRequest("GET", addressesPath, nil)
	r.Host, r.RemoteAddr = "localhost:3000", "127.0.0.1:50000"
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	r.Header.Set("Sec-Fetch-Mode", "cors")
	for _, line := range changes {
		name, value, _ := strings.Cut(line, ":")
		switch value = strings.TrimSpace(value); {
		case name == "Host":
			r.Host = value
		case name == "Peer":
			r.RemoteAddr = value
		case name == "Proto":
			r.Proto, r.ProtoMajor, r.ProtoMinor = value, int(value[5]-'0'), int(value[7]-'0')
		case value == "":
			r.Header.Del(name)
		default:
			r.Header.Add(name, value)
		}
	}
	return r
}

func TestAddressesAreForLocalPages(t *testing.T) {
	srv := newTestServer(t, "-client-header", "X-My-Client", "-rate", "0", "-metrics-bind", "127.0.0.1:0")
	refused := int64(0)
	for _, row := range []struct {
		name    string
		changes []string
		status  int
	}{
		{"a page on this machine", nil, 200},
		{"under an IPv4 address", []string{"Host: 127.0.0.1:3000"}, 200},
		{"under another loopback address", []string{"Host: 127.1.2.3:3000", "Peer: 127.1.2.3:1"}, 200},
		{"under an IPv6 address", []string{"Host: [::1]:3000", "Peer: [::1]:50000"}, 200},
		{"on the default port", []string{"Host: localhost"}, 200},
		{"on the default port under an IPv6 address", []string{"Host: [::1]"}, 200},
		{"on a dual-stack socket", []string{"Peer: [::ffff:127.0.0.1]:50000"}, 200},
		{"over HTTP/2", []string{"Proto: HTTP/2.0"}, 200},
		{"with its origin", []string{"Origin: http://localhost:3000"}, 200},

		{"another device", []string{"Peer: 192.168.1.7:50000"}, 403},
		{"another device under localhost", []string{"Peer: [fe80::1%eth0]:50000"}, 403},
		{"a Unix socket", []string{"Peer: @"}, 403},
		{"no peer", []string{"Peer:"}, 403},
		{"under the address of the network", []string{"Host: 192.168.1.2:3000"}, 403},
		{"under a name", []string{"Host: chat.example.org"}, 403},
		{"under a name that rebinds", []string{"Host: localhost.example.org:3000"}, 403},
		{"under a name that contains an address", []string{"Host: 127.0.0.1.example.org"}, 403},
		{"under no name", []string{"Host:"}, 403},
		{"another site", []string{"Sec-Fetch-Site:", "Sec-Fetch-Site: cross-site"}, 403},
		{"another port of this machine", []string{"Sec-Fetch-Site:", "Sec-Fetch-Site: same-site"}, 403},
		{"the address bar", []string{"Sec-Fetch-Site:", "Sec-Fetch-Site: none"}, 403},
		{"no browser", []string{"Sec-Fetch-Site:"}, 403},
		{"two fields", []string{"Sec-Fetch-Site: same-origin"}, 403},
		{"another origin", []string{"Origin: http://other.example"}, 403},
		{"an opaque origin", []string{"Origin: null"}, 403},
		{"HTTP/1.0, as nginx speaks it", []string{"Proto: HTTP/1.0"}, 403},
		{"X-Forwarded-For", []string{"X-Forwarded-For: 192.0.2.1"}, 403},
		{"X-Forwarded-Proto", []string{"x-forwarded-proto: https"}, 403},
		{"X-Forwarded-Server", []string{"X-Forwarded-Server: proxy"}, 403},
		{"X-Forwarded", []string{"X-Forwarded: for=192.0.2.1"}, 403},
		{"Forwarded", []string{"Forwarded: for=192.0.2.1"}, 403},
		{"Via", []string{"Via: 1.1 proxy"}, 403},
		{"X-Real-IP", []string{"X-Real-IP: 192.0.2.1"}, 403},
		{"CF-Connecting-IP", []string{"CF-Connecting-IP: 192.0.2.1"}, 403},
		{"the client header", []string{"X-My-Client: 192.0.2.1"}, 403},
	} {
		w := httptest.NewRecorder()
		srv.main.server.Handler.ServeHTTP(w, localRequest(row.changes...))
		if w.Code != row.status {
			t.Errorf("%s: got %d %s, want %d", row.name, w.Code, w.Body, row.status)
		}
		if row.status == http.StatusForbidden {
			refused++
			if !strings.Contains(w.Body.String(), "urn:inbox:problem:local-only") {
				t.Errorf("%s: got %s, want the type local-only", row.name, w.Body)
			}
		}
		if got := srv.refusals()["local-only"]; got != refused {
			t.Errorf("%s: got %d refusals counted, want %d", row.name, got, refused)
		}
	}
}

func TestAddressesBehindProxies(t *testing.T) {
	for _, args := range [][]string{
		{"-trusted-proxies", "192.0.2.0/24"}, {"-trusted-proxies", "127.0.0.1"},
		{"-trusted-proxies", "127.0.0.1", "-proxy-protocol"},
	} {
		w := httptest.NewRecorder()
		newTestServer(t, args...).main.server.Handler.ServeHTTP(w, localRequest())
		if w.Code != http.StatusForbidden {
			t.Errorf("%v: got %d, want 403", args, w.Code)
		}
	}
}

// TestAddressesWithDomain checks that the names of -domain are returned, although a page on this
// machine is not served under localhost.
func TestAddressesWithDomain(t *testing.T) {
	h := newDomainServer(t).main.server.Handler
	for host, want := range map[string]int{"localhost": 200, "127.0.0.1:443": 200, "a.example": 403, "other.example": 421} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, localRequest("Host: "+host))
		if w.Code != want {
			t.Errorf("%s: got %d %s, want %d", host, w.Code, w.Body, want)
		}
		if w.Code == http.StatusOK && !strings.Contains(w.Body.String(), `"host":"a.example"`) {
			t.Errorf("%s: got %s, want the domain", host, w.Body)
		}
	}
	w := httptest.NewRecorder()
	r := localRequest()
	r.URL.Path = "/"
	if h.ServeHTTP(w, r); w.Code != http.StatusMisdirectedRequest {
		t.Errorf("page under localhost: got %d, want 421", w.Code)
	}
}

func TestAddressesResponse(t *testing.T) {
	a := &addresses{
		site: site{scheme: "https", addr: netip.MustParseAddrPort("[::]:3000")},
		network: func() []netip.Addr {
			return []netip.Addr{netip.MustParseAddr("192.168.1.2"), netip.MustParseAddr("2001:db8::7")}
		},
	}
	w := httptest.NewRecorder()
	a.ServeHTTP(w, localRequest())
	const want = `{"addresses":[{"scheme":"https","host":"192.168.1.2","port":3000},{"scheme":"https","host":"[2001:db8::7]","port":3000}]}`
	if got := strings.TrimSpace(w.Body.String()); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
		"Cross-Origin-Resource-Policy": "same-origin",
	} {
		if got := w.Header().Get(name); got != value {
			t.Errorf("%s: got %q, want %q", name, got, value)
		}
	}
	a.site.addr = netip.MustParseAddrPort("127.0.0.1:3000")
	w = httptest.NewRecorder()
	if a.ServeHTTP(w, localRequest()); strings.TrimSpace(w.Body.String()) != `{"addresses":[]}` {
		t.Errorf("on loopback only: got %s, want no address", w.Body)
	}
	r := localRequest()
	r.Method = http.MethodPost
	w = httptest.NewRecorder()
	if a.ServeHTTP(w, r); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: got %d, Allow %q, want 405", w.Code, w.Header().Get("Allow"))
	}
}

func TestAddressOrder(t *testing.T) {
	var addrs, sources []netip.Addr
	for _, s := range strings.Fields("2001:db8::2 172.17.0.1 203.0.113.5 fd00::1 100.64.0.9 192.168.1.2 2001:db8::1") {
		addrs = append(addrs, netip.MustParseAddr(s))
	}
	for _, s := range strings.Fields("192.168.1.2 2001:db8::1") {
		sources = append(sources, netip.MustParseAddr(s))
	}
	sortByUse(addrs, sources)
	const want = "[192.168.1.2 172.17.0.1 203.0.113.5 100.64.0.9 2001:db8::1 fd00::1 2001:db8::2]"
	if got := fmt.Sprint(addrs); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestAddressURL(t *testing.T) {
	for want, a := range map[string]address{
		"https://192.0.2.7":          {"https", "192.0.2.7", 443},
		"http://192.0.2.7":           {"http", "192.0.2.7", 80},
		"https://192.0.2.7:80":       {"https", "192.0.2.7", 80},
		"https://[2001:db8::7]:3000": site{scheme: "https", addr: netip.MustParseAddrPort("[::]:3000")}.at("2001:db8::7"),
		"https://example.org":        site{scheme: "https", addr: netip.MustParseAddrPort("[::]:8443"), names: []string{"example.org"}, inContainer: true}.at("example.org"),
		"https://example.org:8443":   site{scheme: "https", addr: netip.MustParseAddrPort("[::]:8443"), names: []string{"example.org"}}.at("example.org"),
	} {
		if got := a.url(); got != want {
			t.Errorf("%+v: got %s, want %s", a, got, want)
		}
	}
}
