// Package doctor finds problems that would keep a server from working and says
// how to fix them: clock, state directory, ports, certificate files, DNS names,
// CAs, the shared store and TURN. It tries what the server would try, leaves no
// trace, and contacts only the server itself and the hosts that a first order
// would contact. The command
// translates its options into a [Config].
package doctor

import (
	"context"
	"io"
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
	CertFile    string
	KeyFile     string
	StateDir    string  // empty: none
	CA          acme.CA // without a URL: Let's Encrypt
	FallbackCA  acme.CA // without a URL: none
	Staging     bool    // Let's Encrypt's staging instead of its production
	Engine      string
	Profile     string
	TURN        *TURN // nil: off
	FewFiles    int64 // the limit of open files, if it is too low for the connections
	MaxConns    int64 // that fit into FewFiles
	JSON        bool
	RenewTest   bool
	InServer    bool // the caller is the server and holds its ports

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

// Run examines the configuration and writes a report to stdout. ok reports that
// there was no failure and the report was written. Run returns soon after ctx ends.
func Run(ctx context.Context, c Config, stdout io.Writer) (ok bool) {
	findings := c.Examine(ctx)
	render := report
	if c.JSON {
		render = reportJSON
	}
	_, err := io.WriteString(stdout, render(findings))
	return err == nil && tally(findings, Failure) == 0
}

// Examine runs all checks in the order in which their findings should be fixed.
// Every wait is bounded. If ctx ends, the last finding says so.
func (c Config) Examine(ctx context.Context) []Finding {
	e := &examination{Config: c.withDefaults()}
	return e.examine(ctx)
}

func (c Config) withDefaults() Config {
	if c.resolver == nil {
		c.resolver = systemResolver(resolvConf)
	}
	if c.localAddrs == nil {
		c.localAddrs = interfaceAddrs
	}
	if c.listen == nil {
		c.listen = net.Listen
	}
	if c.dial == nil {
		c.dial = (&net.Dialer{}).DialContext
	}
	if c.proxy == nil {
		c.proxy = http.ProxyFromEnvironment
	}
	if c.bindUDP == nil {
		c.bindUDP = bindUDP
	}
	if c.udpBuffer == nil {
		c.udpBuffer = udpBuffer
	}
	if c.findPortOwner == nil {
		c.findPortOwner = findPortOwner
	}
	if c.disk == nil {
		c.disk = statDisk
	}
	if c.now == nil {
		c.now = time.Now
	}
	if c.serviceUser == nil {
		c.serviceUser = findServiceUser
	}
	if c.States == nil {
		c.States = func() []tlsmgr.NameState { return nil }
	}
	return c
}

// interfaceAddrs returns all addresses of this machine, including loopback.
func interfaceAddrs() ([]netip.Addr, error) {
	addrs, err := net.InterfaceAddrs()
	var found []netip.Addr
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			found = append(found, p.Addr().Unmap().WithZone(""))
		}
	}
	return found, err
}

// examination is one run of the checks.
type examination struct {
	Config
	cas []acmeCA // in order of preference; fetched once, before the checks
}

// check is one check. Its id appears in the JSON report and must not change.
type check struct {
	id  string
	run func(context.Context) []Finding
}

func (e *examination) examine(ctx context.Context) []Finding {
	e.cas = e.configuredCAs()
	if len(e.Domains) > 0 {
		e.fetchDirectories(ctx)
	}
	var all []Finding
	for _, c := range e.checks() {
		for _, f := range c.run(ctx) {
			f.Check = c.id
			all = append(all, f)
		}
		if ctx.Err() != nil {
			return append(all, failure("", "The examination was interrupted.", "Run it again.").withCheck(c.id))
		}
	}
	return all
}

// checks returns the checks that apply to the options.
func (e *examination) checks() []check {
	checks := []check{{"source", e.checkSource}, {"options", e.checkOptions}, {"clock", e.checkClock}, {"state", e.checkState}, {"ports", e.checkPorts}}
	if e.FewFiles > 0 && !e.InServer { // the server has already logged it
		checks = append(checks, check{"open-files", e.checkOpenFiles})
	}
	if e.Pages != nil {
		checks = append(checks, check{"pages", e.checkPages})
	}
	if e.Store != nil {
		checks = append(checks, check{"store", e.checkStore})
	}
	if e.HTTPS {
		checks = append(checks, check{"files", e.checkFiles})
	}
	if len(e.Domains) > 0 {
		checks = append(checks,
			check{"names", e.checkNames}, check{"ca", e.checkCAs}, check{"caa", e.checkCAA},
			check{"account", e.checkAccount}, check{"certificates", e.checkCertificates}, check{"orders", e.checkLastOrders})
	}
	if e.TURN != nil && !e.InServer { // a server would test itself before it serves
		checks = append(checks, check{"turn", e.checkTURN})
	}
	if e.RenewTest {
		checks = append(checks, check{"renew-test", e.checkDryRun})
	}
	return checks
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
