package healthcheck

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestBindOf(t *testing.T) {
	const units = `Listen=[::]:443 (Stream)
ActiveState=active
FileDescriptorName=https

Listen=/run/inbox.sock (Stream)
ActiveState=active
FileDescriptorName=http
`
	for _, test := range []struct{ properties, name, want string }{
		{units, "https", "[::]:443"},
		{units, "http", "unix:/run/inbox.sock"},
		{units, "metrics", ""},
		{strings.ReplaceAll(units, "=active", "=inactive"), "https", ""},
		{strings.ReplaceAll(units, "(Stream)", "(Datagram)"), "https", ""},
		{"", "https", ""},
	} {
		if got := bindOf(test.properties, test.name); got != test.want {
			t.Errorf("%s of %q: got %q, want %q", test.name, test.properties, got, test.want)
		}
	}
}

// TestCheckSendsHost checks the request that the server gets.
func TestCheckSendsHost(t *testing.T) {
	for host, want := range map[string]string{"a.example": "a.example", "2001:db8::1": "[2001:db8::1]", "": "localhost"} {
		var got string
		s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Method + " " + r.Host + r.URL.Path }))
		target := Target{Bind: s.Listener.Addr().String(), Host: host, Path: "/healthz"}
		if _, err := target.Check(t.Context()); err != nil || got != "GET "+want+"/healthz" {
			t.Errorf("host %q: got %q and %v", host, got, err)
		}
		s.Close()
	}
}

// TestCheckFails checks servers that answer wrongly, or not at all.
func TestCheckFails(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"503":      func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ok", http.StatusFound) },
	} {
		s := httptest.NewServer(handler)
		if answer, err := (Target{Bind: s.Listener.Addr().String(), Path: "/healthz"}).Check(t.Context()); err == nil {
			t.Errorf("%s: got %q, want an error", name, answer)
		}
		s.Close()
	}
	if _, err := (Target{Bind: "nonsense", Path: "/healthz"}).Check(t.Context()); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("got %v, want an error that names the address", err)
	}
}

// TestCheckTimeout checks that a listener which never answers ends the check.
func TestCheckTimeout(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if answer, err := (Target{Bind: l.Addr().String(), HTTPS: true, Path: "/healthz"}).Check(ctx); err == nil {
		t.Errorf("got %q, want an error", answer)
	}
}
