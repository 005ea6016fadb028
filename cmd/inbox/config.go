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

	"inbox/cmd/inbox/text"
	"inbox/inbox"
)

// config is every option, as given, and what validate made of them.
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
	doctor                  bool // «inbox doctor»
	asJSON, renewTest       bool // for the doctor

	flags       *flag.FlagSet
	from        map[string]string // option to where its value came from; absent: the default
	unknownVars []string          // INBOX_ variables that are no option

	origins []string
	domains []string

	metricsNames []string // hosts that the metrics listener answers by name
	proxies      []netip.Prefix
	ice          []inbox.ICEServer
	level        slog.Level
	pollWait     time.Duration // how long an empty mailbox holds a GET; 0: not at all
}

// optionGroup is some options that belong together, under one heading in -h.
type optionGroup struct {
	title string
	flags *flag.FlagSet
}

// optionGroups is the one table of options: name, default, meaning, in the order of -h.
// A word between back quotes in the meaning stands for the value.
func (c *config) optionGroups() []optionGroup {
	return []optionGroup{
		{"Where and what it serves", c.servingFlags()},
		{"Certificate", c.certificateFlags()},
		{"Certificates from an authority", c.acmeFlags()},
		{"Mailboxes", c.mailboxFlags()},
		{"Limits (0: none)", c.limitFlags()},
		{"Behind a proxy", c.proxyFlags()},
		{"Operation", c.operationFlags()},
		{"For inbox doctor", c.doctorFlags()},
	}
}

func (c *config) servingFlags() *flag.FlagSet {
	fs := newFlagSet()
	fs.StringVar(&c.bind, "bind", "0.0.0.0:3000", "`address` and port to listen on, or unix:/path for a socket; port 0 takes any that is free; :443 when -domain is given and this is not")
	fs.BoolVar(&c.https, "https", true, "serve HTTPS; -https=false serves plain HTTP, for a proxy in front or for development")
	fs.StringVar(&c.public, "public", "public", "`directory` of the pages to serve; empty for the built-in pages, which also serve "+
		"when the option is not given and the working directory has no such directory, or one with this program's own source in it (public.go)")
	fs.BoolVar(&c.cors, "cors", false, "let the pages of every other site use the mailboxes")
	fs.StringVar(&c.corsOrigins, "cors-origins", "", "let the pages of these other sites use the mailboxes: `origins` like https://example.org, apart by commas")
	fs.StringVar(&c.iceServers, "ice-servers", "", "ICE `servers` that GET /ice hands to pages: stun: URLs apart by commas, "+
		"or the path of a JSON file with an array of {urls, username, credential}, as turn: URLs need it")
	return fs
}

func (c *config) certificateFlags() *flag.FlagSet {
	fs := newFlagSet()
	fs.StringVar(&c.serverCert, "server-cert", "server.crt", "certificate `file` (PEM, the chain); when neither it nor -server-key exists, "+
		"a self-signed certificate serves; with -domain they serve while there is none from the authority")
	fs.StringVar(&c.serverKey, "server-key", "server.key", "private key `file` (PEM)")
	return fs
}

