package main

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"inbox/cmd/inbox/internal/host"
	"inbox/inbox"
)

// config holds every option as given, and the settings that resolve derives from them.
type config struct {
	bind, public            string
	https, cors             bool
	corsOrigins, iceServers string
	serverCert, serverKey   string
	domain, email, httpBind string
	acme                    acmeOptions
	store                   storeOptions
	inboxTimeout            int64
	inboxCapacity           int64
	cleanupInterval         int64
	longPolling             bool
	pollTimeout             int64
	maxBodySize             int64
	maxHeaderSize           int64
	maxInboxes              int64
	maxInboxesPerIP         int64
	maxQueuedBytes          int64
	maxQueuedBytesPerIP     int64
	maxMemory               int64
	maxConns, maxConnsPerIP int64
	connRate, rate, burst   int64
	rateDryRun              bool
	trustedProxies          string
	clientHeader            string
	proxyProtocol           bool
	state, file             string
	logFormat, logLevel     string
	metricsBind             string
	metricsHosts            string
	version                 bool
	doctor                  bool // the command is inbox doctor
	asJSON, renewTest       bool // options of inbox doctor

	flags       *flag.FlagSet
	from        map[string]string // source of each option's value; absent: the default
	unknownVars []string          // INBOX_ variables that match no option

	origins []string
	domains []string

	metricsNames []string // host names that the metrics listener accepts
	proxies      []netip.Prefix
	ice          []inbox.ICEServer
	level        slog.Level
	pollWait     time.Duration // how long a GET of an empty mailbox is held; 0: not held
}

// optionGroup is a set of related options under one heading in -h.
type optionGroup struct {
	title string
	flags *flag.FlagSet
}

// optionGroups is the table of all options: name, default and help, in the order of -h.
// A word in back quotes in the help text names the value.
func (c *config) optionGroups() []optionGroup {
	return []optionGroup{
		{"Server", c.servingFlags()},
		{"Certificate files", c.certificateFlags()},
		{"Automatic certificates (ACME)", c.acmeFlags()},
		{"Mailboxes", c.mailboxFlags()},
		{"Limits (0: unlimited)", c.limitFlags()},
		{"Reverse proxy", c.proxyFlags()},
		{"Operation", c.operationFlags()},
		{"Only for inbox doctor", c.doctorFlags()},
	}
}

func (c *config) servingFlags() *flag.FlagSet {
	fs := newFlagSet()
	fs.StringVar(&c.bind, "bind", "0.0.0.0:3000", "`address` and port to listen on, or unix:/path for a "+
		"Unix socket; port 0 selects a free port; with -domain the default is :443")
	fs.BoolVar(&c.https, "https", true, "serve HTTPS; -https=false serves plain HTTP, for use behind a TLS "+
		"proxy or for development")
	fs.StringVar(&c.public, "public", "public", "`directory` of the pages to serve; empty for the built-in "+
		"pages, which are also the default if ./public does not exist or contains the source of this "+
		"program (public.go)")
	fs.BoolVar(&c.cors, "cors", false, "allow cross-origin requests from every site (CORS)")
	fs.StringVar(&c.corsOrigins, "cors-origins", "", "comma-separated `origins` that can make cross-origin "+
		"requests, such as https://example.org")
	fs.StringVar(&c.iceServers, "ice-servers", "", "ICE `servers` returned by GET /ice: comma-separated "+
		"stun: URLs, or the path of a JSON file with an array of {urls, username, credential}, which turn: "+
		"URLs require")
	return fs
}

func (c *config) certificateFlags() *flag.FlagSet {
	fs := newFlagSet()
	fs.StringVar(&c.serverCert, "server-cert", "server.crt", "certificate chain `file` (PEM); if neither it "+
		"nor -server-key exists, the server uses a self-signed certificate; with -domain, the files are "+
		"used until the CA has issued a certificate")
	fs.StringVar(&c.serverKey, "server-key", "server.key", "private key `file` (PEM)")
	return fs
}

