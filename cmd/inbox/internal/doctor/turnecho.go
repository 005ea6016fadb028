package doctor

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pion/logging"
	"github.com/pion/stun/v4"
	"github.com/pion/turn/v5"

	"inbox/cmd/inbox/internal/host"
	"inbox/tlsmgr/acme"
)

const (
	// echoTimeout bounds a test of the relay over one transport.
	echoTimeout = 15 * time.Second
	// packetTimeout is how long a packet on its way can take before it is sent again.
	packetTimeout = 500 * time.Millisecond
	// stunAttempts is how often a Binding request is sent.
	stunAttempts = 4
	maxPacket    = 1500
)

// localServer is an inbox server that runs on this machine, with a mailbox of its own for the
// credentials.
type localServer struct {
	e                *examination
	network, address string
	client           *http.Client
	user             *url.Userinfo
}

// findServer returns a running server, or nil.
func (e *examination) findServer(ctx context.Context) *localServer {
	network, addresses := "tcp", host.DialAddrs(e.Bind)
	if path, isUnix := strings.CutPrefix(e.Bind, "unix:"); isUnix {
		network, addresses = "unix", []string{path}
	}
	for _, address := range addresses {
		if e.probe(ctx, network, address, e.HTTPS).inbox {
			s := &localServer{e, network, address, e.localClient(network, address), url.UserPassword("doctor-"+rand.Text(), rand.Text())}
			s.invite()
			return s
		}
	}
	return nil
}

// request sends a request with the credentials of the mailbox, which claims its name.
func (s *localServer) request(ctx context.Context, method, path string) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	u := url.URL{Scheme: "http", User: s.user, Host: hostInURL(s.e.requestHost()), Path: path}
	if s.e.HTTPS {
		u.Scheme = "https"
	}
	return fetch(ctx, s.client, method, u.String())
}

// offer is what GET /ice offers of this server to the owner of a mailbox.
type offer struct {
	stun, tls          string // host and port of the URLs; empty: not offered
	udp                bool   // TURN over UDP
	username, password string // empty: no TURN
	withheld           string // why
}

// claim claims the mailbox and returns what the server offers to its owner.
func (s *localServer) claim(ctx context.Context) (*offer, error) {
	status, text, err := s.request(ctx, http.MethodGet, s.e.TURN.ICEPath)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d", status)
	}
	if err != nil {
		return nil, err
	}
	return parseOffer(text, s.e.relayName()), nil
}

// release deletes the mailbox, which also ends its relays.
func (s *localServer) release(ctx context.Context) {
	_, _, _ = s.request(context.WithoutCancel(ctx), http.MethodDelete, s.e.MailboxPath) // otherwise it expires
	s.client.CloseIdleConnections()
}

// parseOffer finds the URLs of this server, which has the name, among those of other servers.
func parseOffer(text []byte, name string) *offer {
	var response struct {
		ICEServers []struct {
			URLs                 []string
			Username, Credential string
		}
		TURN string
	}
	_ = json.Unmarshal(text, &response) // without JSON there are no servers
	if names, err := acme.Names([]string{name}); err == nil {
		name = names[0] // in the form of the URLs
	}
	o := &offer{withheld: response.TURN}
	for _, server := range response.ICEServers {
		for _, u := range server.URLs {
			scheme, rest, _ := strings.Cut(u, ":")
			address, _, _ := strings.Cut(rest, "?")
			if h, _, err := net.SplitHostPort(address); err == nil && h == name {
				o.add(scheme, address, server.Username, server.Credential)
			}
		}
	}
	return o
}

func (o *offer) add(scheme, address, username, password string) {
	switch scheme {
	case "stun":
		o.stun = address
		return
	case "turn":
		o.udp = true
	case "turns":
		o.tls = address
	}
	o.username, o.password = username, password
}

// dialFunc opens a connection to the relay that carries one message per packet.
type dialFunc func(context.Context) (net.PacketConn, error)

// dialUDP connects to the relay where this machine reaches it.
func (s *localServer) dialUDP(ctx context.Context) (net.PacketConn, error) {
	for _, address := range host.DialAddrs(s.e.TURN.Bind) {
		if s.e.answersSTUN(ctx, address) {
			c, err := s.e.dial(ctx, "udp", address)
			return connectedPackets{c}, err
		}
	}
	return nil, errors.New("no answer to STUN")
}

// dialTLS returns a dialFunc to the port of HTTPS. It verifies the certificate as clients do.
func (s *localServer) dialTLS(o *offer) dialFunc {
	name, _, _ := net.SplitHostPort(o.tls)
	return func(ctx context.Context) (net.PacketConn, error) {
		raw, err := s.e.dialServer(ctx, s.network, s.address)
		if err != nil {
			return nil, err
		}
		c := tls.Client(raw, &tls.Config{ServerName: name, InsecureSkipVerify: true, VerifyConnection: s.e.verifyChain})
		if err := c.HandshakeContext(ctx); err != nil {
			raw.Close()
			return nil, err
		}
		return turn.NewSTUNConn(c), nil
	}
}

