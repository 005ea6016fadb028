package doctor

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"inbox/cmd/inbox/internal/conn"
	"inbox/cmd/inbox/internal/host"
	"inbox/internal/problem"
)

const (
	// probeTimeout bounds the probe of a program on this machine.
	probeTimeout = 3 * time.Second
	// maxResponseBytes is enough for any problem document.
	maxResponseBytes = 64 << 10
	// unrecognizedName is in the error of crypto/tls for a server without a
	// certificate for the name; there is no error value for it.
	unrecognizedName = "unrecognized name"
)

// checkPorts checks whether the server can listen or already does. A running
// server skips the check: it holds its ports, and without root it could not
// recognize itself before its first certificate, when every handshake fails.
func (e *examination) checkPorts(ctx context.Context) (found []Finding) {
	if !e.InServer {
		found = append(found, e.checkPort(ctx, "-bind", e.Bind, e.HTTPS))
	}
	if !e.InServer && e.HTTPBind != "" {
		found = append(found, e.checkPort(ctx, "-http-bind", e.HTTPBind, false))
	}
	isReachable := host.Port(e.Bind) == "443" || host.Port(e.HTTPBind) == "80"
	switch {
	case len(e.Domains) == 0 || isReachable:
	case e.ProxyProtocol:
		found = append(found, good("", "CAs connect to port 443 or 80 of the proxy, which must pass these connections on."))
	default:
		found = append(found, warning("", "CAs connect to port 443 or 80 only, and the server listens on neither.",
			"Forward one of the ports to the server, or use -bind :443 with -http-bind :80."))
	}
	return found
}

func (e *examination) checkPort(ctx context.Context, option, bind string, secure bool) Finding {
	name := option + " " + bind
	if path, isUnix := strings.CutPrefix(bind, "unix:"); isUnix {
		return e.checkSocket(ctx, name, path, secure)
	}
	l, err := e.listen("tcp", bind)
	switch {
	case err == nil:
		l.Close()
		return good(name, "Available.")
	case errors.Is(err, syscall.EADDRINUSE):
		return e.checkInUse(ctx, name, bind, secure)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return failure(name, "This machine does not have the address.", "Use an address of this machine, or only the port, like :443, to listen on all addresses.")
	case errors.Is(err, fs.ErrPermission):
		return e.checkNoPermission(ctx, name, bind, secure)
	}
	return failure(name, fmt.Sprintf("Cannot listen: %v.", err), "Correct "+option+".")
}

// checkNoPermission handles a port below 1024 without the privilege to bind it:
// the kernel reports that before it reports whether the port is in use.
func (e *examination) checkNoPermission(ctx context.Context, name, bind string, secure bool) Finding {
	for _, address := range host.DialAddrs(bind) {
		if c, err := e.dial(ctx, "tcp", address); err == nil {
			c.Close()
			return e.checkInUse(ctx, name, bind, secure)
		}
	}
	return warning(name, "The port seems to be available, but this user cannot bind it: ports below 1024 require CAP_NET_BIND_SERVICE.",
		"Run the doctor as root. The server gets the capability from its systemd unit, or from: setcap cap_net_bind_service=+ep PROGRAM.")
}

// checkSocket checks a Unix socket. The server removes a stale one at start.
func (e *examination) checkSocket(ctx context.Context, name, path string, secure bool) Finding {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return good(name, "Available.")
	case err != nil:
		return failure(name, fmt.Sprintf("Cannot access the socket: %v.", err), "Set -bind unix: to another path.")
	case info.Mode().Type() != fs.ModeSocket:
		return failure(name, "The path exists and is not a socket.", "Move the file, or set -bind unix: to another path.")
	}
	c, err := e.dial(ctx, "unix", path)
	if err != nil {
		return good(name, "Available: the existing socket is stale.")
	}
	c.Close()
	return e.evaluatePortOwner(name, e.probe(ctx, "unix", path, secure), portOwner{})
}

// checkInUse determines which program listens on an address that is in use.
func (e *examination) checkInUse(ctx context.Context, name, bind string, secure bool) Finding {
	result := probeResult{err: errors.New("no response over loopback")}
	for _, address := range host.DialAddrs(bind) {
		if result = e.probe(ctx, "tcp", address, secure); result.inbox {
			break
		}
	}
	owner, _ := e.findPortOwner("tcp", host.Port(bind))
	return e.evaluatePortOwner(name, result, owner)
}