// acmeOptions select the CA and the way certificates are ordered.
type acmeOptions struct {
	engine, challenge, profile string
	ca, second                 caOptions
	agree, staging             bool
	stagingFirst, preflight    bool
}

type caOptions struct{ url, root, keyID, keyFile string }

func (c *config) acmeFlags() *flag.FlagSet {
	fs := newFlagSet()
	a := &c.acme
	fs.StringVar(&c.domain, "domain", "", "comma-separated host `names` or IP addresses of this server; "+
		"certificates are obtained and renewed automatically")
	fs.StringVar(&c.email, "email", "", "contact `address` for the CA; giving one agrees to the CA's terms "+
		"of service")
	fs.StringVar(&c.httpBind, "http-bind", ":80", "`address` and port for plain HTTP, which answers ACME "+
		"challenges and redirects everything else to HTTPS; only with -domain; empty to disable")
	fs.StringVar(&a.engine, "acme", "certmagic", "ACME client `engine`: certmagic or autocert")
	fs.BoolVar(&a.agree, "acme-agree", false, "agree to the CA's terms of service without giving an e-mail address")
	fs.StringVar(&a.ca.url, "acme-ca", "", "ACME directory `URL` of the CA; empty for Let's Encrypt")
	fs.StringVar(&a.ca.root, "acme-root", "", "`file` of root certificates (PEM) to trust when connecting "+
		"to a private CA")
	fs.StringVar(&a.ca.keyID, "acme-eab-kid", "", "key `id` for external account binding (EAB)")
	fs.StringVar(&a.ca.keyFile, "acme-eab-key", "", "`file` with the MAC key for external account binding, "+
		"in base64url")
	fs.StringVar(&a.second.url, "acme-ca2", "", "ACME directory `URL` of a fallback CA, used when the first CA fails")
	fs.StringVar(&a.second.root, "acme-ca2-root", "", "`file` of root certificates, like -acme-root, for "+
		"the fallback CA")
	fs.StringVar(&a.second.keyID, "acme-ca2-eab-kid", "", "key `id`, like -acme-eab-kid, for the fallback CA")
	fs.StringVar(&a.second.keyFile, "acme-ca2-eab-key", "", "`file` with the MAC key, like -acme-eab-key, "+
		"for the fallback CA")
	fs.StringVar(&a.challenge, "acme-challenge", "both", "challenge `type`: http-01 (port 80), tls-alpn-01 "+
		"(port 443), or both")
	fs.StringVar(&a.profile, "acme-profile", "", "certificate `profile` to request; empty for the CA's "+
		"default, or shortlived for IP addresses")
	fs.BoolVar(&a.staging, "acme-staging", false, "use the Let's Encrypt staging environment, whose "+
		"certificates browsers do not trust")
	fs.BoolVar(&a.stagingFirst, "acme-staging-first", true, "place the first order in the staging "+
		"environment, so that a closed port does not count against rate limits")
	fs.BoolVar(&a.preflight, "acme-preflight", true, "log the doctor's findings before a first order, and "+
		"delay the order for a name until the name has an address")
	return fs
}

func (c *config) mailboxFlags() *flag.FlagSet {
	fs := newFlagSet()
	intVar(fs, &c.inboxTimeout, "inbox-timeout", 60, "`seconds` without a request from its owner after "+
		"which an inbox is deleted and its name is released")
	intVar(fs, &c.inboxCapacity, "inbox-capacity", 100, "maximum `number` of messages in one inbox; 0 for no limit")
	intVar(fs, &c.cleanupInterval, "cleanup-interval", 1, "`seconds` between cleanups of expired inboxes")
	fs.BoolVar(&c.longPolling, "long-polling", true, "hold a GET of an empty inbox until a message arrives")
	intVar(fs, &c.pollTimeout, "poll-timeout", 25, "`seconds` to hold a GET of an empty inbox, and the "+
		"maximum for ?wait=; the default is at most half of -inbox-timeout")
	fs.StringVar(&c.store.rawAddress, "store", "", "`address` of a Redis or Valkey store that several "+
		"servers share: redis://host:6379, rediss:// for TLS, redis-sentinel://host,host/master; several "+
		"comma-separated hosts form a cluster; empty to keep mailboxes in the memory of this server")
	fs.StringVar(&c.store.file, "store-file", "", "`file` with the address of the store; preferable if it "+
		"contains a password")
	fs.StringVar(&c.store.ca, "store-ca", "", "`file` of CA certificates (PEM) to trust when connecting to "+
		"the store; empty for the system's")
	fs.StringVar(&c.store.keyFile, "store-key-file", "", "`file` with a key of 32 random bytes in base64, "+
		"the same on all servers, so that the store cannot read names, messages or certificates; without "+
		"it, the store can read messages; required with -domain")
	intVar(fs, &c.store.replicas, "store-replicas", 0, "`number` of store replicas that must confirm a "+
		"message before it is accepted or delivered, so that a failover loses none; 0 to wait for none")
	return fs
}

