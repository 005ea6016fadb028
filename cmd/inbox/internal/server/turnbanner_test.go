package server

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestRelayIsAnnounced(t *testing.T) {
	certFile, keyFile := writeTestCertificate(t)
	files := "-server-cert " + certFile + " -server-key " + keyFile
	for _, row := range []struct {
		name, args, banner, log string // PORT and HTTPS are the ports
	}{
		{"UDP and TLS", files, "are relayed by this server (STUN and TURN): open UDP port PORT and TCP port HTTPS in the firewall.",
			`msg=relay over="UDP port PORT and TCP port HTTPS"`},
		{"self-signed", "", "open UDP port PORT in the firewall. TURN over TLS is not offered: the certificate is self-signed.",
			`msg=relay over="UDP port PORT" notOverTLS="the certificate is self-signed"`},
		{"proxy", files + " -trusted-proxies 10.0.0.1", "TURN over TLS is not offered: an HTTP proxy cannot pass it (-trusted-proxies).",
			`over="UDP port PORT" notOverTLS="an HTTP proxy cannot pass it (-trusted-proxies)"`},
		{"proxy that passes TLS", files + " -trusted-proxies 10.0.0.1 -proxy-protocol", "open UDP port PORT and the port of HTTPS in the firewall.",
			`msg=relay over="UDP port PORT and the port of HTTPS"`},
		{"plain HTTP with a name", "-https=false -turn turn.example.org", "open UDP port PORT in the firewall. TURN over TLS is not offered: this server does not terminate TLS (-https=false).",
			`over="UDP port PORT" notOverTLS=`},
		{"IP address", files + " -turn 192.0.2.1", "TURN over TLS is not offered: browsers do not use it with an IP address (-turn).", `notOverTLS="browsers do not`},
		{"off", "-turn off", "Calls that find no direct path fail: the relay is off (-turn off).", `msg="no relay" why="-turn off"`},
		{"plain HTTP", "-https=false", "the relay is off (-https=false; -turn NAME turns it on).", `msg="no relay" why="-https=false; -turn NAME turns it on"`},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newRelayServer(t, testProcess(), strings.Fields(row.args)...)
			https := []string{"TCP port HTTPS", fmt.Sprintf("TCP port %d", portOf(s.main.socket))}
			ports := strings.NewReplacer(https...)
			if s.relay != nil {
				ports = strings.NewReplacer(append(https, "PORT", portOfUDP(s))...)
			}
			var log, terminal bytes.Buffer
			s.log, s.process.Stderr = slog.New(slog.NewTextHandler(&log, nil)), &terminal
			s.announce()
			if want := ports.Replace(row.banner); !strings.Contains(strings.ReplaceAll(terminal.String(), "\n", " "), want) {
				t.Errorf("got the banner %s, want %q", terminal.String(), want)
			}
			if want := ports.Replace(row.log); !strings.Contains(log.String(), want) || strings.Count(log.String(), "relay") != 1 {
				t.Errorf("got the log %s, want once %q", log.String(), want)
			}
		})
	}
}

// TestRelayOffers checks what a test cannot bring about.
func TestRelayOffers(t *testing.T) {
	for _, row := range []struct {
		offer       relayOffer
		banner, log string
	}{
		{relayOffer{elsewhere: "turn.example"}, "Calls that find no direct path are relayed by turn.example.", "msg=relay at=turn.example"},
		{relayOffer{ports: []string{"TCP port 443"}}, "open TCP port 443 in the firewall.", `msg=relay over="TCP port 443"`},
		{relayOffer{noTLS: "the certificate is self-signed"}, "fail: the UDP port of the relay cannot be used, and TURN over TLS is not offered: the certificate is self-signed.",
			`msg=relay over=nothing notOverTLS="the certificate is self-signed"`},
	} {
		var log bytes.Buffer
		row.offer.log(slog.New(slog.NewTextHandler(&log, nil)))
		if got := row.offer.String(); !strings.Contains(got, row.banner) || !strings.Contains(log.String(), row.log) {
			t.Errorf("got %q and %s, want %q and %q", got, log.String(), row.banner, row.log)
		}
	}
	if text := (banner{relay: strings.Repeat("word ", 30)}).String(); !strings.Contains(text, "word\nword") {
		t.Errorf("the paragraph is not wrapped:\n%s", text)
	}
}
