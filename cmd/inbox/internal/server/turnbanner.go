package server

import (
	"fmt"
	"log/slog"
	"strings"
)

// relayOffer is how clients reach STUN and TURN, for the log and the banner.
type relayOffer struct {
	off       string   // why there is no relay
	elsewhere string   // the name of the relay, if another server of the store is it
	ports     []string // of the relay, for the firewall
	noTLS     string   // why TURN over TLS is not offered
}

// relayOffer returns what this server offers.
func (s *server) relayOffer() relayOffer {
	r := s.relay
	switch {
	case r == nil:
		return relayOffer{off: s.cfg.NoTURN}
	case r.server == nil:
		return relayOffer{elsewhere: r.cfg.Host}
	}
	o := relayOffer{noTLS: r.noTLS}
	if port := r.udpPort(); port > 0 {
		o.ports = append(o.ports, fmt.Sprintf("UDP port %d", port))
	}
	port := portOf(s.main.socket)
	switch {
	case r.noTLS != "":
	case port > 0 && !s.cfg.ProxyProtocol:
		o.ports = append(o.ports, fmt.Sprintf("TCP port %d", port))
	default: // that of a proxy
		o.ports = append(o.ports, "the port of HTTPS")
	}
	return o
}

// String is a paragraph for the banner.
func (o relayOffer) String() string {
	const without = "Calls that find no direct path fail: "
	const with = "Calls that find no direct path are relayed by "
	switch {
	case o.off != "":
		return without + "the relay is off (" + o.off + ")."
	case o.elsewhere != "":
		return with + o.elsewhere + "."
	case len(o.ports) == 0:
		return without + "the UDP port of the relay cannot be used, and TURN over TLS is not offered: " + o.noTLS + "."
	}
	text := with + "this server (STUN and TURN): open " + strings.Join(o.ports, " and ") + " in the firewall."
	if o.noTLS != "" {
		text += " TURN over TLS is not offered: " + o.noTLS + "."
	}
	return text
}

// log logs the same in one line.
func (o relayOffer) log(log *slog.Logger) {
	switch {
	case o.off != "":
		log.Info("no relay", "why", o.off)
	case o.elsewhere != "":
		log.Info("relay", "at", o.elsewhere)
	case o.noTLS != "":
		log.Info("relay", "over", o.portList(), "notOverTLS", o.noTLS)
	default:
		log.Info("relay", "over", o.portList())
	}
}

func (o relayOffer) portList() string {
	if len(o.ports) == 0 {
		return "nothing"
	}
	return strings.Join(o.ports, " and ")
}
