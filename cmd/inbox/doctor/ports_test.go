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

// held is the other program of a row: what it answers.
func held(secure bool, answer http.HandlerFunc) func(*stage) {
	return func(s *stage) {
		other := httptest.NewUnstartedServer(answer)
		other.Config.ErrorLog = quiet()
		other.TLS = &tls.Config{Certificates: []tls.Certificate{s.root.sign(s.t, term{}, "www.example.net").Certificate}}
		if secure {
			other.StartTLS()
		} else {
			other.Start()
		}
		s.t.Cleanup(other.Close)
		withoutCA(s)
		s.HTTPS = secure
		s.listening(other.Listener.Addr())
	}
}

// withoutCA leaves the checks of ports alone with the machine.
func withoutCA(s *stage) { s.Domains, s.ca.down = nil, true }

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// likeInbox answers as an inbox does, with another state of health.
func likeInbox(health int) http.HandlerFunc {
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

// knownAs makes the kernel name the program that listens.
func knownAs(name string, spoil func(*stage)) func(*stage) {
	return func(s *stage) {
		spoil(s)
		s.holder = func(string) (holder, bool) { return holder{name, 812}, true }
	}
}

// nameless is TLS without a certificate for anybody, as an inbox is at first.
func nameless(s *stage) {
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil },
	})
	if err != nil {
		s.t.Fatal(err)
	}
	other := &http.Server{ErrorLog: quiet()}
	go other.Serve(l)
	s.t.Cleanup(func() { other.Close() })
	withoutCA(s)
	s.listening(l.Addr())
}

func TestDoctorFindsInHeldPorts(t *testing.T) {
	fineEverywhere := says(http.StatusOK, "ok\n")
	examineAll(t, []spoiled{
		{"another program", held(false, fineEverywhere), expect{"ports", Failed, "Another program listens there", "-bind"}},
		{"over TLS", held(true, fineEverywhere), expect{"ports", Failed, "Another program listens there", "-bind"}},
		{"with a name", knownAs("nginx", held(false, fineEverywhere)), expect{"ports", Failed, "The program nginx (process 812)", "Stop it"}},
		{"that is called inbox", knownAs("inbox", held(false, fineEverywhere)), expect{"ports", Failed, "The program inbox", "Stop it"}},
		{"with problems of its own", held(false, says(401, `{"type":"about:blank"}`)), expect{"ports", Failed, "Another program", "Stop it"}},
		{"that forbids", held(false, says(403, "no entry")), expect{"ports", Failed, "Another program", "Stop it"}},
		{"plain where TLS should be", func(s *stage) { held(false, fineEverywhere)(s); s.HTTPS = true },
			expect{"ports", Failed, "Another program", "Stop it"}},
		{"a well inbox", held(true, likeInbox(http.StatusOK)), expect{"ports", Fine, "A running inbox", ""}},
		{"an inbox that redirects", held(false, likeInbox(http.StatusPermanentRedirect)), expect{"ports", Fine, "A running inbox", ""}},
		{"an ill inbox", held(true, likeInbox(http.StatusServiceUnavailable)), expect{"ports", Warned, "/healthz", "See its log"}},
		{"no certificate yet", nameless, expect{"ports", Warned, "no certificate for the name", "as root"}},
		{"an inbox without one", knownAs("inbox", nameless), expect{"ports", Fine, "A running inbox (process 812)", ""}},
		{"a socket unit", knownAs("systemd", nameless), expect{"ports", Warned, "systemd listens", "inbox.socket"}},
		{"a web server without one", knownAs("nginx", nameless), expect{"ports", Failed, "nginx (process 812)", "Stop it"}},
	})
}

// TestDoctorKnowsPort80 of the running server, under its name and under another.
func TestDoctorKnowsPort80(t *testing.T) {
	for _, served := range []string{"www.example.net", "mail.example.net"} {
		s := newStage(t)
		port80 := httptest.NewServer(tlsmgr.Redirect([]string{served}, 443))
		t.Cleanup(port80.Close)
		s.listen = net.Listen
		e := &examination{Checkup: s.Checkup}
		if f := e.checkPort(t.Context(), "-http-bind", port80.Listener.Addr().String(), false); f.Level != Fine || f.Text != "A running inbox listens there." {
			t.Errorf("serving %s: got %+v", served, f)
		}
	}
}

