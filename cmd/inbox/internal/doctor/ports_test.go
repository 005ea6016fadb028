package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"inbox/tlsmgr"
)

// portInUse runs another program with these responses on the port.
func portInUse(secure bool, answer http.HandlerFunc) func(*testEnv) {
	return func(s *testEnv) {
		other := httptest.NewUnstartedServer(answer)
		other.Config.ErrorLog = discardLogger()
		other.TLS = &tls.Config{Certificates: []tls.Certificate{s.root.sign(s.t, validity{}, "www.example.net").Certificate}}
		if secure {
			other.StartTLS()
		} else {
			other.Start()
		}
		s.t.Cleanup(other.Close)
		withoutCA(s)
		s.HTTPS = secure
		s.bindTo(other.Listener.Addr())
	}
}

// withoutCA restricts the checks to those of the machine.
func withoutCA(s *testEnv) { s.Domains, s.ca.down = nil, true }

func respondWith(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// fakeInbox responds like an inbox server, with the given status at /healthz.
func fakeInbox(health int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			w.Header().Set("Location", "https://www.example.net/healthz") // for a redirect
			w.WriteHeader(health)
			return
		}
		w.WriteHeader(http.StatusUnauthorized)
		io.WriteString(w, `{"type":"urn:inbox:problem:unauthorized"}`)
	}
}

// ownedBy sets the name of the program that listens.
func ownedBy(name string, setup func(*testEnv)) func(*testEnv) {
	return func(s *testEnv) {
		setup(s)
		s.findPortOwner = func(string, string) (portOwner, bool) { return portOwner{name, 812}, true }
	}
}

// tlsWithoutCert runs a TLS server without a certificate, like an inbox server
// before its first one.
func tlsWithoutCert(s *testEnv) {
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil },
	})
	if err != nil {
		s.t.Fatal(err)
	}
	other := &http.Server{ErrorLog: discardLogger()}
	go other.Serve(l)
	s.t.Cleanup(func() { other.Close() })
	withoutCA(s)
	s.bindTo(l.Addr())
}

// withProxyProtocol runs a server that requires the PROXY header.
func withProxyProtocol(s *testEnv) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	require := func(proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) { return proxyproto.REQUIRE, nil }
	server := &http.Server{Handler: fakeInbox(http.StatusOK), ErrorLog: discardLogger()}
	go server.Serve(&proxyproto.Listener{Listener: l, ConnPolicy: require})
	s.t.Cleanup(func() { server.Close() })
	withoutCA(s)
	s.HTTPS, s.ProxyProtocol = false, true
	s.bindTo(l.Addr())
}

func TestDoctorChecksPortsInUse(t *testing.T) {
	okEverywhere := respondWith(http.StatusOK, "ok\n")
	runCases(t, []testCase{
		{"another program", portInUse(false, okEverywhere), expect{"ports", Failure, "Another program listens on the address", "-bind"}},
		{"over TLS", portInUse(true, okEverywhere), expect{"ports", Failure, "Another program listens on the address", "-bind"}},
		{"with a name", ownedBy("nginx", portInUse(false, okEverywhere)), expect{"ports", Failure, "The program nginx (process 812)", "Stop that program"}},
		{"named inbox", ownedBy("inbox", portInUse(false, okEverywhere)), expect{"ports", Failure, "The program inbox", "Stop that program"}},
		{"with other problem documents", portInUse(false, respondWith(401, `{"type":"about:blank"}`)), expect{"ports", Failure, "Another program", "Stop that program"}},
		{"that forbids", portInUse(false, respondWith(403, "no entry")), expect{"ports", Failure, "Another program", "Stop that program"}},
		{"plain where TLS should be", func(s *testEnv) { portInUse(false, okEverywhere)(s); s.HTTPS = true },
			expect{"ports", Failure, "Another program", "Stop that program"}},
		{"a healthy inbox", portInUse(true, fakeInbox(http.StatusOK)), expect{"ports", OK, "In use by a running inbox.", ""}},
		{"an inbox behind a proxy", withProxyProtocol, expect{"ports", OK, "In use by a running inbox.", ""}},
		{"an inbox that redirects", portInUse(false, fakeInbox(http.StatusPermanentRedirect)), expect{"ports", OK, "In use by a running inbox.", ""}},
		{"an unhealthy inbox", portInUse(true, fakeInbox(http.StatusServiceUnavailable)), expect{"ports", Warning, "/healthz", "Check its log"}},
		{"no certificate yet", tlsWithoutCert, expect{"ports", Warning, "no certificate for the name", "as root"}},
		{"an inbox without one", ownedBy("inbox", tlsWithoutCert), expect{"ports", OK, "In use by a running inbox (process 812)", ""}},
		{"a socket unit", ownedBy("systemd", tlsWithoutCert), expect{"ports", Warning, "In use by systemd", "inbox.socket"}},
		{"a web server without one", ownedBy("nginx", tlsWithoutCert), expect{"ports", Failure, "nginx (process 812)", "Stop that program"}},
	})
}

