package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTURNOptions(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(strings.Repeat("ab", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	const acme, proxies = " -domain a.example,b.example -acme-agree", " -trusted-proxies 10.0.0.1"
	store := " -store redis://h -store-key-file " + key
	rows := []struct {
		name, args     string
		on             bool
		host           string
		relay, overTLS bool
	}{
		{"default", "", true, "", true, true},
		{"certificates of a CA", acme, true, "", true, true},
		{"off", "-turn off", false, "", false, false},
		{"plain HTTP", "-https=false", false, "", false, false},
		{"plain HTTP with a name", "-https=false -turn turn.example", true, "turn.example", true, false},
		{"address", "-turn 192.0.2.1", true, "192.0.2.1", true, false},
		{"IPv6", "-turn [2001:DB8::1]", true, "2001:db8::1", true, false},
		{"name", "-turn Turn.Example.", true, "turn.example", true, true},
		{"name of the certificate", "-turn b.example" + acme, true, "b.example", true, true},
		{"name without a certificate", "-turn turn.example" + acme, true, "turn.example", true, false},
		{"international name", "-turn bücher.example", true, "xn--bcher-kva.example", true, true},
		{"proxies", proxies, true, "", true, false},
		{"Unix socket", "-bind unix:/run/x", true, "", true, false},
		{"proxies that pass TLS", proxies + " -proxy-protocol", true, "", true, true},
		{"proxies that pass TLS to a Unix socket", proxies + " -proxy-protocol -bind unix:/run/x", true, "", true, true},
		{"proxies and a name", "-turn b.example" + acme + proxies, true, "b.example", true, false},
		{"certificates for IP addresses", " -domain 192.0.2.1,2001:db8::1 -acme-agree", true, "", true, false},
		{"certificates for an IP address and a name", " -domain 192.0.2.1,a.example -acme-agree", true, "", true, true},
		{"store", store, false, "", false, false},
		{"store, another node", "-turn turn.example" + store, true, "turn.example", false, true},
		{"store, another node with ACME", "-turn turn.example" + store + acme, true, "turn.example", false, true},
		{"store, this node", "-turn b.example" + store + acme, true, "b.example", true, true},
		{"store, an address", "-turn 192.0.2.1" + store + " -https=false", true, "192.0.2.1", false, false},
	}
	for _, row := range rows {
		c := mustResolve(t, Facts{}, strings.Fields(row.args)...)
		if row.on != (c.TURN != nil) || row.on != (c.NoTURN == "") {
			t.Errorf("%s: got %+v and %q, want on %v", row.name, c.TURN, c.NoTURN, row.on)
		}
		if c.TURN == nil {
			continue
		}
		if got := *c.TURN; got.Host != row.host || got.Relay != row.relay || (got.NoTLS == "") != row.overTLS {
			t.Errorf("%s: got %+v, want %+v", row.name, got, row)
		}
	}
}

func TestTURNNeedsName(t *testing.T) {
	for args, want := range map[string]bool{
		"-turn 192.0.2.1": true, "-domain 192.0.2.1 -acme-agree": true, "-turn 192.0.2.1 -https=false": false,
		"-turn 192.0.2.1 -trusted-proxies 10.0.0.1": false, "-turn turn.example -domain a.example -acme-agree": false, "": false,
	} {
		if got := mustResolve(t, Facts{}, strings.Fields(args)...).TURN; got.NeedsName != want {
			t.Errorf("%s: got %+v, want %v", args, got, want)
		}
	}
}

func TestTURNLimits(t *testing.T) {
	c := mustResolve(t, Facts{}).TURN
	if c.RateBits != 0 || c.MonthBytes != 1e12 || c.Bind != (Address{"turn-bind", ":3478", ""}) {
		t.Errorf("got %+v, want no rate, 1000 GB and port 3478", c)
	}
	c = mustResolve(t, Facts{}, "-turn-rate", "5", "-turn-month", "0", "-turn-bind", "192.0.2.1:3479").TURN
	if c.RateBits != 5_000_000 || c.MonthBytes != 0 || c.Bind != (Address{"turn-bind", "192.0.2.1:3479", "command line"}) {
		t.Errorf("got %+v, want 5 Mbit/s, no limit of a month and port 3479", c)
	}
}

func TestTURNNameWithoutCertificate(t *testing.T) {
	c := mustResolve(t, Facts{}, "-turn", "turn.example", "-domain", "a.example", "-acme-agree")
	if len(c.Warnings) != 1 || c.Warnings[0].Name != "-turn" || c.Warnings[0].From != "command line" {
		t.Errorf("got %+v, want a warning of -turn", c.Warnings)
	}
	for _, args := range []string{"", "-turn 192.0.2.1 -domain a.example -acme-agree", "-turn a.example -domain a.example -acme-agree", "-turn turn.example"} {
		if c := mustResolve(t, Facts{}, strings.Fields(args)...); len(c.Warnings) > 0 {
			t.Errorf("%q: got %+v, want no warning", args, c.Warnings)
		}
	}
}

func TestAutomaticTURNWarnsOfNothing(t *testing.T) {
	for _, args := range []string{"-https=false", "-store redis://h"} {
		if c := mustResolve(t, Facts{}, strings.Fields(args)...); len(c.Warnings) > 0 || c.TURN != nil {
			t.Errorf("%q: got %+v and %+v, want neither", args, c.TURN, c.Warnings)
		}
	}
}
