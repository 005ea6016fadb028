package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"inbox/cmd/inbox/internal/host"
	"inbox/tlsmgr"
)

// TURN describes STUN and TURN as the options set them.
type TURN struct {
	Host      string // in the URLs; empty: the host of the request
	Relay     bool   // this server is the relay, not another node of the store
	NoTLS     string // why TURN over TLS is not offered; empty: it is, unless the certificate is self-signed
	NeedsName bool   // which is that the name is an IP address
	Bind      string // address of UDP
	BindGiven bool   // otherwise the server also starts without the port
	ICEPath   string // of the public listener

	// BufferBytes is the receive buffer that the server requests, MinBufferBytes the size
	// below which it loses packets.
	BufferBytes, MinBufferBytes int
}

// checkTURN checks what a relay needs, and sends packets through one that runs.
func (e *examination) checkTURN(ctx context.Context) []Finding {
	found := e.checkTURNOverTLS()
	if !e.TURN.Relay {
		return append(found, e.checkDistantRelay(ctx)...)
	}
	server := e.findServer(ctx)
	if server == nil {
		found = append(found, e.checkTURNPort(false, false)...)
		return append(found, good("", "The relay is tested only while the server runs."))
	}
	defer server.release(ctx)
	offer, err := server.claim(ctx)
	if err != nil {
		return append(found, warning("", fmt.Sprintf("The running inbox gave no credentials of the relay: %v.", err),
			"Run the doctor again later. If that remains, check the log of the server."))
	}
	_, port, _ := net.SplitHostPort(offer.stun)
	found = append(found, e.checkTURNPort(true, port != "" && port == host.Port(e.TURN.Bind))...)
	return append(found, e.checkRelay(ctx, server, offer)...)
}

// checkTURNOverTLS reports why TURN over TLS is not offered, or would not be accepted.
func (e *examination) checkTURNOverTLS() []Finding {
	const need = " Networks that allow only HTTPS need TURN over TLS."
	switch name := e.relayName(); {
	case e.TURN.NeedsName:
		return []Finding{warning(name, "TURN over TLS is not offered: "+e.TURN.NoTLS+".", "Add a host name to -domain, or set -turn to one."+need)}
	case e.TURN.NoTLS != "": // as intended, or with a warning about the options
		return []Finding{good("", "TURN over TLS is not offered: "+e.TURN.NoTLS+".")}
	case len(e.Domains) == 0 && !e.hasCertFiles():
		return []Finding{good("", "TURN over TLS is not offered: the certificate is self-signed.")}
	case len(e.Domains) == 0 && e.TURN.Host != "":
		return e.checkRelayCertificate(name, need)
	}
	return nil
}

// checkRelayCertificate checks whether the certificate files are for the name of -turn.
func (e *examination) checkRelayCertificate(name, need string) []Finding {
	pair, err := tlsmgr.LoadKeyPair(e.CertFile, e.KeyFile)
	if err != nil || tlsmgr.Covers(pair.Leaf, name) {
		return nil // another check reports the error
	}
	return []Finding{warning(name, fmt.Sprintf("The certificate in %s does not cover the name of -turn, so browsers refuse TURN over TLS.", e.CertFile),
		"Use a certificate that lists the name, or set -turn to a name of the certificate."+need)}
}

// relayName returns the host in the URLs of the relay, as far as the options tell: a host name
// if there is one.
func (e *examination) relayName() string {
	if e.TURN.Host != "" {
		return e.TURN.Host
	}
	return e.requestHost()
}

// requestHost returns a host that a running server answers to: a host name if there is one.
func (e *examination) requestHost() string {
	switch i := slices.IndexFunc(e.Domains, func(name string) bool { return !isAddr(name) }); {
	case i >= 0:
		return e.Domains[i]
	case len(e.Domains) > 0:
		return e.Domains[0]
	}
	return "localhost"
}

func isAddr(name string) bool {
	_, err := netip.ParseAddr(name)
	return err == nil
}