func (c *config) limitFlags() *flag.FlagSet {
	fs := newFlagSet()
	intVar(fs, &c.maxBodySize, "max-body-size", 1<<20, "maximum size of a message in `bytes`; at least 1")
	intVar(fs, &c.maxHeaderSize, "max-header-size", 16<<10, "maximum size of a request header in `bytes`; at least 1")
	intVar(fs, &c.maxInboxes, "max-inboxes", 100_000, "maximum `number` of inboxes")
	intVar(fs, &c.maxInboxesPerIP, "max-inboxes-per-ip", 1000, "maximum `number` of inboxes claimed by one "+
		"client address (IPv4, or IPv6 /64)")
	autoVar(fs, &c.maxQueuedBytes, "max-queued-bytes", "maximum size of all unread messages in `bytes`; "+
		"auto is 256 MiB, or a third of -max-memory if that is less")
	intVar(fs, &c.maxQueuedBytesPerIP, "max-queued-bytes-per-ip", 32<<20, "maximum size of the unread "+
		"messages sent by one client address (IPv4, or IPv6 /64) in `bytes`; shrinks as the server fills")
	autoVar(fs, &c.maxMemory, "max-memory", "soft limit of memory use in `bytes`; auto is three quarters of "+
		"the memory of the machine or container")
	autoVar(fs, &c.maxConns, "max-conns", "maximum `number` of concurrent connections; auto is the open "+
		"file limit less a reserve, or a third of -max-memory at 64 KiB per connection if that is less")
	intVar(fs, &c.maxConnsPerIP, "max-conns-per-ip", 256, "maximum `number` of concurrent connections, and "+
		"of held requests, per client address")
	intVar(fs, &c.connRate, "conn-rate", 50, "`number` of new connections per second from one client "+
		"address, with bursts of five times as many")
	intVar(fs, &c.rate, "rate", 40, "`number` of requests per second from one client address; 0 also "+
		"disables the limits on guessing passwords and names")
	intVar(fs, &c.burst, "burst", 600, "`number` of requests that a client address can send at once before "+
		"-rate applies; at least 1")
	fs.BoolVar(&c.rateDryRun, "rate-dry-run", false, "count what the limits per client address would "+
		"reject, without rejecting anything")
	return fs
}

func (c *config) proxyFlags() *flag.FlagSet {
	fs := newFlagSet()
	fs.StringVar(&c.trustedProxies, "trusted-proxies", "", "comma-separated `networks` of reverse proxies, "+
		"such as 10.0.0.0/8 or 192.0.2.1; their client-address header is trusted")
	fs.StringVar(&c.clientHeader, "client-header", "X-Forwarded-For", "header `field` in which trusted "+
		"proxies pass the client address: X-Forwarded-For, Forwarded, or another field that holds an address")
	fs.BoolVar(&c.proxyProtocol, "proxy-protocol", false, "require the PROXY protocol (version 1 or 2) from "+
		"trusted proxies, and reject all other connections")
	return fs
}

