package config

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
	"unicode"

	"inbox/inbox"
	"inbox/tlsmgr/acme"
)

// maxSeconds is about thirty years. A larger value is a mistake, and could overflow a
// Duration.
const maxSeconds = 1_000_000_000

// Facts describes the machine that the server runs on.
type Facts struct {
	MemoryBytes int64 // available memory; 0: unknown
	OpenFiles   int64 // limit of open files; 0: unknown
	Getenv      func(name string) string
}

// Resolve validates the options, reads the files that they name, and derives the
// configuration. An error names the option and the source of its value, but never a
// secret.
func Resolve(o *Options, facts Facts) (*Config, error) {
	r := &resolver{o, facts, &Config{}}
	for _, step := range []func() error{
		r.checkDoctor, r.checkNumbers, r.checkQueue, r.resolvePoll, r.resolveDomains, r.resolveMetrics,
		r.resolveBind, r.resolveProxies, r.resolveOrigins, r.resolveICE, r.resolveStore, r.resolveLog,
		r.resolveFiles,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	r.resolveLimits()
	r.warnUnknownVars()
	r.warnNoEffect()
	return r.c, nil
}

// resolver derives the configuration c. It never changes the options.
type resolver struct {
	o     *Options
	facts Facts
	c     *Config
}

func (r *resolver) checkDoctor() error {
	for name, given := range map[string]bool{"json": r.o.asJSON, "renew-test": r.o.renewTest} {
		if given && r.o.Command != Doctor {
			return r.o.optionError(name, errors.New("applies only to the doctor: inbox doctor -"+name))
		}
	}
	r.c.Doctor = DoctorConfig{JSON: r.o.asJSON, RenewTest: r.o.renewTest}
	return nil
}

func (r *resolver) checkNumbers() error {
	o := r.o
	for _, limit := range []struct {
		name        string
		value       int64
		least, most int64
	}{
		{"inbox-timeout", o.inboxTimeout, 1, maxSeconds},
		{"inbox-capacity", o.inboxCapacity, 0, math.MaxInt32},
		{"cleanup-interval", o.cleanupInterval, 1, maxSeconds},
		{"poll-timeout", o.pollTimeout, 0, maxSeconds},
		{"max-body-size", o.maxBodySize, 1, math.MaxInt32},
		{"max-header-size", o.maxHeaderSize, 1, 1 << 30},
		{"max-inboxes", o.maxInboxes, 0, math.MaxInt32},
		{"max-inboxes-per-ip", o.maxInboxesPerIP, 0, math.MaxInt32},
		{"max-queued-bytes-per-ip", o.maxQueuedBytesPerIP, 0, math.MaxInt64},
		{"max-conns-per-ip", o.maxConnsPerIP, 0, math.MaxInt32},
		{"conn-rate", o.connRate, 0, math.MaxInt32},
		{"rate", o.rate, 0, math.MaxInt32},
		{"burst", o.burst, 1, math.MaxInt32},
	} {
		if limit.value < limit.least || limit.value > limit.most {
			return o.optionError(limit.name, fmt.Errorf("must be from %d to %d", limit.least, limit.most))
		}
	}
	return nil
}

// checkQueue rejects a queue that can never hold the largest message.
func (r *resolver) checkQueue() error {
	o := r.o
	for name, size := range map[string]int64{"max-queued-bytes": o.maxQueuedBytes, "max-queued-bytes-per-ip": o.maxQueuedBytesPerIP} {
		if o.from[name] != "" && 0 < size && size < o.maxBodySize {
			return o.optionError(name, fmt.Errorf("must be 0, or at least -max-body-size (%d), or the "+
				"largest message would never fit", o.maxBodySize))
		}
	}
	return nil
}

// resolvePoll determines how long a poll waits. A poll must end well before its inbox
// expires, so the default is lowered to fit -inbox-timeout; an explicit value that does
// not fit is an error.
func (r *resolver) resolvePoll() error {
	if !r.o.longPolling {
		return nil
	}
	wait, expiry := seconds(r.o.pollTimeout), seconds(r.o.inboxTimeout)
	if r.o.from["poll-timeout"] == "" {
		wait = min(wait, expiry/2)
	}
	if wait >= expiry {
		return r.o.optionError("poll-timeout", fmt.Errorf("must be less than -inbox-timeout (%d), or an inbox "+
			"would expire while its owner polls", r.o.inboxTimeout))
	}
	r.c.PollTimeout = wait
	return nil
}

// resolveDomains resolves the options of automatic certificates. tlsmgr validates the
// CAs, and the combination of options.
func (r *resolver) resolveDomains() error {
	o, a := r.o, r.o.acme
	if err := r.checkDomains(); err != nil {
		return err
	}
	r.c.Domains = splitList(o.domain)
	r.c.ACME = ACME{
		Engine: a.engine, Email: o.email, Agreed: a.agree, CA: a.ca, FallbackCA: a.fallback,
		Staging: a.staging, StagingFirst: a.stagingFirst, Profile: a.profile, Preflight: a.preflight,
		NoHTTP01: a.challenge == "tls-alpn-01", NoTLSALPN01: a.challenge == "http-01",
		Given: r.givenACME(),
	}
	r.c.HTTPBind = Address{Option: "http-bind", From: o.from["http-bind"]}
	switch given := o.from["http-bind"] != "" && o.httpBind != ""; {
	case a.challenge != "both" && a.challenge != "http-01" && a.challenge != "tls-alpn-01":
		return o.optionError("acme-challenge", errors.New("must be http-01, tls-alpn-01 or both"))
	case a.engine != "certmagic" && a.engine != "autocert":
		return o.optionError("acme", errors.New("must be certmagic or autocert"))
	case len(r.c.Domains) == 0 && given:
		return o.optionError("http-bind", errors.New("requires -domain: without a host name there is no "+
			"HTTPS address to redirect to"))
	case len(r.c.Domains) == 0:
		return nil
	case !o.https:
		return o.optionError("domain", errors.New("conflicts with -https=false: automatic certificates "+
			"require HTTPS; remove one of the two"))
	case o.email == "" && !a.agree:
		return o.optionError("domain", errors.New("requires -email ADDRESS, a contact address for the CA, "+
			"or -acme-agree: either one agrees to the CA's terms of service"))
	case o.httpBind == "":
		return nil
	}
	r.c.HTTPBind.Value = o.httpBind
	return r.checkAddress(r.c.HTTPBind)
}

// checkDomains reports what is wrong with a name of -domain.
func (r *resolver) checkDomains() error {
	if r.o.domain != "" && len(splitList(r.o.domain)) == 0 {
		return r.o.optionError("domain", errors.New("contains no host name"))
	}
	for _, name := range splitList(r.o.domain) {
		if why := hostNameMistake(name); why != "" {
			return r.o.optionError("domain", fmt.Errorf("%q %s", name, why))
		}
		if _, err := acme.Names([]string{name}); err != nil {
			return r.o.optionError("domain", errors.New(strings.TrimPrefix(err.Error(), acme.ErrUsage.Error()+": ")))
		}
	}
	return nil
}

// hostNameMistake returns what is wrong with a host name for common mistakes; "" if it is
// none of them.
func hostNameMistake(name string) string {
	switch {
	case strings.ContainsAny(name, "\"'`“”„‘’«»"):
		return "contains a quotation mark; remove it"
	case strings.ContainsFunc(name, unicode.IsSpace) || strings.ContainsAny(name, ";|"):
		return "is not a host name; separate several names by commas"
	case strings.Contains(name, "://") || strings.ContainsAny(name, "/?#"):
		return "is a URL; write the host name only"
	case strings.Contains(name, "@"):
		return "is an e-mail address; write the host name only"
	case strings.Contains(name, "_"):
		return "contains an underscore, which host names and certificates cannot contain"
	}
	if host, _, err := net.SplitHostPort(name); err == nil && host != "" {
		return "contains a port; write the host name only, and set the port with -bind"
	}
	return ""
}

// givenACME lists the options of certificates that are given, with their sources.
func (r *resolver) givenACME() string {
	var given []string
	for _, name := range append([]string{"domain", "http-bind"}, noEffect[0].options...) {
		if from := r.o.from[name]; from != "" {
			given = append(given, fmt.Sprintf("-%s (from %s)", name, from))
		}
	}
	return strings.Join(given, ", ")
}

func (r *resolver) resolveMetrics() error {
	for _, name := range splitList(strings.ToLower(r.o.metricsHosts)) {
		if why := hostNameMistake(name); why != "" && !strings.Contains(why, "underscore") || strings.ContainsAny(name, "/: \t") {
			return r.o.optionError("metrics-hosts", fmt.Errorf("%q must be a host name without scheme, port "+
				"or path, such as monitor.example.org", name))
		}
		r.c.MetricsHosts = append(r.c.MetricsHosts, name)
	}
	r.c.MetricsBind = Address{"metrics-bind", r.o.metricsBind, r.o.from["metrics-bind"]}
	if r.o.metricsBind == "" {
		return nil
	}
	return r.checkAddress(r.c.MetricsBind)
}

// resolveBind determines the address of the main listener. It needs the domains.
func (r *resolver) resolveBind() error {
	r.c.HTTPS = r.o.https
	r.c.Bind = Address{"bind", r.o.bind, r.o.from["bind"]}
	if r.c.Bind.From == "" && len(r.c.Domains) > 0 {
		r.c.Bind.Value = ":443"
	}
	if path, ok := strings.CutPrefix(r.c.Bind.Value, "unix:"); ok {
		if path == "" {
			return r.o.optionError("bind", errors.New("must name a path, such as unix:/run/inbox.sock"))
		}
		return nil
	}
	return r.checkAddress(r.c.Bind)
}

func (r *resolver) checkAddress(a Address) error {
	host, port, err := net.SplitHostPort(a.Value)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil || port == "" || !isBindHost(host) {
		return r.o.optionError(a.Option, errors.New("must be an address and a port, such as 0.0.0.0:3000, "+
			"[::1]:3000 or :3000"))
	}
	return nil
}

// isBindHost reports whether a host can be listened on: all addresses, an address, or a
// name of this machine. Anything else would only be sent to DNS servers.
func isBindHost(host string) bool {
	if _, err := netip.ParseAddr(host); host == "" || err == nil {
		return true
	}
	return len(host) <= 253 && !strings.ContainsFunc(host, func(c rune) bool {
		return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_')
	})
}

// resolveProxies parses the trusted networks. A single address is a network of one.
func (r *resolver) resolveProxies() error {
	r.c.ClientHeader, r.c.ProxyProtocol = r.o.clientHeader, r.o.proxyProtocol
	if !isFieldName(r.o.clientHeader) {
		return r.o.optionError("client-header", errors.New("must be the name of one header field, such as X-Real-IP"))
	}
	if r.o.trustedProxies == "" {
		if r.o.proxyProtocol {
			return r.o.optionError("proxy-protocol", errors.New("requires -trusted-proxies: without it any "+
				"client could claim any address"))
		}
		return nil
	}
	for text := range strings.SplitSeq(r.o.trustedProxies, ",") {
		p, err := parseNetwork(strings.TrimSpace(text))
		if err != nil {
			return r.o.optionError("trusted-proxies", err)
		}
		r.c.TrustedProxies = append(r.c.TrustedProxies, p)
	}
	return nil
}

func parseNetwork(text string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p, nil
	}
	if addr, err := netip.ParseAddr(text); err == nil {
		if p, err := addr.Prefix(addr.BitLen()); err == nil { // fails with a zone
			return p, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("%q is not a network: must be an address such as 192.0.2.1 or a "+
		"network such as 10.0.0.0/8; separate several by commas", text)
}

// isFieldName reports whether name can be the name of a header field. An empty one is the
// default.
func isFieldName(name string) bool {
	return !strings.ContainsFunc(name, func(c rune) bool {
		return c <= ' ' || c >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, c)
	})
}

func (r *resolver) resolveOrigins() error {
	r.c.AnyOrigin = r.o.cors
	if r.o.corsOrigins == "" {
		return nil
	}
	if r.o.cors {
		return r.o.optionError("cors-origins", errors.New("conflicts with -cors, which allows every origin; "+
			"remove one of the two"))
	}
	for origin := range strings.SplitSeq(r.o.corsOrigins, ",") {
		origin = strings.TrimSpace(origin)
		if !isSerializedOrigin(origin) {
			return r.o.optionError("cors-origins", fmt.Errorf("%q is not an origin: must be scheme and host "+
				"as sent by browsers, such as https://example.org, in ASCII, without wildcard, default port "+
				"or trailing slash", origin))
		}
		r.c.Origins = append(r.c.Origins, origin)
	}
	return nil
}

// isSerializedOrigin reports whether browsers send an origin in this form (RFC 6454). An
// origin with a wildcard, a default port or non-ASCII letters would never match.
func isSerializedOrigin(origin string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != origin {
		return false
	}
	for _, c := range u.Host {
		if c > 0x7e || strings.ContainsRune("*;'\"`,!$&()+=~|^", c) {
			return false
		}
	}
	return !(u.Scheme == "https" && u.Port() == "443" || u.Scheme == "http" && u.Port() == "80")
}

func (r *resolver) resolveICE() error {
	if strings.HasPrefix(strings.TrimSpace(r.o.iceServers), "[") {
		// Not optionError, which would repeat the credentials.
		return errors.New("-ice-servers: inline JSON is not accepted; write it to a file and give the path " +
			"of the file")
	}
	text, err := readICEServers(r.o.iceServers)
	if err == nil {
		r.c.ICEServers, err = inbox.ParseICEServers(text)
	}
	if err != nil && strings.ContainsAny(r.o.iceServers, "@?") {
		return fmt.Errorf("-ice-servers: %w", err) // not optionError: a URL could contain a password
	}
	if err != nil {
		return r.o.optionError("ice-servers", err)
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

func (r *resolver) resolveLog() error {
	if r.o.logFormat != "text" && r.o.logFormat != "json" {
		return r.o.optionError("log-format", errors.New("must be text or json"))
	}
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	level, ok := levels[r.o.logLevel]
	if !ok {
		return r.o.optionError("log-level", errors.New("must be debug, info, warn or error"))
	}
	r.c.LogJSON, r.c.LogLevel = r.o.logFormat == "json", level
	return nil
}

func (r *resolver) resolveFiles() error {
	r.c.CertFile, r.c.KeyFile = r.o.serverCert, r.o.serverKey
	r.c.CertFilesGiven = r.o.from["server-cert"]+r.o.from["server-key"] != ""
	r.c.StateDir = stateDir(r.o.state, r.facts.Getenv)
	return r.resolvePages()
}

// resolveLimits converts the limits and replaces auto values.
func (r *resolver) resolveLimits() {
	const (
		queued       = 256 << 20
		bytesPerConn = 64 << 10 // of a connection with TLS and HTTP/2, buffers included
		fallbackMax  = 1 << 20  // if neither memory nor files are known
	)
	files := divideFiles(r.facts.OpenFiles, r.c.PagesDir != "")
	o, memory, queuedBytes, conns := r.o, r.o.maxMemory, r.o.maxQueuedBytes, r.o.maxConns
	if memory == auto {
		memory = r.facts.MemoryBytes / 4 * 3
	}
	if queuedBytes == auto {
		if queuedBytes = queued; memory > 0 {
			queuedBytes = min(queued, memory/3)
		}
	}
	if conns == auto {
		if conns = fallbackMax; memory > 0 {
			conns = max(1, min(conns, memory/3/bytesPerConn))
		}
		if files.Conns > 0 {
			conns = min(conns, files.Conns)
		}
	}
	r.c.Files = files
	r.c.MaxMemoryBytes, r.c.MaxBodyBytes, r.c.MaxHeaderBytes = memory, o.maxBodySize, o.maxHeaderSize
	r.c.MaxConns, r.c.MaxConnsPerIP, r.c.ConnRate = int(conns), int(o.maxConnsPerIP), int(o.connRate)
	r.c.Rate, r.c.Burst, r.c.DryRun = int(o.rate), int(o.burst), o.rateDryRun
	r.c.CleanupInterval = seconds(o.cleanupInterval)
	r.c.Mailboxes = inbox.Limits{
		Timeout:                seconds(o.inboxTimeout),
		Capacity:               int(o.inboxCapacity),
		MaxInboxes:             int(o.maxInboxes),
		MaxQueuedBytes:         queuedBytes,
		MaxInboxesPerPayer:     int(o.maxInboxesPerIP),
		MaxQueuedBytesPerPayer: o.maxQueuedBytesPerIP,
	}
}

// splitList splits a comma-separated list and drops empty elements.
func splitList(text string) (list []string) {
	for element := range strings.SplitSeq(text, ",") {
		if element = strings.TrimSpace(element); element != "" {
			list = append(list, element)
		}
	}
	return list
}

func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }
