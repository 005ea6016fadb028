// Package doctor looks for what would keep a server from working, and says how
// to mend it: the clock, the state directory, ports, certificate files, names
// in DNS, the certificate authority. It changes nothing that outlives it, and
// asks strangers no more than a first order would. It knows nothing of options
// and their sources: the command fills in a [Checkup].
package doctor

import (
	"context"
	"crypto/x509"
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
)

// Config is what «inbox doctor» examines: what the options say, and the world
// they are held against. It is a value, and may be used concurrently.
type Config struct {
	Domains         []string
	Email           string
	TermsAgreed     bool
	Bind            string // as of -bind, unix:/path too
	HTTPBind        string // empty: nothing listens on port 80
	HTTPS           bool
	CertFile        string
	KeyFile         string
	StateDir        string         // empty: there is none
	CAURL           string         // empty: Let's Encrypt
	SecondCAURL     string         // empty: none
	Roots           *x509.CertPool // that the CA's own server is trusted by; nil: the system's
	SecondRoots     *x509.CertPool
	Staging         bool // Let's Encrypt's staging instead of its production
	Engine          string
	Profile         string
	ExternalAccount bool // credentials of an account at the CA were given
	SecondAccount   bool
	JSON            bool
	RenewTest       bool
	InServer        bool // the server itself asks, and holds its ports

	// Store looks at the store that servers share; nil: there is none.
	Store func(ctx context.Context) (redisstore.Report, error)
	// DryRun makes a dry order for all names; nil: cannot.
	DryRun func(ctx context.Context) error
	// States are the certificates that a server with these options would begin
	// with, and what became of its last orders; nil: nothing is known of them.
	States func() []tlsmgr.NameState

	// The world; nil is the real one.
	resolver      resolver
	localAddrs    func() ([]netip.Addr, error)
	listen        func(network, address string) (net.Listener, error)
	dial          func(ctx context.Context, network, address string) (net.Conn, error)
	proxy         func(*http.Request) (*url.URL, error) // for the way to the CAs
	findPortOwner func(port string) (portOwner, bool)   // which program listens there, if that can be told
	disk          func(dir string) (disk, error)
	now           func() time.Time
}

// Run examines and prints what it found. All is well when nothing found is a
// failure and the report could be written. It ends soon after ctx.
func Run(ctx context.Context, c Config, stdout io.Writer) (ok bool) {
	findings := c.Examine(ctx)
	render := report
	if c.JSON {
		render = reportJSON
	}
	_, err := io.WriteString(stdout, render(findings))
	return err == nil && tally(findings, Failure) == 0
}

// Examine looks at everything, in the order in which a person would mend it.
// Each wait is bounded; when ctx ends, the last finding says so.
func (c Config) Examine(ctx context.Context) []Finding {
	e := &examination{Config: c.withDefaults()}
	return e.examine(ctx)
}

// withDefaults fills in what was left out.
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
	if c.findPortOwner == nil {
		c.findPortOwner = findPortOwner
	}
	if c.disk == nil {
		c.disk = statDisk
	}
	if c.now == nil {
		c.now = time.Now
	}
	if c.States == nil {
		c.States = func() []tlsmgr.NameState { return nil }
	}
	return c
}

// interfaceAddrs are all addresses of this machine, loopback too.
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

// examination is a checkup under way.
type examination struct {
	Config
	cas []acmeCA // asked once, before the checks
}

// check is one thing that is looked at. Its id is part of what -json promises.
type check struct {
	id  string
	run func(context.Context) []Finding
}

// examine runs the checks one after the other.
func (e *examination) examine(ctx context.Context) []Finding {
	if len(e.Domains) > 0 {
		e.cas = e.fetchDirectories(ctx)
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

// checks are those that make sense for the options: certificates by ACME are
// for names only.
func (e *examination) checks() []check {
	checks := []check{{"source", e.checkSource}, {"clock", e.checkClock}, {"state", e.checkState}, {"ports", e.checkPorts}}
	if e.Store != nil {
		checks = append(checks, check{"store", e.checkStore})
	}
	if e.HTTPS {
		checks = append(checks, check{"files", e.checkFiles})
	}
	if len(e.Domains) > 0 {
		checks = append(checks,
			check{"names", e.checkNames}, check{"ca", e.checkCAs}, check{"caa", e.checkCAA},
			check{"account", e.checkAccount}, check{"certificates", e.checkCertificates}, check{"supervisor", e.checkLastOrders})
	}
	if e.RenewTest {
		checks = append(checks, check{"renew-test", e.checkDryRun})
	}
	return checks
}

// forEach looks at several names at once, since a resolver that is away makes
// each of them wait; what it found keeps their order.
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
