package server

import (
	"bytes"
	"net"
	"reflect"
	"strings"
	"testing"

	"inbox/cmd/inbox/internal/logging"
	"inbox/cmd/inbox/internal/sdnotify"
	"inbox/tlsmgr"
	"inbox/tlsmgr/acme"
)

// TestCertificateOptionsReachTLSManager checks that every certificate option, and the
// ports of the listeners, reach the configuration of the certificate manager.
func TestCertificateOptionsReachTLSManager(t *testing.T) {
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	both := sockets{main: port, redirect: port}
	usual := tlsmgr.Config{
		CertFile: "server.crt", KeyFile: "server.key", StateDir: "state", Domains: []string{"a.example"},
		ACME: acme.Config{
			Agreed: true, StagingFirst: true, WaitForAddress: true,
			ListenHost: "127.0.0.1", TLSPort: portOf(port), HTTPPort: portOf(port),
		},
	}
	for _, row := range []struct {
		args    string
		sockets sockets
		want    func(*tlsmgr.Config)
	}{
		{"", both, func(*tlsmgr.Config) {}},
		{"-server-cert c -server-key k", both, func(c *tlsmgr.Config) { c.CertFile, c.KeyFile = "c", "k" }},
		{"-acme autocert -email me@a.example", both, func(c *tlsmgr.Config) { c.ACME.Email = "me@a.example" }},
		{"-acme-ca https://ca/ -acme-root r -acme-eab-kid i -acme-eab-key k", both, func(c *tlsmgr.Config) {
			c.ACME.CA = acme.CA{URL: "https://ca/", RootsFile: "r", EABKeyID: "i", EABKeyFile: "k"}
		}},
		{"-acme-fallback-ca https://ca/ -acme-fallback-root r -acme-fallback-eab-kid i -acme-fallback-eab-key k", both, func(c *tlsmgr.Config) {
			c.ACME.FallbackCA = acme.CA{URL: "https://ca/", RootsFile: "r", EABKeyID: "i", EABKeyFile: "k"}
		}},
		{"-acme-staging -acme-staging-first=false", both, func(c *tlsmgr.Config) { c.ACME.Staging, c.ACME.StagingFirst = true, false }},
		{"-acme-preflight=false -acme-profile p", both, func(c *tlsmgr.Config) { c.ACME.WaitForAddress, c.ACME.Profile = false, "p" }},
		{"-acme-challenge http-01", both, func(c *tlsmgr.Config) { c.ACME.NoTLS = true }},
		{"-acme-challenge tls-alpn-01", both, func(c *tlsmgr.Config) { c.ACME.NoHTTP = true }},
		{"", sockets{main: port}, func(c *tlsmgr.Config) { c.ACME.NoHTTP, c.ACME.HTTPPort = true, 0 }},
	} {
		c := resolve(t, append([]string{"-domain", "a.example", "-acme-agree"}, strings.Fields(row.args)...)...)
		want := usual
		row.want(&want)
		got := tlsmgrConfig(c, "state", row.sockets, nil)
		if engine := reflect.ValueOf(acmeEngines[c.ACME.Engine]).Pointer(); reflect.ValueOf(got.ACME.Engine).Pointer() != engine {
			t.Errorf("%s: got another engine than %s", row.args, c.ACME.Engine)
		}
		if got.ACME.Engine = nil; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", row.args, got, want)
		}
	}
}

// TestPort80IsOptional checks that a port in use is a warning for the default -http-bind,
// and an error for an explicit one.
func TestPort80IsOptional(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, explicit := range []bool{false, true} {
		var log bytes.Buffer
		c := resolve(t, "-domain", "a.example", "-acme-agree", "-http-bind", taken.Addr().String())
		if !explicit {
			c.HTTPBind.From = "" // as if it were the default
		}
		s, err := bindAll(c, sdnotify.Sockets{}, logging.New(&log, logging.Options{Level: c.LogLevel, JSON: c.LogJSON}))
		switch {
		case explicit && (err == nil || !strings.Contains(err.Error(), "-http-bind")):
			t.Errorf("explicit: got %v, want an error that names the option", err)
		case !explicit && (err != nil || s.redirect != nil || !strings.Contains(log.String(), "level=WARN")):
			t.Errorf("default: got %v and %q, want a warning", err, log.String())
		}
		if err == nil {
			s.close()
		}
	}
}