// evaluatePortOwner combines the response of the listener with the kernel's
// information about its process.
func (e *examination) evaluatePortOwner(name string, result probeResult, owner portOwner) Finding {
	program := "Another program"
	if owner.pid > 0 {
		program = "The program " + owner.String()
	}
	switch {
	case result.inbox && result.healthy:
		return good(name, "In use by a running inbox.")
	case result.inbox:
		return warning(name, "In use by a running inbox whose "+e.HealthPath+" reports a problem.", "Check its log.")
	case result.err != nil && owner.name == "inbox":
		return good(name, fmt.Sprintf("In use by a running inbox (process %d) that does not complete handshakes, as before its first certificate.", owner.pid))
	case result.err != nil && owner.name == "systemd":
		return warning(name, "In use by systemd, for a service that does not respond.",
			"If the socket unit is inbox.socket, start inbox.service and check its log. Otherwise stop the socket unit.")
	case result.err != nil && strings.Contains(result.err.Error(), unrecognizedName) && owner.pid == 0:
		return warning(name,
			"In use by a program that has no certificate for the name. This can be an inbox before its first certificate.",
			"Run the doctor as root to see which program it is.")
	}
	return failure(name, program+" listens on the address.", fixForPort(name))
}

// fixForPort returns what to do about an address that another program uses.
func fixForPort(name string) string {
	if strings.HasPrefix(name, "-http-bind ") {
		return "Stop that program. Alternatively disable -http-bind: certificates are then validated over port 443 only, and http:// is not redirected to https://."
	}
	return "Stop that program, or choose another address with -bind. If it is a web server that stays in front of inbox, see -https=false and -trusted-proxies."
}

// probeResult is the result of a request to a listener.
type probeResult struct {
	inbox, healthy bool
	err            error // no HTTP response
}

// probe determines whether a listener on this machine is an inbox server. Many
// programs respond to HealthPath, but only inbox refuses an unauthenticated request
// for MailboxPath with its own problem type. The certificate is not verified; the
// requests contain no secrets.
func (e *examination) probe(ctx context.Context, network, address string, secure bool) probeResult {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	client := e.localClient(network, address)
	defer client.CloseIdleConnections()
	_, text, err := e.get(ctx, client, secure, e.MailboxPath)
	if err != nil {
		return probeResult{err: err}
	}
	if !isInboxRefusal(text) {
		return probeResult{}
	}
	status, _, err := e.get(ctx, client, secure, e.HealthPath)
	return probeResult{inbox: true, healthy: err == nil && status < 500} // on port 80 it redirects
}

// isInboxRefusal recognizes the refusal of an inbox server, a problem document.
func isInboxRefusal(text []byte) bool {
	var refusal struct{ Type string }
	_ = json.Unmarshal(text, &refusal) // without JSON, Type stays empty
	return strings.HasPrefix(refusal.Type, problem.TypePrefix)
}

// dialServer connects to a listener that a running server can have.
func (e *examination) dialServer(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := e.dial(ctx, network, address)
	if err != nil || !e.ProxyProtocol {
		return c, err
	}
	if err := conn.SendLocalHeader(ctx, c); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// localClient returns a client that connects to one listener for every URL.
func (e *examination) localClient(network, address string) *http.Client {
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return e.dialServer(ctx, network, address) },
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // only to identify the program
		},
	}
}

// get requests a path with the first configured domain as the host: an inbox
// server responds to no other.
func (e *examination) get(ctx context.Context, client *http.Client, secure bool, path string) (int, []byte, error) {
	url := "http://"
	if secure {
		url = "https://"
	}
	host := "localhost"
	if len(e.Domains) > 0 {
		host = e.Domains[0]
	}
	return fetch(ctx, client, http.MethodGet, url+hostInURL(host)+path)
}

func hostInURL(host string) string {
	if addr, err := netip.ParseAddr(host); err == nil && addr.Is6() {
		return "[" + host + "]"
	}
	return host
}

func fetch(ctx context.Context, client *http.Client, method, url string) (status int, text []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return 0, nil, err
	}
	resp, err := client.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	text, err = io.ReadAll(io.LimitReader(resp.Body, maxResponseBytes))
	return resp.StatusCode, text, err
}