// verifyChain verifies a certificate with the roots of this machine, and with those of the CAs.
func (e *examination) verifyChain(state tls.ConnectionState) (err error) {
	options := x509.VerifyOptions{DNSName: state.ServerName, Intermediates: x509.NewCertPool(), CurrentTime: e.now()}
	for _, c := range state.PeerCertificates[1:] {
		options.Intermediates.AddCert(c)
	}
	_, err = state.PeerCertificates[0].Verify(options)
	for _, ca := range e.cas {
		if err == nil {
			break
		}
		if options.Roots = ca.roots; ca.roots != nil {
			_, err = state.PeerCertificates[0].Verify(options)
		}
	}
	return err
}

// certificateFinding describes a certificate that clients refuse; nil for another error.
func certificateFinding(name string, err error) *Finding {
	var f Finding
	var hostname x509.HostnameError
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &hostname):
		f = warning(name, fmt.Sprintf("The certificate does not cover the name in the URL: %v.", err), "Add the name to -domain, or use a certificate that lists it.")
	case errors.As(err, &unknown):
		f = warning(name, "The certificate does not chain to a root that this machine trusts, so the relay was not tested.",
			"If a public CA issued it, use the full chain (fullchain.pem). The root of a private CA must be installed on every client.")
	case errors.As(err, &invalid):
		f = warning(name, fmt.Sprintf("Clients refuse the certificate: %v.", err), "Renew it, or set the clock of this machine.")
	default:
		return nil
	}
	return &f
}

// echo opens two relays and sends a packet from each to the other.
func echo(ctx context.Context, o *offer, dial dialFunc) error {
	var ends [2]*relayEnd
	for i := range ends {
		c, err := dial(ctx)
		if err != nil {
			return err
		}
		defer c.Close()
		defer context.AfterFunc(ctx, func() { c.Close() })()
		if ends[i], err = openRelay(ctx, c, o); err != nil {
			return withTimeout(ctx, fmt.Errorf("open a relay: %w", err))
		}
		defer ends[i].close()
	}
	for i, end := range ends {
		if err := end.client.CreatePermission(ends[1-i].LocalAddr()); err != nil {
			return withTimeout(ctx, fmt.Errorf("permit the other relay: %w", err))
		}
	}
	return withTimeout(ctx, errors.Join(ends[0].send(ctx, ends[1]), ends[1].send(ctx, ends[0])))
}

// withTimeout returns err, or that ctx is done, which is then its cause.
func withTimeout(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("no answer in time: %w", ctx.Err())
	}
	return err
}

// relayEnd is a relay and its client.
type relayEnd struct {
	net.PacketConn
	client *turn.Client
}

// openRelay opens a relay. The client reads from c until c is closed.
func openRelay(ctx context.Context, c net.PacketConn, o *offer) (*relayEnd, error) {
	client, err := turn.NewClient(&turn.ClientConfig{
		Conn: c, TURNServerAddr: anyServer, Username: o.username, Password: o.password,
		RequestedAddressFamily: turn.RequestedAddressFamilyIPv4,
		LoggerFactory:          &logging.DefaultLoggerFactory{Writer: io.Discard},
	})
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, client.Close)()
	if err := client.Listen(); err != nil {
		return nil, err
	}
	relay, err := client.Allocate()
	if err != nil {
		client.Close()
		return nil, err
	}
	return &relayEnd{relay, client}, nil
}

func (r *relayEnd) close() {
	r.PacketConn.Close()
	r.client.Close()
}

// send sends a packet until the other relay has received it.
func (r *relayEnd) send(ctx context.Context, to *relayEnd) error {
	packet, buf := rand.Text(), make([]byte, maxPacket)
	for ctx.Err() == nil {
		if _, err := r.WriteTo([]byte(packet), to.LocalAddr()); err != nil {
			return err
		}
		_ = to.SetReadDeadline(time.Now().Add(packetTimeout)) // fails on a closed relay, as the read will
		n, _, err := to.ReadFrom(buf)
		var timeout net.Error
		switch {
		case err == nil && string(buf[:n]) == packet:
			return nil
		case err != nil && !(errors.As(err, &timeout) && timeout.Timeout()):
			return err
		}
	}
	return ctx.Err()
}

// anyServer is the address of the server in the eyes of the client, which has one connection.
const anyServer = "192.0.2.1:3478"

// connectedPackets is a connected UDP socket for a client that names the receiver.
type connectedPackets struct{ net.Conn }

func (c connectedPackets) WriteTo(b []byte, _ net.Addr) (int, error) { return c.Write(b) }

func (c connectedPackets) ReadFrom(b []byte) (int, net.Addr, error) {
	n, err := c.Read(b)
	return n, c.RemoteAddr(), err
}

// answersSTUN reports whether an address answers a Binding request over UDP.
func (e *examination) answersSTUN(ctx context.Context, address string) bool {
	c, err := e.dial(ctx, "udp", address)
	if err != nil {
		return false
	}
	defer c.Close()
	request, err := stun.Build(stun.TransactionID, stun.BindingRequest)
	if err != nil {
		return false
	}
	buf := make([]byte, maxPacket)
	for range stunAttempts {
		if _, err := c.Write(request.Raw); err != nil || ctx.Err() != nil {
			return false
		}
		_ = c.SetReadDeadline(time.Now().Add(packetTimeout)) // fails on a closed socket, as the read will
		if n, err := c.Read(buf); err == nil && isResponse(buf[:n], request) {
			return true
		}
	}
	return false
}

func isResponse(b []byte, request *stun.Message) bool {
	response := stun.Message{Raw: b}
	return response.Decode() == nil && response.TransactionID == request.TransactionID && response.Type == stun.BindingSuccess
}
