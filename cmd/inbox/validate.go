package main

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"inbox/cmd/inbox/internal/limits"
	"inbox/inbox"
)

// maxSeconds is about thirty years. A larger value is a mistake, and could overflow a
// Duration.
const maxSeconds = 1_000_000_000

// resolve validates the options and derives the settings that follow from them.
// An error names the option and the source of its value.
func (c *config) resolve() error {
	for _, check := range []func() error{
		c.checkDoctor, c.checkNumbers, c.checkQueue, c.resolvePoll, c.resolveDomains, c.resolveMetrics,
		c.checkBind, c.resolveProxies, c.resolveOrigins, c.resolveICE, c.resolveStore, c.resolveLog,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c *config) checkDoctor() error {
	for name, given := range map[string]bool{"json": c.asJSON, "renew-test": c.renewTest} {
		if given && !c.doctor {
			return c.optionError(name, errors.New("applies only to the doctor: inbox doctor -"+name))
		}
	}
	return nil
}

// optionError returns an error that names an option, its value and the source of the value.
func (c *config) optionError(name string, why error) error {
	from := c.from[name]
	if from == "" {
		from = "default"
	}
	return c.valueError(name, c.flags.Lookup(name).Value.String(), from, why)
}

func (c *config) checkNumbers() error {
	for _, limit := range []struct {
		name        string
		value       int64
		least, most int64
	}{
		{"inbox-timeout", c.inboxTimeout, 1, maxSeconds},
		{"inbox-capacity", c.inboxCapacity, 0, math.MaxInt32},
		{"cleanup-interval", c.cleanupInterval, 1, maxSeconds},
		{"poll-timeout", c.pollTimeout, 0, maxSeconds},
		{"max-body-size", c.maxBodySize, 1, math.MaxInt32},
		{"max-header-size", c.maxHeaderSize, 1, 1 << 30},
		{"max-inboxes", c.maxInboxes, 0, math.MaxInt32},
		{"max-inboxes-per-ip", c.maxInboxesPerIP, 0, math.MaxInt32},
		{"max-queued-bytes-per-ip", c.maxQueuedBytesPerIP, 0, math.MaxInt64},
		{"max-conns-per-ip", c.maxConnsPerIP, 0, math.MaxInt32},
		{"conn-rate", c.connRate, 0, math.MaxInt32},
		{"rate", c.rate, 0, math.MaxInt32},
		{"burst", c.burst, 1, math.MaxInt32},
	} {
		if limit.value < limit.least || limit.value > limit.most {
			return c.optionError(limit.name, fmt.Errorf("must be from %d to %d", limit.least, limit.most))
		}
	}
	return nil
}

// checkQueue rejects a queue that can never hold the largest message.
func (c *config) checkQueue() error {
	for name, size := range map[string]int64{"max-queued-bytes": c.maxQueuedBytes, "max-queued-bytes-per-ip": c.maxQueuedBytesPerIP} {
		if c.from[name] != "" && 0 < size && size < c.maxBodySize {
			return c.optionError(name, fmt.Errorf("must be 0, or at least -max-body-size (%d), or the "+
				"largest message would never fit", c.maxBodySize))
		}
	}
	return nil
}

// resolvePoll determines how long a poll is held. A poll must end well before its inbox
// expires, so the default is lowered to fit -inbox-timeout; an explicit value that does
// not fit is an error.
func (c *config) resolvePoll() error {
	if !c.longPolling {
		c.pollWait = 0
		return nil
	}
	c.pollWait = seconds(c.pollTimeout)
	if c.from["poll-timeout"] == "" {
		c.pollWait = min(c.pollWait, seconds(c.inboxTimeout)/2)
	}
	if c.pollWait >= seconds(c.inboxTimeout) {
		return c.optionError("poll-timeout", fmt.Errorf("must be less than -inbox-timeout (%d), or an inbox "+
			"would expire while its owner polls", c.inboxTimeout))
	}
	return nil
}

// resolveDomains determines the addresses that a server with -domain binds. tlsmgr
// validates the names and the CA options.
func (c *config) resolveDomains() error {
	for name := range strings.SplitSeq(c.domain, ",") {
		if name = strings.TrimSpace(name); name != "" {
			c.domains = append(c.domains, name)
		}
	}
	switch ch := c.acme.challenge; ch {
	case "both", "http-01", "tls-alpn-01":
	default:
		return c.optionError("acme-challenge", errors.New("must be http-01, tls-alpn-01 or both"))
	}
	if len(c.domains) == 0 {
		if c.from["http-bind"] != "" && c.httpBind != "" {
			return c.optionError("http-bind", errors.New("requires -domain: without a host name there is no "+
				"HTTPS address to redirect to"))
		}
		c.httpBind = ""
		return nil
	}
	if !c.https {
		return c.optionError("domain", errors.New("conflicts with -https=false: automatic certificates "+
			"require HTTPS; remove one of the two"))
	}
	if c.email == "" && !c.acme.agree {
		return c.optionError("domain", errors.New("requires -email ADDRESS, a contact address for the CA, "+
			"or -acme-agree: either one agrees to the CA's terms of service"))
	}
	if c.from["bind"] == "" {
		c.bind = ":443"
	}
	if c.httpBind == "" {
		return nil
	}
	return c.checkAddress("http-bind", c.httpBind)
}

func (c *config) resolveMetrics() error {
	for name := range strings.SplitSeq(c.metricsHosts, ",") {
		name = strings.ToLower(strings.TrimSpace(name))
		if strings.ContainsAny(name, "/: \t") {
			return c.optionError("metrics-hosts", fmt.Errorf("%q must be a host name without scheme, port "+
				"or path, such as monitor.example.org", name))
		}
		if name != "" {
			c.metricsNames = append(c.metricsNames, name)
		}
	}
	if c.metricsBind == "" {
		return nil
	}
	return c.checkAddress("metrics-bind", c.metricsBind)
}

// resolveProxies parses the trusted networks. A single address is a network of one.
func (c *config) resolveProxies() error {
	if c.trustedProxies == "" {
		if c.proxyProtocol {
			return c.optionError("proxy-protocol", errors.New("requires -trusted-proxies: without it any "+
				"client could claim any address"))
		}
		return nil
	}
	for text := range strings.SplitSeq(c.trustedProxies, ",") {
		text = strings.TrimSpace(text)
		p, err := netip.ParsePrefix(text)
		if err != nil {
			var addr netip.Addr
			if addr, err = netip.ParseAddr(text); err == nil {
				p, err = addr.Prefix(addr.BitLen())
			}
		}
		if err != nil {
			return c.optionError("trusted-proxies", fmt.Errorf("%q is not a network: must be an address "+
				"such as 192.0.2.1 or a network such as 10.0.0.0/8", text))
		}
		c.proxies = append(c.proxies, p)
	}
	return nil
}

// resolveAuto replaces auto values, given the available memory in bytes and the limit
// of open files; 0 means unknown.
func (c *config) resolveAuto(memory, files int64) {
	const (
		queued       = 256 << 20
		bytesPerConn = 64 << 10 // of a connection with TLS and HTTP/2, buffers included
		spareFiles   = 64       // descriptors for everything else
		fallbackMax  = 1 << 20  // if neither memory nor files are known
	)
	if c.maxMemory == auto {
		c.maxMemory = memory / 4 * 3
	}
	if c.maxQueuedBytes == auto {
		if c.maxQueuedBytes = queued; c.maxMemory > 0 {
			c.maxQueuedBytes = min(queued, c.maxMemory/3)
		}
	}
	if c.maxConns == auto {
		if c.maxConns = fallbackMax; c.maxMemory > 0 {
			c.maxConns = max(1, min(c.maxConns, c.maxMemory/3/bytesPerConn))
		}
		if files > 0 {
			c.maxConns = max(1, min(c.maxConns, files-spareFiles-limits.MaxTarpittedConns))
		}
	}
}

func (c *config) checkBind() error {
	if path, ok := strings.CutPrefix(c.bind, "unix:"); ok {
		if path == "" {
			return c.optionError("bind", errors.New("must name a path, such as unix:/run/inbox.sock"))
		}
		return nil
	}
	return c.checkAddress("bind", c.bind)
}

func (c *config) checkAddress(name, address string) error {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil || port == "" {
		return c.optionError(name, errors.New("must be an address and a port, such as 0.0.0.0:3000, "+
			"[::1]:3000 or :3000"))
	}
	return nil
}

func (c *config) resolveOrigins() error {
	if c.corsOrigins == "" {
		return nil
	}
	if c.cors {
		return c.optionError("cors-origins", errors.New("conflicts with -cors, which allows every origin; "+
			"remove one of the two"))
	}
	for origin := range strings.SplitSeq(c.corsOrigins, ",") {
		origin = strings.TrimSpace(origin)
		u, err := url.Parse(origin)
		if err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != origin || !isSerializedOrigin(u) {
			return c.optionError("cors-origins", fmt.Errorf("%q is not an origin: must be scheme and host "+
				"as sent by browsers, such as https://example.org, in ASCII, without wildcard, default port "+
				"or trailing slash", origin))
		}
		c.origins = append(c.origins, origin)
	}
	return nil
}

// isSerializedOrigin reports whether browsers send u in this form (RFC 6454). An origin
// with a wildcard, a default port or non-ASCII letters would never match.
func isSerializedOrigin(u *url.URL) bool {
	for _, c := range u.Host {
		if c == '*' || c > 0x7e {
			return false
		}
	}
	return !(u.Scheme == "https" && u.Port() == "443" || u.Scheme == "http" && u.Port() == "80")
}

func (c *config) resolveICE() error {
	if strings.HasPrefix(strings.TrimSpace(c.iceServers), "[") {
		// Not optionError, which would repeat the credentials.
		return errors.New("-ice-servers: inline JSON is not accepted; write it to a file and give the path " +
			"of the file")
	}
	text, err := readICEServers(c.iceServers)
	if err == nil {
		c.ice, err = inbox.ParseICEServers(text)
	}
	if err != nil && strings.ContainsAny(c.iceServers, "@?") {
		return fmt.Errorf("-ice-servers: %w", err) // not optionError: a URL could contain a password
	}
	if err != nil {
		return c.optionError("ice-servers", err)
	}
	return nil
}

// readICEServers returns value if it consists of URLs, or else the text of the file
// that it names. Credentials belong in the file: other users can read a command line.
func readICEServers(value string) (string, error) {
	if value == "" || isICEServerList(value) {
		return value, nil
	}
	text, err := readSmallFile(value)
	if err != nil {
		return "", fmt.Errorf("must be stun: URLs or a readable file: %w", err)
	}
	if !strings.HasPrefix(strings.TrimSpace(text), "[") {
		return "", errors.New(`the file must contain a JSON array, such as [{"urls": "stun:stun.example.org"}]`)
	}
	return text, nil
}

// isICEServerList reports whether -ice-servers holds URLs instead of the path of a file.
func isICEServerList(value string) bool {
	scheme, _, isURL := strings.Cut(strings.TrimSpace(value), ":")
	for _, s := range []string{"stun", "stuns", "turn", "turns"} {
		if isURL && strings.EqualFold(scheme, s) {
			return true
		}
	}
	return false
}

func (c *config) resolveLog() error {
	if c.logFormat != "text" && c.logFormat != "json" {
		return c.optionError("log-format", errors.New("must be text or json"))
	}
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	level, ok := levels[c.logLevel]
	if !ok {
		return c.optionError("log-level", errors.New("must be debug, info, warn or error"))
	}
	c.level = level
	return nil
}

func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }
