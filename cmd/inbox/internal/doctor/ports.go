package doctor

import (
	"bytes"
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

	"inbox/cmd/inbox/internal/host"
)

const (
	// probeTimeout is for a program on this machine to say who it is.
	probeTimeout = 3 * time.Second
	// maxResponseBytes is enough for any problem document.
	maxResponseBytes = 64 << 10
	// problemPrefix begins the type of every refusal of an inbox, and of nobody else's.
	problemPrefix = "urn:inbox:problem:"
	// unrecognizedName is how crypto/tls words the alert of a server without a
	// certificate for the name; it has no value for it.
	unrecognizedName = "unrecognized name"
)

// portOwner is a program that listens.
type portOwner struct {
	name string // of the program, as the kernel has it
	pid  int
}

func (o portOwner) String() string { return fmt.Sprintf("%s (process %d)", o.name, o.pid) }

// checkPorts finds out whether the server can listen, or does already. A server
// knows that it does, and as a user without rights could not tell that it is
// itself that answers nobody before its first certificate.
func (e *examination) checkPorts(ctx context.Context) (found []Finding) {
	if !e.InServer {
		found = append(found, e.checkPort(ctx, "-bind", e.Bind, e.HTTPS))
	}
	if !e.InServer && e.HTTPBind != "" {
		found = append(found, e.checkPort(ctx, "-http-bind", e.HTTPBind, false))
	}
	if len(e.Domains) > 0 && host.Port(e.Bind) != "443" && host.Port(e.HTTPBind) != "80" {
		found = append(found, warning("", "A CA asks at port 443 or 80 only, and the server listens on neither.",
			"Forward one of the two to it, or use -bind :443 with -http-bind :80."))
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
		return good(name, "It is free.")
	case errors.Is(err, syscall.EADDRINUSE):
		return e.checkInUse(ctx, name, bind, secure)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return failure(name, "This machine has no such address.", "Give one of its own, or only the port, like :443, for all of them.")
	case errors.Is(err, fs.ErrPermission):
		return e.checkNoPermission(ctx, name, bind, secure)
	}
	return failure(name, fmt.Sprintf("Nobody can listen there: %v.", err), "Correct "+option+".")
}

// checkNoPermission is for a port below 1024 without the right to it: the kernel
// says so before it says whether the port is held.
func (e *examination) checkNoPermission(ctx context.Context, name, bind string, secure bool) Finding {
	for _, address := range host.DialAddrs(bind) {
		if c, err := e.dial(ctx, "tcp", address); err == nil {
			c.Close()
			return e.checkInUse(ctx, name, bind, secure)
		}
	}
	return warning(name, "Nothing seems to listen there, and this user may not: ports below 1024 need a privilege.",
		"Run the doctor as root. The server gets the right from its systemd unit, or by: setcap cap_net_bind_service=+ep on the program.")
}

// checkSocket is for a Unix socket. One that a killed server left behind is
// removed at start.
func (e *examination) checkSocket(ctx context.Context, name, path string, secure bool) Finding {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return good(name, "It is free.")
	case err != nil:
		return failure(name, fmt.Sprintf("The socket cannot be looked at: %v.", err), "Give -bind unix: another path.")
	case info.Mode().Type() != fs.ModeSocket:
		return failure(name, "Something that is no socket is in its place.", "Move it away, or give -bind unix: another path.")
	}
	c, err := e.dial(ctx, "unix", path)
	if err != nil {
		return good(name, "It is free: nobody listens on the socket that is there.")
	}
	c.Close()
	return e.evaluatePortOwner(name, e.probe(ctx, "unix", path, secure), portOwner{})
}

// checkInUse finds out who listens on an address that is in use.
func (e *examination) checkInUse(ctx context.Context, name, bind string, secure bool) Finding {
	result := probeResult{err: errors.New("nobody answers over loopback")}
	for _, address := range host.DialAddrs(bind) {
		if result = e.probe(ctx, "tcp", address, secure); result.inbox {
			break
		}
	}
	owner, _ := e.findPortOwner(host.Port(bind))
	return e.evaluatePortOwner(name, result, owner)
}

