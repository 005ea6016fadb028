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

	"inbox/tlsmgr"
)

// portInUse is the other program of a row: what it answers.
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

// withoutCA leaves the checks of ports alone with the machine.
func withoutCA(s *testEnv) { s.Domains, s.ca.down = nil, true }

func respondWith(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// fakeInbox answers as an inbox does, with another state of health.
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

// ownedBy makes the kernel name the program that listens.
func ownedBy(name string, setup func(*testEnv)) func(*testEnv) {
	return func(s *testEnv) {
		setup(s)
		s.findPortOwner = func(string) (portOwner, bool) { return portOwner{name, 812}, true }
	}
}

// tlsWithoutCert is TLS without a certificate for anybody, as an inbox is at first.
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

func TestDoctorChecksPortsInUse(t *testing.T) {
	okEverywhere := respondWith(http.StatusOK, "ok\n")
	runCases(t, []testCase{
		{"another program", portInUse(false, okEverywhere), expect{"ports", Failure, "Another program listens there", "-bind"}},
		{"over TLS", portInUse(true, okEverywhere), expect{"ports", Failure, "Another program listens there", "-bind"}},
		{"with a name", ownedBy("nginx", portInUse(false, okEverywhere)), expect{"ports", Failure, "The program nginx (process 812)", "Stop it"}},
		{"that is called inbox", ownedBy("inbox", portInUse(false, okEverywhere)), expect{"ports", Failure, "The program inbox", "Stop it"}},
		{"with problems of its own", portInUse(false, respondWith(401, `{"type":"about:blank"}`)), expect{"ports", Failure, "Another program", "Stop it"}},
		{"that forbids", portInUse(false, respondWith(403, "no entry")), expect{"ports", Failure, "Another program", "Stop it"}},
		{"plain where TLS should be", func(s *testEnv) { portInUse(false, okEverywhere)(s); s.HTTPS = true },
			expect{"ports", Failure, "Another program", "Stop it"}},
		{"a well inbox", portInUse(true, fakeInbox(http.StatusOK)), expect{"ports", OK, "A running inbox", ""}},
		{"an inbox that redirects", portInUse(false, fakeInbox(http.StatusPermanentRedirect)), expect{"ports", OK, "A running inbox", ""}},
		{"an ill inbox", portInUse(true, fakeInbox(http.StatusServiceUnavailable)), expect{"ports", Warning, "/healthz", "See its log"}},
		{"no certificate yet", tlsWithoutCert, expect{"ports", Warning, "no certificate for the name", "as root"}},
		{"an inbox without one", ownedBy("inbox", tlsWithoutCert), expect{"ports", OK, "A running inbox (process 812)", ""}},
		{"a socket unit", ownedBy("systemd", tlsWithoutCert), expect{"ports", Warning, "systemd listens", "inbox.socket"}},
		{"a web server without one", ownedBy("nginx", tlsWithoutCert), expect{"ports", Failure, "nginx (process 812)", "Stop it"}},
	})
}

// TestDoctorKnowsPort80 of the running server, under its name and under another.
func TestDoctorKnowsPort80(t *testing.T) {
	for _, served := range []string{"www.example.net", "mail.example.net"} {
		s := newTestEnv(t)
		port80 := httptest.NewServer(tlsmgr.Redirect(tlsmgr.RedirectConfig{Domains: []string{served}, HTTPSPort: 443, APIPaths: []string{"/inbox"}}))
		t.Cleanup(port80.Close)
		s.listen = net.Listen
		e := &examination{Config: s.Config}
		if f := e.checkPort(t.Context(), "-http-bind", port80.Listener.Addr().String(), false); f.Level != OK || f.Text != "A running inbox listens there." {
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
		{"free", func(*testEnv) {}, expect{"ports", OK, "It is free", ""}},
		{"held in silence", refused(syscall.EADDRINUSE), expect{"ports", Failure, "Another program", "Stop it"}},
		{"no right, and nobody there", refused(syscall.EACCES), expect{"ports", Warning, "need a privilege", "cap_net_bind_service"}},
		{"no right, and somebody there", func(s *testEnv) {
			portInUse(false, respondWith(http.StatusOK, "ok\n"))(s)
			s.listen = func(string, string) (net.Listener, error) { return nil, syscall.EACCES }
		}, expect{"ports", Failure, "Another program", "Stop it"}},
		{"no such address", func(s *testEnv) { withoutCA(s); s.listen, s.Bind, s.HTTPBind = net.Listen, "203.0.113.77:0", "" },
			expect{"ports", Failure, "no such address", "only the port"}},
		{"no such port", func(s *testEnv) { withoutCA(s); s.listen, s.Bind, s.HTTPBind = net.Listen, "127.0.0.1:99999", "" },
			expect{"ports", Failure, "invalid port", "Correct -bind"}},
		{"ports that no CA asks at", func(s *testEnv) { s.Bind, s.HTTPBind = ":8443", ":8080" },
			expect{"ports", Warning, "port 443 or 80 only", "Forward"}},
		{"one that it asks at", func(s *testEnv) { s.Bind, s.HTTPBind = ":8443", ":http" }, expect{"ports", OK, "It is free", ""}},
	})
}

// TestDoctorLooksAtBothPorts: port 80 matters as port 443 does.
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
	s.expectFinding(expect{"ports", Failure, "Another program", "switch -http-bind off"})
	s.expectOK("ports", "It is free")
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
		{"free", at(func(*testing.T, string) {}), expect{"ports", OK, "It is free.", ""}},
		{"a file", at(func(t *testing.T, path string) { os.WriteFile(path, nil, 0o600) }), expect{"ports", Failure, "no socket", "Move it away"}},
		{"below a file", func(s *testEnv) {
			at(func(t *testing.T, path string) { os.WriteFile(path, nil, 0o600) })(s)
			s.Bind += "/socket"
		}, expect{"ports", Failure, "cannot be looked at", "another path"}},
		{"left behind", at(func(t *testing.T, path string) {
			l := listenUnix(t, path)
			l.SetUnlinkOnClose(false)
			l.Close()
		}), expect{"ports", OK, "nobody listens", ""}},
		{"another program", at(func(t *testing.T, path string) {
			go http.Serve(listenUnix(t, path), respondWith(http.StatusOK, "ok\n"))
		}), expect{"ports", Failure, "Another program", "-bind"}},
		{"a running inbox", at(func(t *testing.T, path string) {
			go http.Serve(listenUnix(t, path), fakeInbox(http.StatusOK))
		}), expect{"ports", OK, "A running inbox", ""}},
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

// freePort is an address that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestDoctorProbesWithDomain: an inbox answers to no other, and an address has no SNI.
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
			t.Errorf("asked for %q, want %q", got, want)
		}
	}
}

// TestDoctorProbeTimesOut: one that takes connections and says nothing
// does not hold the doctor up.
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

// A server that asks holds its ports, and would warn of itself.
func TestInServerSkipsPorts(t *testing.T) {
	for _, serving := range []bool{false, true} {
		c := Config{Bind: "127.0.0.1:0", HTTPBind: "127.0.0.1:0", StateDir: t.TempDir(), InServer: serving}
		asked := slices.ContainsFunc(c.Examine(t.Context()), func(f Finding) bool { return f.Check == "ports" })
		if asked == serving {
			t.Errorf("serving: %v, asked after the ports: %v", serving, asked)
		}
	}
}