// checkTURNPort checks the UDP port and its receive buffer. Running reports whether an inbox
// server runs, and used whether it offers the port.
func (e *examination) checkTURNPort(running, used bool) []Finding {
	name := "-turn-bind " + e.TURN.Bind
	bytes, err := e.bindUDP(e.TURN.Bind, e.TURN.BufferBytes)
	switch {
	case used:
		return append([]Finding{good(name, "In use by a running inbox.")}, e.checkReceiveBuffer(e.udpBuffer(host.Port(e.TURN.Bind)))...)
	case err == nil && running:
		return []Finding{warning(name, "Available, but the running inbox does not use the port.",
			"Restart it. Its log says why it does not use the port, if that remains.")}
	case err == nil:
		return append([]Finding{good(name, "Available.")}, e.checkReceiveBuffer(bytes)...)
	case errors.Is(err, syscall.EADDRINUSE):
		return []Finding{e.evaluateUDPOwner(name)}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return []Finding{failure(name, "This machine does not have the address.", "Use an address of this machine, or only the port, like :3478, to use all addresses.")}
	case errors.Is(err, fs.ErrPermission):
		return []Finding{warning(name, "This user cannot bind the port: ports below 1024 require CAP_NET_BIND_SERVICE.",
			"Run the doctor as root. The server gets the port from inbox-turn.socket of systemd.")}
	}
	return []Finding{failure(name, fmt.Sprintf("Cannot bind the port: %v.", err), "Correct -turn-bind.")}
}

// evaluateUDPOwner reports a port that no running inbox offers.
func (e *examination) evaluateUDPOwner(name string) Finding {
	owner, known := e.findPortOwner("udp", host.Port(e.TURN.Bind))
	if owner.name == "inbox" || owner.name == "systemd" {
		return good(name, "In use by "+owner.String()+".")
	}
	program := "Another program"
	if known {
		program = "The program " + owner.String()
	}
	const fix = "Stop that program, often coturn, or choose another port with -turn-bind."
	if e.TURN.BindGiven {
		return failure(name, program+" uses the port, so the server does not start.", fix)
	}
	return warning(name, program+" uses the port, so the server offers no STUN, and no TURN over UDP.", fix)
}

// checkReceiveBuffer reports a buffer that is too small. Zero bytes are unknown.
func (e *examination) checkReceiveBuffer(bytes int) []Finding {
	const name = "receive buffer"
	switch {
	case bytes == 0:
		return nil
	case bytes < e.TURN.MinBufferBytes:
		return []Finding{warning(name, fmt.Sprintf("The receive buffer of TURN over UDP has %d KiB: packets of calls are lost when the machine is busy.", bytes>>10),
			fmt.Sprintf("sysctl -w net.core.rmem_max=%d, put the setting into /etc/sysctl.d, and restart the server. Or use inbox-turn.socket of systemd.", e.TURN.BufferBytes))}
	}
	return []Finding{good(name, fmt.Sprintf("TURN over UDP has a receive buffer of %d KiB.", bytes>>10))}
}

// bindUDP binds an address with a receive buffer, and returns how large the kernel made it.
func bindUDP(address string, bufferBytes int) (bytes int, err error) {
	packets, err := net.ListenPacket("udp", address)
	if err != nil {
		return 0, err
	}
	defer packets.Close()
	c := packets.(*net.UDPConn)
	_ = c.SetReadBuffer(bufferBytes) // the size tells whether it failed
	return host.ReceiveBuffer(c), nil
}

// udpBuffer returns the receive buffer of a UDP port that a server uses; 0 if it is unknown.
func udpBuffer(port string) int {
	n, err := net.LookupPort("udp", port)
	if err != nil {
		return 0
	}
	bytes, _ := host.UDPReceiveBuffer(uint16(n))
	return bytes
}