// acmeOptions say which certificate authority is asked, and how.
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
	fs.StringVar(&c.domain, "domain", "", "`names` of this server, apart by commas; certificates for them are obtained and renewed by themselves. "+
		"A name may be an IP address")
	fs.StringVar(&c.email, "email", "", "`address` that the authority may write to; giving it agrees to the authority's terms")
	fs.StringVar(&c.httpBind, "http-bind", ":80", "`address` and port for plain HTTP, which answers the authority's challenges and leads everyone else "+
		"to HTTPS; only with -domain; empty for none")
	fs.StringVar(&a.engine, "acme", "certmagic", "`engine` that talks to the authority: certmagic or autocert")
	fs.BoolVar(&a.agree, "acme-agree", false, "agree to the authority's terms without giving an e-mail address")
	fs.StringVar(&a.ca.url, "acme-ca", "", "`URL` of the authority's directory; empty for Let's Encrypt")
	fs.StringVar(&a.ca.root, "acme-root", "", "`file` of PEM certificates that a private authority's own server is trusted by")
	fs.StringVar(&a.ca.keyID, "acme-eab-kid", "", "`id` of the account at the authority (external account binding)")
	fs.StringVar(&a.ca.keyFile, "acme-eab-key", "", "`file` with that account's MAC key, in base64url")
	fs.StringVar(&a.second.url, "acme-ca2", "", "`URL` of the directory of a second authority, asked when the first fails")
	fs.StringVar(&a.second.root, "acme-ca2-root", "", "`file` as -acme-root, for the second authority")
	fs.StringVar(&a.second.keyID, "acme-ca2-eab-kid", "", "`id` as -acme-eab-kid, for the second authority")
	fs.StringVar(&a.second.keyFile, "acme-ca2-eab-key", "", "`file` as -acme-eab-key, for the second authority")
	fs.StringVar(&a.challenge, "acme-challenge", "both", "`kind` of challenge to use: http-01 (port 80), tls-alpn-01 (port 443), or both")
	fs.StringVar(&a.profile, "acme-profile", "", "certificate `profile` to ask for; empty for the authority's default, and shortlived for IP addresses")
	fs.BoolVar(&a.staging, "acme-staging", false, "ask Let's Encrypt's staging environment, whose certificates no browser trusts")
	fs.BoolVar(&a.stagingFirst, "acme-staging-first", true, "try a first order at the staging environment, so that a closed port costs nothing")
	fs.BoolVar(&a.preflight, "acme-preflight", true, "wait with the order for a name until the name has an address")
	return fs
}

func (c *config) mailboxFlags() *flag.FlagSet {
	fs := newFlagSet()
	intVar(fs, &c.inboxTimeout, "inbox-timeout", 60, "`seconds` without a request of its owner after which an inbox is deleted and its name is free")
	intVar(fs, &c.inboxCapacity, "inbox-capacity", 100, "`number` of messages one inbox holds; 0 for no limit")
	intVar(fs, &c.cleanupInterval, "cleanup-interval", 1, "`seconds` between two times that the memory of deleted inboxes is freed")
	fs.BoolVar(&c.longPolling, "long-polling", true, "hold a GET of an empty inbox until a message comes")
	intVar(fs, &c.pollTimeout, "poll-timeout", 25, "`seconds` that a GET of an empty inbox is held, and the most that ?wait= may ask for; "+
		"when it is not given, at most half of -inbox-timeout")
	fs.StringVar(&c.store.rawAddress, "store", "", "`address` of a Redis or Valkey that several servers share: redis://host:6379, rediss:// for TLS, "+
		"redis-sentinel://host,host/master; several hosts, apart by commas, are a cluster; empty for this server's own memory")
	fs.StringVar(&c.store.file, "store-file", "", "`file` with that address, which is better when it holds a password")
	fs.StringVar(&c.store.ca, "store-ca", "", "`file` of PEM certificates that the store's own is trusted by; empty for the system's")
	fs.StringVar(&c.store.keyFile, "store-key-file", "", "`file` with 32 random bytes in base64, the same for all servers, which seal "+
		"names, messages and certificates before the store sees them; empty for messages that it can read, and not with -domain")
	intVar(fs, &c.store.replicas, "store-replicas", 0, "`number` of the store's replicas that must have a message before it is accepted or handed out, so that a failover loses none; "+
		"0 to wait for none")
	return fs
}

func (c *config) limitFlags() *flag.FlagSet {
	fs := newFlagSet()
	intVar(fs, &c.maxBodySize, "max-body-size", 1<<20, "`bytes` of one message; at least 1")
	intVar(fs, &c.maxHeaderSize, "max-header-size", 16<<10, "`bytes` of one request's header; at least 1")
	intVar(fs, &c.maxInboxes, "max-inboxes", 100_000, "`number` of inboxes in all")
	intVar(fs, &c.maxInboxesPerIP, "max-inboxes-per-ip", 1000, "`number` of inboxes that one address (IPv4, or IPv6 /64) has claimed")
	autoVar(fs, &c.maxQueuedBytes, "max-queued-bytes", "`bytes` of unread messages in all; auto is 256 MiB, or a third of -max-memory if that is less")
	intVar(fs, &c.maxQueuedBytesPerIP, "max-queued-bytes-per-ip", 32<<20, "`bytes` of unread messages that one address (IPv4, or IPv6 /64) has sent; "+
		"less as the server fills")
	autoVar(fs, &c.maxMemory, "max-memory", "`bytes` of memory that the server tries to stay below; auto is three quarters of the machine's or the container's")
	autoVar(fs, &c.maxConns, "max-conns", "`number` of connections at once in all; auto is what the limit of open files allows, or a third of -max-memory at 64 KiB each")
	intVar(fs, &c.maxConnsPerIP, "max-conns-per-ip", 256, "`number` of connections, and of held requests, at once of one address")
	intVar(fs, &c.connRate, "conn-rate", 50, "`number` of new connections a second of one address; five times as many at once")
	intVar(fs, &c.rate, "rate", 40, "`number` of requests a second of one address; 0 also lifts the limits on guessing")
	intVar(fs, &c.burst, "burst", 600, "`number` of requests of one address at once, before -rate counts")
	fs.BoolVar(&c.rateDryRun, "rate-dry-run", false, "count what the limits per address would refuse, and refuse nothing")
	return fs
}

