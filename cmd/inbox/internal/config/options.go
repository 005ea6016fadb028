package config

import (
	"flag"
	"io"
	"math"
	"slices"
	"time"

	"inbox/cmd/inbox/internal/units"
	"inbox/tlsmgr/acme"
)

// Options has the options as given, with the source of each value. [Parse] returns
// it and [Resolve] turns it into a [Config].
type Options struct {
	Command Command
	Topic   string // of [Help]

	bind, public            string
	https, cors             bool
	corsOrigins, iceServers string
	compat, access          string
	serverCert, serverKey   string
	domain, email, httpBind string
	turn, turnBind          string
	turnRate, turnMonth     int64 // bits per second, bytes
	inboxTimeout            time.Duration
	inboxCapacity           int64
	cleanupInterval         time.Duration
	longPolling             bool
	pollTimeout             time.Duration
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
	state, file, envFile    string
	logFormat, logLevel     string
	metricsBind             string
	metricsHosts            string
	version                 bool
	asJSON, renewTest       bool
	dryRun                  bool
	label, revoke           string
	lifetime                time.Duration
	list                    bool

	acme struct { // the CA, and how certificates are ordered
		engine, challenge, profile string
		ca, fallback               acme.CA
		agree, staging             bool
		stagingFirst, preflight    bool
	}
	store struct { // that several nodes share
		address, file, ca, keyFile string
		replicas                   int64
	}

	groups      []optionGroup
	flags       *flag.FlagSet     // all groups; sets the fields above
	from        map[string]string // source of each option's value; absent: the default
	given       map[string]string // its text; absent: the default
	unknownVars []unknownVar
}

// optionGroup is a set of related options under one heading in -h.
type optionGroup struct {
	title string
	flags *flag.FlagSet
}

// Groups of options that other commands reject.
const (
	doctorGroup = "Only for inbox doctor"
	inviteGroup = "Only for inbox invite"
	setupGroup  = "Only for inbox setup"
)

// table is the table of all options: name, default and help, in the order of -h. A word
// in back quotes in the help text names the value. It sets all options to their defaults.
func (o *Options) table() []optionGroup {
	return []optionGroup{
		{"Server", o.servingFlags()},
		{"Certificate files", o.certificateFlags()},
		{"Automatic certificates (ACME)", o.acmeFlags()},
		{"Relay (STUN and TURN)", o.turnFlags()},
		{"Mailboxes", o.mailboxFlags()},
		{"Limits (0: unlimited)", o.limitFlags()},
		{"Reverse proxy", o.proxyFlags()},
		{"Operation", o.operationFlags()},
		{doctorGroup, o.doctorFlags()},
		{inviteGroup, o.inviteFlags()},
		{setupGroup, o.setupFlags()},
	}
}

func (o *Options) servingFlags() *flag.FlagSet {
	fs := newFlagSet()
	fs.StringVar(&o.bind, "bind", "0.0.0.0:3000", "`address` and port to listen on, or unix:/path for a "+
		"Unix socket; port 0 selects a free port; with -domain the default is :443")
	fs.BoolVar(&o.https, "https", true, "serve HTTPS; -https=false serves plain HTTP, for use behind a TLS "+
		"proxy or for development")
	fs.StringVar(&o.public, "public", "public", "`directory` of the pages to serve; empty for the built-in "+
		"pages, which are also the default if ./public does not exist or contains the source of this "+
		"program (public.go)")
	choiceVar(fs, &o.access, "access", "open", "`policy` for clients: open; or invited, so that mailboxes, topics and the relay "+
		"require an invitation (inbox invite), or the guest pass of a client that has one",
		"open", "invited")
	fs.BoolVar(&o.cors, "cors", false, "allow cross-origin requests from every site (CORS)")
	fs.StringVar(&o.corsOrigins, "cors-origins", "", "comma-separated `origins` that can make cross-origin "+
		"requests, such as https://example.org")
	fs.StringVar(&o.iceServers, "ice-servers", "", "ICE `servers` returned by GET /ice: comma-separated "+
		"stun: URLs, or the path of a JSON file with an array of {urls, username, credential}, which turn: "+
		"URLs require")
	fs.StringVar(&o.compat, "compat", "", "comma-separated `protocols` of other clients to serve: peerjs for those of "+
		"PeerJS, at / and /peerjs/; topics for those of y-webrtc and Trystero, at /topics; they need no change but the host")
	return fs
}