func TestDoctorFindsInPorts(t *testing.T) {
	refused := func(err error) func(*stage) {
		return func(s *stage) {
			withoutCA(s)
			s.HTTPBind = ""
			s.Bind = freePort(s.t)
			s.listen = func(string, string) (net.Listener, error) { return nil, &net.OpError{Op: "listen", Err: err} }
		}
	}
	examineAll(t, []spoiled{
		{"free", func(*stage) {}, expect{"ports", Fine, "It is free", ""}},
		{"held in silence", refused(syscall.EADDRINUSE), expect{"ports", Failed, "Another program", "Stop it"}},
		{"no right, and nobody there", refused(syscall.EACCES), expect{"ports", Warned, "need a privilege", "cap_net_bind_service"}},
		{"no right, and somebody there", func(s *stage) {
			held(false, says(http.StatusOK, "ok\n"))(s)
			s.listen = func(string, string) (net.Listener, error) { return nil, syscall.EACCES }
		}, expect{"ports", Failed, "Another program", "Stop it"}},
		{"no such address", func(s *stage) { withoutCA(s); s.listen, s.Bind, s.HTTPBind = net.Listen, "203.0.113.77:0", "" },
			expect{"ports", Failed, "no such address", "only the port"}},
		{"no such port", func(s *stage) { withoutCA(s); s.listen, s.Bind, s.HTTPBind = net.Listen, "127.0.0.1:99999", "" },
			expect{"ports", Failed, "invalid port", "Correct -bind"}},
		{"ports that no CA asks at", func(s *stage) { s.Bind, s.HTTPBind = ":8443", ":8080" },
			expect{"ports", Warned, "port 443 or 80 only", "Forward"}},
		{"one that it asks at", func(s *stage) { s.Bind, s.HTTPBind = ":8443", ":http" }, expect{"ports", Fine, "It is free", ""}},
	})
}

// TestDoctorLooksAtBothPorts: port 80 matters as port 443 does.
func TestDoctorLooksAtBothPorts(t *testing.T) {
	other := httptest.NewServer(says(http.StatusOK, "ok\n"))
	defer other.Close()
	s := newStage(t)
	s.HTTPBind = other.Listener.Addr().String()
	s.listen = func(network, address string) (net.Listener, error) {
		if address == ":443" {
			address = "127.0.0.1:0"
		}
		return net.Listen(network, address)
	}
	s.find(expect{"ports", Failed, "Another program", "switch -http-bind off"})
	s.show("ports", "It is free")
}

func TestDoctorFindsInSockets(t *testing.T) {
	at := func(prepare func(t *testing.T, path string)) func(*stage) {
		return func(s *stage) {
			withoutCA(s)
			path := filepath.Join(s.t.TempDir(), "s")
			prepare(s.t, path)
			s.HTTPS, s.HTTPBind, s.Bind = false, "", "unix:"+path
		}
	}
	examineAll(t, []spoiled{
		{"free", at(func(*testing.T, string) {}), expect{"ports", Fine, "It is free.", ""}},
		{"a file", at(func(t *testing.T, path string) { os.WriteFile(path, nil, 0o600) }), expect{"ports", Failed, "no socket", "Move it away"}},
		{"below a file", func(s *stage) {
			at(func(t *testing.T, path string) { os.WriteFile(path, nil, 0o600) })(s)
			s.Bind += "/socket"
		}, expect{"ports", Failed, "cannot be looked at", "another path"}},
		{"left behind", at(func(t *testing.T, path string) {
			l := listenUnix(t, path)
			l.SetUnlinkOnClose(false)
			l.Close()
		}), expect{"ports", Fine, "nobody listens", ""}},
		{"another program", at(func(t *testing.T, path string) {
			go http.Serve(listenUnix(t, path), says(http.StatusOK, "ok\n"))
		}), expect{"ports", Failed, "Another program", "-bind"}},
		{"a running inbox", at(func(t *testing.T, path string) {
			go http.Serve(listenUnix(t, path), likeInbox(http.StatusOK))
		}), expect{"ports", Fine, "A running inbox", ""}},
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

// TestDoctorAsksUnderItsName: an inbox answers to no other, and an address has no SNI.
func TestDoctorAsksUnderItsName(t *testing.T) {
	for domain, want := range map[string]string{"www.example.net": "www.example.net", "2001:db8::1": "[2001:db8::1]", "": "localhost"} {
		asked := make(chan string, 2)
		s := newStage(t)
		held(true, func(w http.ResponseWriter, r *http.Request) {
			asked <- r.Host
			likeInbox(http.StatusOK)(w, r)
		})(s)
		if domain != "" {
			s.Domains = []string{domain}
		}
		e := &examination{Checkup: s.Checkup}
		if f := e.checkPorts(t.Context())[0]; f.Level != Fine {
			t.Errorf("%s: got %+v", domain, f)
		}
		if got := <-asked; got != want {
			t.Errorf("asked for %q, want %q", got, want)
		}
	}
}

// TestDoctorLeavesSilentPrograms: one that takes connections and says nothing
// does not hold the doctor up.
func TestDoctorLeavesSilentPrograms(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	e := &examination{Checkup: Checkup{}.inTheWorld()}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if said := e.whoIs(ctx, "tcp", silent.Addr().String(), true); said.inbox || !errors.Is(said.err, context.DeadlineExceeded) {
		t.Errorf("got %+v", said)
	}
}

// A server that asks holds its ports, and would warn of itself.
func TestServingAsksNoPorts(t *testing.T) {
	for _, serving := range []bool{false, true} {
		c := Checkup{Bind: "127.0.0.1:0", HTTPBind: "127.0.0.1:0", StateDir: t.TempDir(), Serving: serving}
		asked := slices.ContainsFunc(c.Examine(t.Context()), func(f Finding) bool { return f.Check == "ports" })
		if asked == serving {
			t.Errorf("serving: %v, asked after the ports: %v", serving, asked)
		}
	}
}