func (c *config) proxyFlags() *flag.FlagSet {
	fs := newFlagSet()
	fs.StringVar(&c.trustedProxies, "trusted-proxies", "", "`networks` of proxies in front, like 10.0.0.0/8 or 192.0.2.1, apart by commas: "+
		"they are believed whom they ask for")
	fs.StringVar(&c.clientHeader, "client-header", "X-Forwarded-For", "`field` in which a trusted proxy says so: this, Forwarded, or another with an address")
	fs.BoolVar(&c.proxyProtocol, "proxy-protocol", false, "demand the PROXY protocol (version 1 or 2) of trusted proxies, and serve nobody else")
	return fs
}

func (c *config) operationFlags() *flag.FlagSet {
	fs := newFlagSet()
	fs.StringVar(&c.state, "state", "", "`directory` for what outlives a restart: the self-signed certificate, the secret of the password hashes and, while no server runs, the mailboxes; "+
		"empty for $STATE_DIRECTORY, else the user's own state directory")
	fs.StringVar(&c.metricsBind, "metrics-bind", "", "`address` and port for metrics (Prometheus), the state of certificates, and profiles; keep it from strangers; empty for none")
	fs.StringVar(&c.metricsHosts, "metrics-hosts", "", "`names` by which the metrics may be asked for, apart by commas, beside addresses and localhost")
	fs.StringVar(&c.file, "config", "", "`file` with one option a line, as «name value»; # begins a comment line")
	fs.StringVar(&c.logFormat, "log-format", "text", "`format` of the log: text or json")
	fs.StringVar(&c.logLevel, "log-level", "info", "least `level` that is logged: debug (each request), info, warn or error")
	fs.BoolVar(&c.version, "version", false, "print the version and exit")
	return fs
}

func (c *config) doctorFlags() *flag.FlagSet {
	fs := newFlagSet()
	fs.BoolVar(&c.asJSON, "json", false, "print what was found as JSON")
	fs.BoolVar(&c.renewTest, "renew-test", false, "make a whole order, at the staging environment or at -acme-ca; a server that runs on the same state directory goes on meanwhile, "+
		"and the certificate is thrown away")
	return fs
}

func newFlagSet() *flag.FlagSet {
	fs := flag.NewFlagSet("inbox", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	return fs
}

// newConfig returns the defaults, with c.flags to change them.
func newConfig() *config {
	c := &config{flags: newFlagSet(), from: map[string]string{}}
	for _, g := range c.optionGroups() {
		g.flags.VisitAll(func(f *flag.Flag) { c.flags.Var(f.Value, f.Name, f.Usage) })
	}
	return c
}

// intValue is a whole number; unlike the flag package's own it says so when it is not given one.
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

// autoValue is a whole number, or auto: one that validate chooses.
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
		return fmt.Errorf("must be a whole number, not negative, or auto")
	}
	*v = autoValue(n)
	return nil
}

// usage is the text of -h.
func usage() string {
	var b strings.Builder
	b.WriteString("Usage: inbox [options]\n       inbox doctor [options]   (looks for what would keep it from working)\n" +
		"       inbox version\n\n" +
		"A WebRTC signaling server. Each option may also be given in the environment\n" +
		"(-inbox-timeout as INBOX_INBOX_TIMEOUT) or in the file of -config.\n")
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
	fmt.Fprintf(b, "\n%s\n", text.Wrap(meaning+" (default "+shown+")", "        ", 80))
}