func (o *Options) certificateFlags() *flag.FlagSet {
	fs := newFlagSet()
	fs.StringVar(&o.serverCert, "server-cert", "server.crt", "certificate chain `file` (PEM); if neither it "+
		"nor -server-key exists, the server uses a self-signed certificate; with -domain, the files are "+
		"used until the CA has issued a certificate")
	fs.StringVar(&o.serverKey, "server-key", "server.key", "private key `file` (PEM)")
	return fs
}

func (o *Options) acmeFlags() *flag.FlagSet {
	fs := newFlagSet()
	a := &o.acme
	fs.StringVar(&o.domain, "domain", "", "comma-separated host `names` or IP addresses of this server; "+
		"certificates are obtained and renewed automatically")
	fs.StringVar(&o.email, "email", "", "contact `address` for the CA; giving one agrees to the CA's terms "+
		"of service")
	fs.StringVar(&o.httpBind, "http-bind", ":80", "`address` and port for plain HTTP, which answers ACME "+
		"challenges and redirects everything else to HTTPS; only with -domain; empty to disable")
	choiceVar(fs, &a.engine, "acme", "certmagic", "ACME client `engine`: certmagic or autocert", "certmagic", "autocert")
	fs.BoolVar(&a.agree, "acme-agree", false, "agree to the CA's terms of service without giving an e-mail address")
	fs.StringVar(&a.ca.URL, "acme-ca", "", "ACME directory `URL` of the CA; empty for Let's Encrypt")
	fs.StringVar(&a.ca.RootsFile, "acme-root", "", "`file` of root certificates (PEM) to trust when connecting "+
		"to a private CA")
	fs.StringVar(&a.ca.EABKeyID, "acme-eab-kid", "", "key `id` for external account binding (EAB)")
	fs.StringVar(&a.ca.EABKeyFile, "acme-eab-key", "", "`file` with the MAC key for external account binding, "+
		"in base64url")
	fs.StringVar(&a.fallback.URL, "acme-fallback-ca", "", "ACME directory `URL` of a fallback CA, used when the first CA fails")
	fs.StringVar(&a.fallback.RootsFile, "acme-fallback-root", "", "`file` of root certificates, like -acme-root, for "+
		"the fallback CA")
	fs.StringVar(&a.fallback.EABKeyID, "acme-fallback-eab-kid", "", "key `id`, like -acme-eab-kid, for the fallback CA")
	fs.StringVar(&a.fallback.EABKeyFile, "acme-fallback-eab-key", "", "`file` with the MAC key, like -acme-eab-key, "+
		"for the fallback CA")
	choiceVar(fs, &a.challenge, "acme-challenge", "both", "challenge `type`: http-01 (port 80), tls-alpn-01 "+
		"(port 443), or both", "http-01", "tls-alpn-01", "both")
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

func (o *Options) turnFlags() *flag.FlagSet {
	fs := newFlagSet()
	fs.StringVar(&o.turn, "turn", "auto", "relay for calls between any two networks: auto, off, or the host "+
		"`name` or IP address under which clients reach it; auto is on with HTTPS and without -store, under "+
		"the host of each request; with -store, all servers hand out this name, and the server with the "+
		"name in its -domain is the relay")
	fs.StringVar(&o.turnBind, "turn-bind", ":3478", "`address` and UDP port for STUN and TURN; TURN over TLS "+
		"uses the port of -bind")
	quantityVar(fs, &o.turnRate, units.MegabitsPerSecond, "turn-rate", 0, 0, maxTURNRate,
		"maximum rate of all relayed traffic, with headers, in `Mbit/s`; 0 for no limit")
	quantityVar(fs, &o.turnMonth, units.Gigabytes, "turn-month", 1000e9, 0, maxTURNMonth,
		"maximum relayed traffic, with headers, of a calendar month (UTC) in `GB` (10^9 bytes); no "+
			"call gets a relay from 99 % on, and relayed calls end at 100 %; 0 for no limit")
	return fs
}

func (o *Options) mailboxFlags() *flag.FlagSet {
	fs := newFlagSet()
	quantityVar(fs, &o.inboxTimeout, units.Seconds, "inbox-timeout", 60*time.Second, time.Second, maxTime,
		"`seconds` without a request from its owner after which an inbox is deleted and its name is "+
			"released")
	countVar(fs, &o.inboxCapacity, "inbox-capacity", 100, 0, math.MaxInt32,
		"maximum `number` of messages in one inbox; 0 for no limit")
	quantityVar(fs, &o.cleanupInterval, units.Seconds, "cleanup-interval", time.Second, time.Second, maxTime,
		"`seconds` between cleanups of expired inboxes")
	fs.BoolVar(&o.longPolling, "long-polling", true, "keep a GET of an empty inbox open until a message arrives, and serve streams")
	quantityVar(fs, &o.pollTimeout, units.Seconds, "poll-timeout", 25*time.Second, 0, maxTime,
		"`seconds` that a GET of an empty inbox waits, and the maximum for ?wait=; the default is at "+
			"most half of -inbox-timeout; with a value of 5 to 25, streams send a heartbeat as often")
	fs.StringVar(&o.store.address, "store", "", "`address` of a Redis or Valkey store that several "+
		"servers share: redis://host:6379, rediss:// for TLS, redis-sentinel://host,host/master; several "+
		"comma-separated hosts form a cluster; empty to keep mailboxes in the memory of this server")
	fs.StringVar(&o.store.file, "store-file", "", "`file` with the address of the store; preferable if it "+
		"contains a password")
	fs.StringVar(&o.store.ca, "store-ca", "", "`file` of CA certificates (PEM) to trust when connecting to "+
		"the store; empty for the system's")
	fs.StringVar(&o.store.keyFile, "store-key-file", "", "`file` with a key of 32 random bytes in base64, "+
		"the same on all servers, so that the store cannot read names, messages or certificates; without "+
		"it, the store can read messages; required with -domain")
	countVar(fs, &o.store.replicas, "store-replicas", 0, 0, maxReplicas,
		"`number` of store replicas that must confirm a message before it is accepted or delivered, "+
			"so that a failover loses none; 0 to wait for none")
	return fs
}

func (o *Options) limitFlags() *flag.FlagSet {
	fs := newFlagSet()
	quantityVar(fs, &o.maxBodySize, units.Bytes, "max-body-size", 1<<20, 1, math.MaxInt32,
		"maximum size of a message in `bytes`; at least 1")
	quantityVar(fs, &o.maxHeaderSize, units.Bytes, "max-header-size", 16<<10, 1, 1<<30,
		"maximum size of a request header in `bytes`; at least 1")
	countVar(fs, &o.maxInboxes, "max-inboxes", 100_000, 0, math.MaxInt32, "maximum `number` of inboxes")
	countVar(fs, &o.maxInboxesPerIP, "max-inboxes-per-ip", 1000, 0, math.MaxInt32,
		"maximum `number` of inboxes claimed by one client address (IPv4, or IPv6 /64); shrinks as "+
			"the server fills")
	autoVar(fs, &o.maxQueuedBytes, units.Bytes, "max-queued-bytes", maxBytes,
		"maximum size of all unread messages in `bytes`; auto is 256 MiB, or a sixth of -max-memory "+
			"if that is less")
	quantityVar(fs, &o.maxQueuedBytesPerIP, units.Bytes, "max-queued-bytes-per-ip", 32<<20, 0, maxBytes,
		"maximum size of the unread messages sent by one client address (IPv4, or IPv6 /64) in "+
			"`bytes`; shrinks as the server fills")
	autoVar(fs, &o.maxMemory, units.Bytes, "max-memory", maxBytes,
		"soft limit of memory use in `bytes`; auto is three quarters of the memory of the machine or "+
			"container")
	autoVar(fs, &o.maxConns, nil, "max-conns", math.MaxInt32,
		"maximum `number` of concurrent connections; auto is the open file limit less a reserve, or as many as "+
			"fit into two thirds of -max-memory: 16 KiB for each WebSocket and 96 KiB for each other connection")
	countVar(fs, &o.maxConnsPerIP, "max-conns-per-ip", 256, 0, math.MaxInt32,
		"maximum `number` of concurrent connections, and of waiting requests, per client address")
	countVar(fs, &o.connRate, "conn-rate", 50, 0, math.MaxInt32,
		"`number` of new connections per second from one client address, with bursts of five times as "+
			"many")
	countVar(fs, &o.rate, "rate", 40, 0, math.MaxInt32,
		"`number` of requests per second from one client address; 0 also disables the limits on "+
			"guessing passwords and names")
	countVar(fs, &o.burst, "burst", 600, 1, math.MaxInt32,
		"`number` of requests that a client address can send at once before -rate applies; at least 1")
	fs.BoolVar(&o.rateDryRun, "rate-dry-run", false, "count what the limits per client address would "+
		"reject, without rejecting it; the quotas -max-inboxes-per-ip and -max-queued-bytes-per-ip still reject")
	return fs
}

func (o *Options) proxyFlags() *flag.FlagSet {
	fs := newFlagSet()
	fs.StringVar(&o.trustedProxies, "trusted-proxies", "", "comma-separated `networks` of reverse proxies, "+
		"such as 10.0.0.0/8 or 192.0.2.1; their client-address header is trusted")
	fs.StringVar(&o.clientHeader, "client-header", "X-Forwarded-For", "header `field` in which trusted "+
		"proxies pass the client address: X-Forwarded-For, Forwarded, or another field that holds an address")
	fs.BoolVar(&o.proxyProtocol, "proxy-protocol", false, "require the PROXY protocol (version 1 or 2) from "+
		"trusted proxies, and reject all other connections")
	return fs
}

func (o *Options) operationFlags() *flag.FlagSet {
	fs := newFlagSet()
	fs.StringVar(&o.state, "state", "", "`directory` for data that survives a restart: certificates, the "+
		"secret for password hashes and, while no server runs, the mailboxes; empty for $STATE_DIRECTORY, "+
		"or else the user's state directory")
	fs.StringVar(&o.metricsBind, "metrics-bind", "", "`address` and port for the operator's page, "+
		"inbox status, Prometheus metrics and profiling; do not expose it publicly; empty to disable")
	fs.StringVar(&o.metricsHosts, "metrics-hosts", "", "comma-separated host `names` that metrics requests "+
		"can use, in addition to IP addresses and localhost")
	fs.StringVar(&o.file, "config", "", "configuration `file` with one option per line, as in "+
		"\"inbox-timeout 120\"; lines that begin with # are comments")
	fs.StringVar(&o.envFile, "env-file", "", "`file` with a line INBOX_NAME=value per option, such as "+
		"/etc/inbox/inbox.env, so that a command sees the options of the service; only on the command line")
	choiceVar(fs, &o.logFormat, "log-format", "text", "log `format`: text or json", "text", "json")
	choiceVar(fs, &o.logLevel, "log-level", "info", "minimum log `level`: debug (includes every request), "+
		"info, warn or error", "debug", "info", "warn", "error")
	fs.BoolVar(&o.version, "version", false, "print the version and exit")
	return fs
}

func (o *Options) doctorFlags() *flag.FlagSet {
	fs := newFlagSet()
	fs.BoolVar(&o.asJSON, "json", false, "print the findings as JSON")
	fs.BoolVar(&o.renewTest, "renew-test", false, "order a test certificate from the staging environment or "+
		"from -acme-ca and discard it; a server that uses the same state directory keeps running")
	return fs
}

func (o *Options) inviteFlags() *flag.FlagSet {
	fs := newFlagSet()
	fs.StringVar(&o.label, "label", "", "make an invitation with this `label`, by which it is listed and revoked; only "+
		"on the command line")
	quantityVar(fs, &o.lifetime, units.Days, "for", 90*day, time.Minute, maxInvitation,
		"`days` until the invitation expires; only on the command line")
	fs.BoolVar(&o.list, "list", false, "list the invitations, with those that ended in the last 30 days; only on the command line")
	fs.StringVar(&o.revoke, "revoke", "", "revoke the invitations with this `label`, or all, and their guest passes; only "+
		"on the command line")
	return fs
}

func (o *Options) setupFlags() *flag.FlagSet {
	fs := newFlagSet()
	fs.BoolVar(&o.dryRun, "dry-run", false, "check the machine and print what would be changed; only on the command line")
	return fs
}

func newFlagSet() *flag.FlagSet {
	fs := flag.NewFlagSet("inbox", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	return fs
}

// defaultOptions returns the options with their default values.
func defaultOptions() *Options {
	o := &Options{flags: newFlagSet(), from: map[string]string{}, given: map[string]string{}}
	o.groups = o.table()
	for _, g := range o.groups {
		g.flags.VisitAll(func(f *flag.Flag) { o.flags.Var(f.Value, f.Name, f.Usage) })
	}
	return o
}

// envPrefix is the prefix of environment variables that set options.
const envPrefix = "INBOX_"

// settable reports whether name is an option that the environment or a file can set.
// version is not: it is a command, and container images commonly set INBOX_VERSION. Neither are
// env-file, which stands for the environment, and options of commands that change something.
func (o *Options) settable(name string) bool {
	return o.flags.Lookup(name) != nil && !slices.Contains(onlyArguments, name)
}

// onlyArguments are the options that only a command line can set.
var onlyArguments = append([]string{"version", "env-file", "dry-run"}, inviteOptions...)