// checkDistantRelay checks the relay on another node of the store.
func (e *examination) checkDistantRelay(ctx context.Context) []Finding {
	name := net.JoinHostPort(e.TURN.Host, host.Port(e.TURN.Bind))
	silent, err := e.stunFails(ctx, e.TURN.Host)
	switch {
	case err != nil:
		return []Finding{warning(name, fmt.Sprintf("The lookup of the relay failed: %v.", err), "Correct -turn, or the DNS records of the name.")}
	case len(silent) > 0:
		return []Finding{warning(name, "The relay does not answer STUN over UDP at "+joinAddrs(silent)+".",
			"Start the server with this name in -domain, and open the UDP port in its firewall.")}
	}
	return []Finding{good(name, "The relay answers STUN over UDP.")}
}

// checkHairpin checks whether this machine reaches itself under the public name. Many routers
// do not allow that, while clients elsewhere connect.
func (e *examination) checkHairpin(ctx context.Context, name string) []Finding {
	if addr, err := netip.ParseAddr(name); name == "localhost" || err == nil && addr.IsLoopback() {
		return nil
	}
	silent, err := e.stunFails(ctx, name)
	port := host.Port(e.TURN.Bind)
	switch {
	case err != nil && slices.Contains(e.Domains, name):
		return nil // the check of the names reports it
	case err != nil:
		return []Finding{warning(name, fmt.Sprintf("The lookup of the name failed: %v.", err), "Correct -turn, or the DNS records of the name.")}
	case len(silent) > 0:
		return []Finding{warning(name, fmt.Sprintf("%s does not answer STUN from this machine, over UDP port %s.", joinAddrs(silent), port),
			"This is normal behind a router that does not lead back to its own address (NAT without hairpin). Otherwise open the port for UDP in the firewall, and forward it to this machine.")}
	}
	return []Finding{good(name, "Answers STUN over UDP port "+port+".")}
}

// maxSTUNAddrs bounds how many addresses of a name are asked.
const maxSTUNAddrs = 4

// stunFails returns the addresses of a name that do not answer STUN.
func (e *examination) stunFails(ctx context.Context, name string) (silent []netip.Addr, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addrs := []netip.Addr{}
	if addr, err := netip.ParseAddr(name); err == nil {
		addrs = append(addrs, addr)
	} else if addrs, err = e.resolver.LookupNetIP(ctx, "ip", name); err != nil {
		return nil, err
	}
	for _, addr := range addrs[:min(len(addrs), maxSTUNAddrs)] {
		if !e.answersSTUN(ctx, net.JoinHostPort(addr.Unmap().String(), host.Port(e.TURN.Bind))) {
			silent = append(silent, addr.Unmap())
		}
	}
	return silent, nil
}

// checkRelay sends packets through the running relay, as far as the server offers it.
func (e *examination) checkRelay(ctx context.Context, s *localServer, o *offer) (found []Finding) {
	if name, _, err := net.SplitHostPort(o.stun); err == nil {
		found = append(found, e.checkHairpin(ctx, name)...)
	}
	switch {
	case o.withheld == "month-used":
		return append(found, warning("", "The month's traffic of the relay is used up: calls get no relay.", "Raise -turn-month, or wait for the next month (UTC)."))
	case o.password == "":
		return append(found, warning("", "The running inbox offers no TURN.", "Restart it with the options that the doctor has. Its log says why it offers none, if that remains."))
	}
	if o.udp {
		found = append(found, e.checkEcho(ctx, "UDP", o, s.dialUDP))
	}
	if o.tls != "" {
		found = append(found, e.checkEcho(ctx, "TLS", o, s.dialTLS(o)))
	}
	return found
}

func (e *examination) checkEcho(ctx context.Context, transport string, o *offer, dial dialFunc) Finding {
	ctx, cancel := context.WithTimeout(ctx, echoTimeout)
	defer cancel()
	name := "TURN over " + transport
	err := echo(ctx, o, dial)
	if err == nil {
		return good(name, "A packet passed from a relay to another, and back.")
	}
	if f := certificateFinding(name, err); f != nil {
		return *f
	}
	return failure(name, fmt.Sprintf("No packet passes through the relay: %v.", err),
		"Check the log of the server for warnings about TURN, and restart it.")
}
