// Package config reads the options of the server. [Parse] takes them from the command
// line, the environment and a file, and remembers where each value came from.
// [Resolve] validates them and returns the [Config] that the server is built from.
package config

import (
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"inbox/inbox"
	"inbox/inbox/ice"
	"inbox/inbox/redisstore"
	"inbox/tlsmgr/acme"
)

// Config is the resolved configuration: values that can be used as they are. It must not
// be changed. Zero means off for limits and empty means none for addresses and paths.
type Config struct {
	// Bind is the address of the main listener, or unix:/path. HTTPBind is that of the
	// listener that redirects to HTTPS, and MetricsBind that of the operator's listener.
	Bind, HTTPBind, MetricsBind Address
	// MetricsHosts are the host names that the metrics listener accepts, in lower case.
	MetricsHosts []string
	// HTTPS selects HTTPS for the main listener.
	HTTPS bool

	// PagesDir is the directory of the pages; empty means the built-in ones.
	PagesDir string
	// AnyOrigin allows cross-origin requests of every origin, Origins those of some.
	AnyOrigin bool
	Origins   []string
	// ICEServers are handed out by GET /ice.
	ICEServers []ice.Server
	// Compat are the protocols of other clients that are served, each once.
	Compat []string
	// Private reports whether clients need an invitation.
	Private bool
	// TURN is the relay; nil means off, and NoTURN says why.
	TURN   *TURN
	NoTURN string

	// CertFile and KeyFile contain a certificate. CertFilesGiven is false for the defaults.
	CertFile, KeyFile string
	CertFilesGiven    bool
	// Domains are the names to obtain certificates for.
	Domains []string
	ACME    ACME

	// Mailboxes limits the mailboxes.
	Mailboxes inbox.Limits
	// PollTimeout bounds how long a GET of an empty mailbox waits; 0 means not at all.
	PollTimeout time.Duration
	// Heartbeat is how often a stream without messages shows that it is alive.
	Heartbeat time.Duration
	// CleanupInterval is the time between two removals of expired mailboxes.
	CleanupInterval time.Duration
	// Store is the store that several nodes share; nil means the memory of this one.
	Store *Store

	// MaxBodyBytes and MaxHeaderBytes limit requests.
	MaxBodyBytes, MaxHeaderBytes int64
	// MaxMemoryBytes is the soft limit of memory use.
	MaxMemoryBytes int64
	// MaxConns and MaxConnsPerIP limit open connections, ConnRate new ones per second, and
	// MaxStreams the HTTP/2 streams.
	MaxConns, MaxConnsPerIP, ConnRate, MaxStreams int
	// MaxConnBytes limits the memory of open connections, if MaxConns is automatic: each counts for
	// [HTTPConnBytes] or, as a WebSocket, [WebSocketBytes].
	MaxConnBytes int64
	// MaxInFlightBytes limits the bodies that are being read or written.
	MaxInFlightBytes int64
	// Files divides the open files.
	Files Files
	// Rate limits the requests of an address per second, Burst those at once.
	Rate, Burst int
	// DryRun counts what the limits per address would refuse, but refuses nothing. The
	// quotas of Mailboxes still apply.
	DryRun bool

	// TrustedProxies are the networks whose ClientHeader is trusted. ProxyProtocol
	// requires the PROXY protocol from them.
	TrustedProxies []netip.Prefix
	ClientHeader   string
	ProxyProtocol  bool

	// StateDir is the directory of data that survives a restart; empty if it is neither
	// given nor can be derived from the environment. It need not exist.
	StateDir string
	// LogLevel is the minimum level; LogJSON selects JSON instead of text.
	LogLevel slog.Level
	LogJSON  bool
	// Warnings are mistakes in the options that do not prevent a start.
	Warnings []Warning

	// Invite has the options of inbox invite.
	Invite Invitations
	// Doctor has the options of inbox doctor.
	Doctor struct{ JSON, RenewTest bool }
}

// Invitations is what inbox invite does: it makes an invitation with Label, or else lists all, or else
// revokes those of a label.
type Invitations struct {
	Label    string
	Lifetime time.Duration
	List     bool
	Revoke   string
}

// Address is a listen address.
type Address struct {
	Option string // name of the option, without dash
	Value  string // empty: no listener
	From   string // source of the value; empty: the default
}

// IsFromCommandLine reports whether the address is given on the command line.
func (a Address) IsFromCommandLine() bool { return a.From == fromCommandLine }

func (a Address) isUnix() bool { return strings.HasPrefix(a.Value, "unix:") }

// ACME configures how certificates are ordered. The names are those of [acme.Config].
type ACME struct {
	Engine, Email         string
	Agreed                bool
	CA, FallbackCA        acme.CA
	Staging               bool
	StagingFirst          bool
	Profile               string
	Preflight             bool // wait for a name's address, and let the doctor look first
	NoHTTP01, NoTLSALPN01 bool
	// Given lists the given options with their sources, for an error of [tlsmgr.New].
	Given string
}

// Store configures the store that several nodes share.
type Store struct {
	Address  redisstore.Address
	Key      []byte // encrypts messages and certificates; nil: they are not encrypted
	Replicas int
}

// Files is how the open files of the process are divided. A connection is a file.
type Files struct {
	// Limit is the process's limit of open files; zero means that it is unknown.
	Limit int64
	// Conns is how many connections fit, on all listeners. Zero is no limit.
	Conns int64
	// Tarpitted is how many refused connections stay open for a moment.
	Tarpitted int
	// Pages is how many files of a directory of pages can be open. Zero is no limit, or
	// without a directory.
	Pages int
}

// Warning is a mistake in the options that does not prevent a start.
type Warning struct {
	// Text is a sentence without period, in lower case.
	Text string
	// Name is the option with a dash, or the environment variable, and From the source of
	// an option's value.
	Name, From string
	// Fix is what to do.
	Fix string
}

// LogWarnings logs mistakes in the options.
func LogWarnings(warnings []Warning, log *slog.Logger) {
	for _, w := range warnings {
		attrs := []any{"name", w.Name}
		if strings.HasPrefix(w.Name, "-") {
			attrs[0] = "option"
		}
		if w.From != "" {
			attrs = append(attrs, "from", w.From)
		}
		log.Warn(w.Text, append(attrs, "fix", w.Fix)...)
	}
}

// TURN configures STUN and TURN, which GET /ice hands out.
type TURN struct {
	// Host is the host name or IP address in the URLs; empty means the host of the request.
	Host string
	// Relay reports whether this process is the relay. Otherwise another node of the store is.
	Relay bool
	// NoTLS is why clients cannot reach TURN over TLS, and NeedsName whether a host name
	// instead of an IP address changes that. It is empty if they can, unless the certificate
	// is self-signed.
	NoTLS     string
	NeedsName bool
	// Bind is the address of STUN and TURN over UDP.
	Bind Address
	// RateBits is the maximum rate of all relayed traffic in bits per second, MonthBytes the
	// maximum traffic of a calendar month (UTC). Zero is no limit.
	RateBits, MonthBytes int64
}