// evaluatePortOwner weighs what the listener said, and what the kernel says of it.
func (e *examination) evaluatePortOwner(name string, result probeResult, owner portOwner) Finding {
	program := "Another program"
	if owner.pid > 0 {
		program = "The program " + owner.String()
	}
	switch {
	case result.inbox && result.healthy:
		return good(name, "A running inbox listens there.")
	case result.inbox:
		return warning(name, "A running inbox listens there, but /healthz does not say that it is well.", "See its log.")
	case result.err != nil && owner.name == "inbox":
		return good(name, fmt.Sprintf("A running inbox (process %d) listens there; it answers no stranger yet, as before its first certificate.", owner.pid))
	case result.err != nil && owner.name == "systemd":
		return warning(name, "systemd listens there for a service that does not answer.",
			"If that is inbox.socket, start inbox.service and see its log; else stop that socket.")
	case result.err != nil && strings.Contains(result.err.Error(), unrecognizedName) && owner.pid == 0:
		return warning(name,
			"A program listens there that has no certificate for the name. An inbox before its first certificate does the same.",
			"Run the doctor as root, to see which program it is.")
	}
	return failure(name, program+" listens there.", fixForPort(name))
}

// fixForPort is what to do about a port that somebody else has.
func fixForPort(name string) string {
	if strings.HasPrefix(name, "-http-bind ") {
		return "Stop it. Or switch -http-bind off, and certificates are ordered through port 443 alone, but nobody is led from http to https."
	}
	return "Stop it, or choose another address with -bind. If it is a web server that is to stay in front, see -https=false and -trusted-proxies."
}

// probeResult is what a listener said when asked who it is.
type probeResult struct {
	inbox, healthy bool
	err            error // no answer in HTTP
}

// probe asks a listener on this machine. Many programs say ok at /healthz, but
// only an inbox refuses a stranger at /inbox in its own way. No certificate is
// checked, and nothing secret is said.
func (e *examination) probe(ctx context.Context, network, address string, secure bool) probeResult {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	client := e.localClient(network, address)
	defer client.CloseIdleConnections()
	status, text, err := e.get(ctx, client, secure, "/inbox")
	if err != nil {
		return probeResult{err: err}
	}
	if !isInboxRefusal(status, text) {
		return probeResult{}
	}
	status, _, err = e.get(ctx, client, secure, "/healthz")
	return probeResult{inbox: true, healthy: err == nil && status < 500} // on port 80 it redirects
}

// isInboxRefusal knows the answer at /inbox: a problem document of its own
// kind, or what port 80 and hosts that are not served are told.
func isInboxRefusal(status int, text []byte) bool {
	switch status {
	case http.StatusForbidden, http.StatusMisdirectedRequest:
		for _, words := range []string{"use https: over plain http a password can be read", "this server does not serve that host"} {
			if bytes.HasPrefix(text, []byte(words)) {
				return true
			}
		}
	}
	var problem struct{ Type string }
	// What is no JSON is no problem document either.
	_ = json.Unmarshal(text, &problem)
	return strings.HasPrefix(problem.Type, problemPrefix)
}

// localClient connects to one listener, whatever the URL says.
func (e *examination) localClient(network, address string) *http.Client {
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return e.dial(ctx, network, address) },
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // it is asked who it is, not believed
		},
	}
}

// get asks under the first name that is served: an inbox answers to no other.
func (e *examination) get(ctx context.Context, client *http.Client, secure bool, path string) (int, []byte, error) {
	url := "http://"
	if secure {
		url = "https://"
	}
	host := "localhost"
	if len(e.Domains) > 0 {
		host = e.Domains[0]
	}
	if addr, err := netip.ParseAddr(host); err == nil && addr.Is6() {
		host = "[" + host + "]"
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+host+path, nil)
	if err != nil {
		return 0, nil, err
	}
	resp, err := client.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxResponseBytes))
	return resp.StatusCode, text, err
}
