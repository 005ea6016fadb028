package doctor

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime"
	"sync"
	"time"

	"inbox/inbox/redisstore"
	"inbox/tlsmgr"
	"inbox/tlsmgr/acme"
)

// Config holds the server's options and the environment that they are checked
// against. It is a value and safe for concurrent use.
type Config struct {
	Domains     []string
	Email       string
	TermsAgreed bool
	Bind        string // host:port or unix:/path
	HTTPBind    string // address of the HTTP listener; empty: none
	HTTPS       bool
	// ProxyProtocol is set if connections to the server begin with a PROXY header.
	ProxyProtocol bool
	CertFile      string
	KeyFile       string
	StateDir      string  // empty: none
	CA            acme.CA // without a URL: Let's Encrypt
	FallbackCA    acme.CA // without a URL: none
	Staging       bool    // Let's Encrypt's staging instead of its production
	Engine        string
	Profile       string
	TURN          *TURN // nil: off
	FewFiles      int64 // the limit of open files, if it is too low for the connections
	MaxConns      int64 // that fit into FewFiles
	JSON          bool
	RenewTest     bool
	InServer      bool // the caller is the server and holds its ports

	// MailboxPath and HealthPath are the paths by which a running server is recognized.
	MailboxPath, HealthPath string
	// PrivateFiles are the files of the state directory that the server opens itself, and
	// refuses if another user can have placed them.
	PrivateFiles []string

	// Options are warnings about the options.
	Options []Finding
	// Pages opens the pages as the server does; nil: they are not checked.
	Pages func() error
	// Store examines the shared store; nil without one.
	Store func(ctx context.Context) (redisstore.Report, error)
	// Invitations returns the invitations of a private server; nil if it is open.
	Invitations func(ctx context.Context) (Invitations, error)
	// DryRun places a test order for all names; nil if it is not possible.
	DryRun func(ctx context.Context) error
	// States returns the stored certificates and the results of the last orders;
	// nil if they are unknown.
	States func() []tlsmgr.NameState

	// Accounts asks the CAs about the stored accounts; nil if it is not possible.
	Accounts func(ctx context.Context) []acme.Account

	// The environment; nil is the real one.
	resolver      resolver
	localAddrs    func() ([]netip.Addr, error)
	listen        func(network, address string) (net.Listener, error)
	dial          func(ctx context.Context, network, address string) (net.Conn, error)
	proxy         func(*http.Request) (*url.URL, error) // for requests to the CAs
	bindUDP       func(address string, bufferBytes int) (bytes int, err error)
	udpBuffer     func(port string) (bytes int)                // 0: unknown
	findPortOwner func(network, port string) (portOwner, bool) // the program that uses it, if it can be determined
	disk          func(dir string) (disk, error)
	now           func() time.Time
	serviceUser   func(stateDir string) (serviceUser, bool) // if the doctor runs as root and the server does not
}

// examination is one run of the checks.
type examination struct {
	Config
	cas  []acmeCA                 // in order of preference; fetched once, before the checks
	pass func(name string) string // makes guest passes of a private server; nil: not needed, or none
}

// forEach calls fn for the names concurrently, because each waits when DNS does
// not respond, and returns the findings in the order of the names.
func forEach(names []string, fn func(name string) []Finding) []Finding {
	found := make([][]Finding, len(names))
	var wg sync.WaitGroup
	slots := make(chan struct{}, 2*runtime.NumCPU())
	for i, name := range names {
		wg.Go(func() {
			slots <- struct{}{}
			found[i] = fn(name)
			<-slots
		})
	}
	wg.Wait()
	var flat []Finding
	for _, some := range found {
		flat = append(flat, some...)
	}
	return flat
}

// portOwner is a program that listens on a port.
type portOwner struct {
	name string // as in /proc/PID/comm
	pid  int
}

func (o portOwner) String() string { return fmt.Sprintf("%s (process %d)", o.name, o.pid) }

// disk describes a file system.
type disk struct {
	ephemeral             string // why its files are lost at a restart; empty if they are not
	freeBytes             uint64
	allInodes, freeInodes uint64 // allInodes is 0 if inodes are not limited
}

// acmeCA is a CA and its response.
type acmeCA struct {
	acme.CA
	roots *x509.CertPool // for its own server; nil: the system's
	acme.Directory
	err        error
	clockAhead time.Duration // of the CA's clock relative to ours
	clockKnown bool          // clockAhead is valid
}