func (c *config) operationFlags() *flag.FlagSet {
	fs := newFlagSet()
	fs.StringVar(&c.state, "state", "", "`directory` for data that survives a restart: certificates, the "+
		"secret for password hashes and, while no server runs, the mailboxes; empty for $STATE_DIRECTORY, "+
		"or else the user's state directory")
	fs.StringVar(&c.metricsBind, "metrics-bind", "", "`address` and port for Prometheus metrics, "+
		"certificate status and profiling; do not expose it publicly; empty to disable")
	fs.StringVar(&c.metricsHosts, "metrics-hosts", "", "comma-separated host `names` that metrics requests "+
		"can use, in addition to IP addresses and localhost")
	fs.StringVar(&c.file, "config", "", "configuration `file` with one option per line, as in "+
		"\"inbox-timeout 120\"; lines that begin with # are comments")
	fs.StringVar(&c.logFormat, "log-format", "text", "log `format`: text or json")
	fs.StringVar(&c.logLevel, "log-level", "info", "minimum log `level`: debug (includes every request), "+
		"info, warn or error")
	fs.BoolVar(&c.version, "version", false, "print the version and exit")
	return fs
}

func (c *config) doctorFlags() *flag.FlagSet {
	fs := newFlagSet()
	fs.BoolVar(&c.asJSON, "json", false, "print the findings as JSON")
	fs.BoolVar(&c.renewTest, "renew-test", false, "order a test certificate from the staging environment or "+
		"from -acme-ca and discard it; a server that uses the same state directory keeps running")
	return fs
}

func newFlagSet() *flag.FlagSet {
	fs := flag.NewFlagSet("inbox", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	return fs
}

// newConfig returns the default configuration, whose c.flags set its fields.
func newConfig() *config {
	c := &config{flags: newFlagSet(), from: map[string]string{}}
	for _, g := range c.optionGroups() {
		g.flags.VisitAll(func(f *flag.Flag) { c.flags.Var(f.Value, f.Name, f.Usage) })
	}
	return c
}

// intValue is a whole number. Unlike the flag package's own type, its parse error
// says that a whole number is expected.
type intValue int64

func intVar(fs *flag.FlagSet, p *int64, name string, value int64, usage string) {
	*p = value
	fs.Var((*intValue)(p), name, usage)
}

func (v *intValue) String() string { return strconv.FormatInt(int64(*v), 10) }

func (v *intValue) Set(s string) error {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return fmt.Errorf("must be a whole number")
	}
	*v = intValue(n)
	return nil
}

// autoValue is a whole number, or auto, which resolveAuto replaces.
type autoValue int64

const auto = -1

func autoVar(fs *flag.FlagSet, p *int64, name, usage string) {
	*p = auto
	fs.Var((*autoValue)(p), name, usage)
}

func (v *autoValue) String() string {
	if *v == auto {
		return "auto"
	}
	return strconv.FormatInt(int64(*v), 10)
}

func (v *autoValue) Set(s string) error {
	if s == "auto" {
		*v = auto
		return nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return fmt.Errorf("must be a non-negative whole number or auto")
	}
	*v = autoValue(n)
	return nil
}

// usage returns the text of -h.
func usage() string {
	var b strings.Builder
	b.WriteString("Usage: inbox [options]\n       inbox doctor [options]   (checks options, ports, DNS and certificates)\n" +
		"       inbox version\n\n" +
		"A WebRTC signaling server. Every option can also be set in the environment\n" +
		"(-inbox-timeout as INBOX_INBOX_TIMEOUT) or in the -config file.\n")
	for _, g := range newConfig().optionGroups() {
		fmt.Fprintf(&b, "\n%s\n", g.title)
		g.flags.VisitAll(func(f *flag.Flag) { writeOption(&b, f) })
	}
	return b.String()
}

func writeOption(b *strings.Builder, f *flag.Flag) {
	value, meaning := flag.UnquoteUsage(f)
	fmt.Fprintf(b, "  -%s", f.Name)
	if value != "" {
		fmt.Fprintf(b, " %s", value)
	}
	shown := f.DefValue
	if shown == "" {
		shown = "empty"
	}
	fmt.Fprintf(b, "\n%s\n", host.Wrap(meaning+" (default "+shown+")", "        ", 80))
}