// The HTTP listener of a running server is recognized by its name and by another.
func TestDoctorKnowsPort80(t *testing.T) {
	for _, served := range []string{"www.example.net", "mail.example.net"} {
		s := newTestEnv(t)
		port80 := httptest.NewServer(tlsmgr.Redirect(tlsmgr.RedirectConfig{Domains: []string{served}, HTTPSPort: 443, APIPaths: []string{"/inbox"}}))
		t.Cleanup(port80.Close)
		s.listen = net.Listen
		e := &examination{Config: s.Config}
		if f := e.checkPort(t.Context(), "-http-bind", port80.Listener.Addr().String(), false); f.Level != OK || f.Text != "In use by a running inbox." {
			t.Errorf("serving %s: got %+v", served, f)
		}
	}
}

func TestDoctorChecksPorts(t *testing.T) {
	refused := func(err error) func(*testEnv) {
		return func(s *testEnv) {
			withoutCA(s)
			s.HTTPBind = ""
			s.Bind = freePort(s.t)
			s.listen = func(string, string) (net.Listener, error) { return nil, &net.OpError{Op: "listen", Err: err} }
		}
	}
	runCases(t, []testCase{
		{"free", func(*testEnv) {}, expect{"ports", OK, "Available", ""}},
		{"in use, no response", refused(syscall.EADDRINUSE), expect{"ports", Failure, "Another program", "Stop that program"}},
		{"no permission, port free", refused(syscall.EACCES), expect{"ports", Warning, "require CAP_NET_BIND_SERVICE", "cap_net_bind_service"}},
		{"no permission, port in use", func(s *testEnv) {
			portInUse(false, respondWith(http.StatusOK, "ok\n"))(s)
			s.listen = func(string, string) (net.Listener, error) { return nil, syscall.EACCES }
		}, expect{"ports", Failure, "Another program", "Stop that program"}},
		{"no such address", func(s *testEnv) { withoutCA(s); s.listen, s.Bind, s.HTTPBind = net.Listen, "203.0.113.77:0", "" },
			expect{"ports", Failure, "does not have the address", "only the port"}},
		{"no such port", func(s *testEnv) { withoutCA(s); s.listen, s.Bind, s.HTTPBind = net.Listen, "127.0.0.1:99999", "" },
			expect{"ports", Failure, "invalid port", "Correct -bind"}},
		{"ports that CAs do not use", func(s *testEnv) { s.Bind, s.HTTPBind = ":8443", ":8080" },
			expect{"ports", Warning, "port 443 or 80 only", "Forward"}},
		{"ports behind a proxy", func(s *testEnv) { s.Bind, s.HTTPBind, s.ProxyProtocol = ":8443", ":8080", true },
			expect{"ports", OK, "port 443 or 80 of the proxy", ""}},
		{"one port that CAs use", func(s *testEnv) { s.Bind, s.HTTPBind = ":8443", ":http" }, expect{"ports", OK, "Available", ""}},
	})
}

