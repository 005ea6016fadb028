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

	"inbox/inbox"
)

// maxSeconds is about thirty years: more is a slip, and could overflow a Duration.
const maxSeconds = 1_000_000_000

// resolve refuses what makes no sense, with the option and where its value
// came from, and settles what follows from the options.
func (c *config) resolve() error {
	for _, check := range []func() error{
		c.checkDoctor, c.checkNumbers, c.checkQueue, c.resolvePoll, c.resolveDomains, c.resolveMetrics, c.checkBind, c.resolveProxies, c.resolveOrigins, c.resolveICE, c.resolveStore, c.resolveLog,
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
			return c.optionError(name, errors.New("is for the doctor: inbox doctor -"+name))
		}
	}
	return nil
}

// optionError names an option, its value and where that came from.
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

// checkQueue refuses a queue that never takes the largest message.
func (c *config) checkQueue() error {
	for name, size := range map[string]int64{"max-queued-bytes": c.maxQueuedBytes, "max-queued-bytes-per-ip": c.maxQueuedBytesPerIP} {
		if c.from[name] != "" && 0 < size && size < c.maxBodySize {
			return c.optionError(name, fmt.Errorf("must be 0, or at least -max-body-size, which is %d: the largest message would never fit", c.maxBodySize))
		}
	}
	return nil
}

// resolvePoll settles how long a poll is held. A poll must end well before its
// inbox does, so only a wait that was asked for can contradict the timeout.
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
		return c.optionError("poll-timeout", fmt.Errorf("must be less than -inbox-timeout, which is %d: "+
			"an inbox must not end while its owner waits", c.inboxTimeout))
	}
	return nil
}

// resolveDomains settles where a server with names listens. What the names and
// the authority must be like, tlsmgr knows.
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
	if acmeEngines[c.acme.engine] == nil {
		return c.optionError("acme", errors.New("must be certmagic or autocert"))
	}
	if len(c.domains) == 0 {
		if c.from["http-bind"] != "" && c.httpBind != "" {
			return c.optionError("http-bind", errors.New("needs -domain: without a name there is nowhere to lead to"))
		}
		c.httpBind = ""
		return nil
	}
	if !c.https {
		return c.optionError("domain", errors.New("contradicts -https=false: a certificate needs HTTPS; give one of the two"))
	}
	if c.email == "" && !c.acme.agree {
		return c.optionError("domain", errors.New("needs -email ADDRESS, to which the certificate authority may write, or -acme-agree: "+
			"either says that you agree to its terms"))
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
			return c.optionError("metrics-hosts", fmt.Errorf("%q must be a name alone, like monitor.example.org", name))
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

// resolveProxies reads the networks; a single address is one.
func (c *config) resolveProxies() error {
	if c.trustedProxies == "" {
		if c.proxyProtocol {
			return c.optionError("proxy-protocol", errors.New("needs -trusted-proxies: without it anyone could say to be anyone"))
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
			return c.optionError("trusted-proxies", fmt.Errorf("%q is no network; write an address like 192.0.2.1 or a network like 10.0.0.0/8", text))
		}
		c.proxies = append(c.proxies, p)
	}
	return nil
}

// resolveAuto chooses what was left to the machine.
func (c *config) resolveAuto(memory, files int64) {
	const (
		queued       = 256 << 20
		bytesPerConn = 64 << 10 // of a connection with TLS and HTTP/2, and what it holds
		spareFiles   = 64       // files for everything else
		fallbackMax  = 1 << 20  // where neither memory nor files can be told
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
			c.maxConns = max(1, min(c.maxConns, files-spareFiles-maxTarpittedConns))
		}
	}
}

func (c *config) checkBind() error {
	if path, ok := strings.CutPrefix(c.bind, "unix:"); ok {
		if path == "" {
			return c.optionError("bind", errors.New("must name a path, like unix:/run/inbox.sock"))
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
		return c.optionError(name, errors.New("must be an address and a port, like 0.0.0.0:3000, [::1]:3000 or :3000"))
	}
	return nil
}

func (c *config) resolveOrigins() error {
	if c.corsOrigins == "" {
		return nil
	}
	if c.cors {
		return c.optionError("cors-origins", errors.New("contradicts -cors, which allows every origin; give one of the two"))
	}
	for origin := range strings.SplitSeq(c.corsOrigins, ",") {
		origin = strings.TrimSpace(origin)
		u, err := url.Parse(origin)
		if err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != origin || !isSerializedOrigin(u) {
			return c.optionError("cors-origins", fmt.Errorf("%q is no origin; write it as browsers do, like https://example.org: scheme and host, in ASCII, without wildcard, default port or final slash", origin))
		}
		c.origins = append(c.origins, origin)
	}
	return nil
}

// isSerializedOrigin is false for an origin that no browser sends, so that it would
// never match: with a wildcard, a default port, or letters beyond ASCII.
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
		// Not refuse: it would repeat the credentials.
		return errors.New("-ice-servers: put the JSON into a file, and give its path")
	}
	text, err := readICEServers(c.iceServers)
	if err == nil {
		c.ice, err = inbox.ParseICEServers(text)
	}
	if err != nil {
		return c.optionError("ice-servers", err)
	}
	return nil
}

// readICEServers takes what looks like URLs for URLs, and all else for a file's path.
// Credentials belong into the file: others can read a command line.
func readICEServers(value string) (string, error) {
	if value == "" || isICEServerList(value) {
		return value, nil
	}
	text, err := readSmallFile(value)
	if err != nil {
		return "", fmt.Errorf("neither stun: URLs nor a file that can be read: %w", err)
	}
	if !strings.HasPrefix(strings.TrimSpace(text), "[") {
		return "", errors.New(`the file must hold a JSON array, like [{"urls": "stun:stun.example.org"}]`)
	}
	return text, nil
}

// isICEServerList reports whether -ice-servers holds URLs instead of the path of a file.
func isICEServerList(value string) bool {
	for _, scheme := range []string{"stun:", "stuns:", "turn:", "turns:"} {
		if strings.HasPrefix(strings.TrimSpace(value), scheme) {
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
