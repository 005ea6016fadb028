package main

import (
	"bytes"
	"net"
	"reflect"
	"strings"
	"testing"

	"inbox/cmd/inbox/internal/logging"
	"inbox/tlsmgr"
	"inbox/tlsmgr/acme"
)

func TestDomainSetsDefaultPorts(t *testing.T) {
	for _, row := range []struct {
		args       []string
		bind, http string
	}{
		{nil, "0.0.0.0:3000", ""},
		{[]string{"-domain", "a.example, b.example"}, ":443", ":80"},
		{[]string{"-domain", "a.example", "-bind", ":8443"}, ":8443", ":80"},
		{[]string{"-domain", "a.example", "-http-bind", ""}, ":443", ""},
		{[]string{"-domain", "a.example", "-http-bind", "127.0.0.1:8080"}, ":443", "127.0.0.1:8080"},
	} {
		c, err := parse(append(row.args, "-acme-agree"), nil)
		if err != nil {
			t.Fatalf("%q: %v", row.args, err)
		}
		if c.bind != row.bind || c.httpBind != row.http {
			t.Errorf("%q: got %q and %q, want %q and %q", row.args, c.bind, c.httpBind, row.bind, row.http)
		}
	}
}

// TestCertificateOptionsReachTLSManager checks that every certificate option, and the
// ports of the listeners, reach the configuration of the certificate manager.
func TestCertificateOptionsReachTLSManager(t *testing.T) {
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	both := listeners{main: port, redirect: port}
	usual := tlsmgr.Config{
		CertFile: "server.crt", KeyFile: "server.key", StateDir: "state", Domains: []string{"a.example"},
		ACME: acme.Config{
			Agreed: true, StagingFirst: true, WaitForAddress: true,
			ListenHost: "127.0.0.1", TLSPort: portOf(port), HTTPPort: portOf(port),
		},
	}
	for _, row := range []struct {
		args      string
		listeners listeners
		want      func(*tlsmgr.Config)
	}{
		{"", both, func(*tlsmgr.Config) {}},
		{"-server-cert c -server-key k", both, func(c *tlsmgr.Config) { c.CertFile, c.KeyFile = "c", "k" }},
		{"-acme autocert -email me@a.example", both, func(c *tlsmgr.Config) { c.ACME.Email = "me@a.example" }},
		{"-acme-ca https://ca/ -acme-root r -acme-eab-kid i -acme-eab-key k", both, func(c *tlsmgr.Config) {
			c.ACME.CA = acme.CA{URL: "https://ca/", RootsFile: "r", EABKeyID: "i", EABKeyFile: "k"}
		}},
		{"-acme-ca2 https://ca/ -acme-ca2-root r -acme-ca2-eab-kid i -acme-ca2-eab-key k", both, func(c *tlsmgr.Config) {
			c.ACME.FallbackCA = acme.CA{URL: "https://ca/", RootsFile: "r", EABKeyID: "i", EABKeyFile: "k"}
		}},
		{"-acme-staging -acme-staging-first=false", both, func(c *tlsmgr.Config) { c.ACME.Staging, c.ACME.StagingFirst = true, false }},
		{"-acme-preflight=false -acme-profile p", both, func(c *tlsmgr.Config) { c.ACME.WaitForAddress, c.ACME.Profile = false, "p" }},
		{"-acme-challenge http-01", both, func(c *tlsmgr.Config) { c.ACME.NoTLS = true }},
		{"-acme-challenge tls-alpn-01", both, func(c *tlsmgr.Config) { c.ACME.NoHTTP = true }},
		{"", listeners{main: port}, func(c *tlsmgr.Config) { c.ACME.NoHTTP, c.ACME.HTTPPort = true, 0 }},
	} {
		c, err := parse(append([]string{"-domain", "a.example", "-acme-agree"}, strings.Fields(row.args)...), nil)
		if err != nil {
			t.Fatalf("%s: %v", row.args, err)
		}
		want := usual
		row.want(&want)
		got := c.tlsmgrConfig("state", row.listeners, nil)
		if engine := reflect.ValueOf(acmeEngines[c.acme.engine]).Pointer(); reflect.ValueOf(got.ACME.Engine).Pointer() != engine {
			t.Errorf("%s: got another engine than %s", row.args, c.acme.engine)
		}
		if got.ACME.Engine = nil; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", row.args, got, want)
		}
	}
}

func TestInvalidDomainOptions(t *testing.T) {
	for _, row := range []struct{ args, says string }{
		{"-domain a.example", "-email"},
		{"-domain a.example -acme-agree -https=false", "-https=false"},
		{"-domain a.example -acme-agree -acme-challenge dns-01", "http-01"},
		{"-domain a.example -acme-agree -acme lego", "certmagic or autocert"},
		{"-domain a.example -acme-agree -http-bind 80", "such as 0.0.0.0:3000"},
		{"-http-bind :80", "-domain"},
	} {
		_, err := parse(strings.Fields(row.args), nil)
		if err == nil || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: got %v, want an error with %q", row.args, err, row.says)
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
		c, err := parse([]string{"-domain", "a.example", "-acme-agree", "-bind", "127.0.0.1:0", "-http-bind", taken.Addr().String()}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !explicit {
			delete(c.from, "http-bind") // as if it were the default
		}
		ls, err := listenAll(c, nil, logging.New(&log, c.level, c.logFormat == "json"))
		switch {
		case explicit && (err == nil || !strings.Contains(err.Error(), "-http-bind")):
			t.Errorf("explicit: got %v, want an error that names the option", err)
		case !explicit && (err != nil || ls.redirect != nil || !strings.Contains(log.String(), "level=WARN")):
			t.Errorf("default: got %v and %q, want a warning", err, log.String())
		}
		if err == nil {
			ls.close()
		}
	}
}