// Both ports are checked.
func TestDoctorLooksAtBothPorts(t *testing.T) {
	other := httptest.NewServer(respondWith(http.StatusOK, "ok\n"))
	defer other.Close()
	s := newTestEnv(t)
	s.HTTPBind = other.Listener.Addr().String()
	s.listen = func(network, address string) (net.Listener, error) {
		if address == ":443" {
			address = "127.0.0.1:0"
		}
		return net.Listen(network, address)
	}
	s.expectFinding(expect{"ports", Failure, "Another program", "disable -http-bind"})
	s.expectOK("ports", "Available")
}

func TestDoctorChecksUnixSockets(t *testing.T) {
	at := func(prepare func(t *testing.T, path string)) func(*testEnv) {
		return func(s *testEnv) {
			withoutCA(s)
			path := filepath.Join(s.t.TempDir(), "s")
			prepare(s.t, path)
			s.HTTPS, s.HTTPBind, s.Bind = false, "", "unix:"+path
		}
	}
	runCases(t, []testCase{
		{"free", at(func(*testing.T, string) {}), expect{"ports", OK, "Available.", ""}},
		{"a file", at(func(t *testing.T, path string) { os.WriteFile(path, nil, 0o600) }), expect{"ports", Failure, "not a socket", "Move the file"}},
		{"below a file", func(s *testEnv) {
			at(func(t *testing.T, path string) { os.WriteFile(path, nil, 0o600) })(s)
			s.Bind += "/socket"
		}, expect{"ports", Failure, "Cannot access the socket", "another path"}},
		{"stale", at(func(t *testing.T, path string) {
			l := listenUnix(t, path)
			l.SetUnlinkOnClose(false)
			l.Close()
		}), expect{"ports", OK, "stale", ""}},
		{"another program", at(func(t *testing.T, path string) {
			go http.Serve(listenUnix(t, path), respondWith(http.StatusOK, "ok\n"))
		}), expect{"ports", Failure, "Another program", "-bind"}},
		{"a running inbox", at(func(t *testing.T, path string) {
			go http.Serve(listenUnix(t, path), fakeInbox(http.StatusOK))
		}), expect{"ports", OK, "In use by a running inbox.", ""}},
	})
}

func listenUnix(t *testing.T, path string) *net.UnixListener {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// freePort returns an unused address.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// An inbox server responds only to its domains. An IP address is not sent as SNI.
func TestDoctorProbesWithDomain(t *testing.T) {
	for domain, want := range map[string]string{"www.example.net": "www.example.net", "2001:db8::1": "[2001:db8::1]", "": "localhost"} {
		asked := make(chan string, 2)
		s := newTestEnv(t)
		portInUse(true, func(w http.ResponseWriter, r *http.Request) {
			asked <- r.Host
			fakeInbox(http.StatusOK)(w, r)
		})(s)
		if domain != "" {
			s.Domains = []string{domain}
		}
		e := &examination{Config: s.Config}
		if f := e.checkPorts(t.Context())[0]; f.Level != OK {
			t.Errorf("%s: got %+v", domain, f)
		}
		if got := <-asked; got != want {
			t.Errorf("got host %q, want %q", got, want)
		}
	}
}

// A program that accepts connections and does not respond does not block the doctor.
func TestDoctorProbeTimesOut(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	e := &examination{Config: Config{}.withDefaults()}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if result := e.probe(ctx, "tcp", silent.Addr().String(), true); result.inbox || !errors.Is(result.err, context.DeadlineExceeded) {
		t.Errorf("got %+v", result)
	}
}

// A server holds its ports and would report itself.
func TestInServerSkipsPorts(t *testing.T) {
	for _, serving := range []bool{false, true} {
		c := Config{Bind: "127.0.0.1:0", HTTPBind: "127.0.0.1:0", StateDir: t.TempDir(), InServer: serving}
		asked := slices.ContainsFunc(c.Examine(t.Context()), func(f Finding) bool { return f.Check == "ports" })
		if asked == serving {
			t.Errorf("in server: %v, ports checked: %v", serving, asked)
		}
	}
}
