package main

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
)

// checkup is what «inbox doctor» examines: what the options say, and the world
// they are held against. It changes nothing that outlives it, and asks
// strangers no more than a first order would.
type checkup struct {
	Domains         []string
	Email           string
	Agreed          bool
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

	// The world; nil is the real one.
	resolver   resolver
	localAddrs func() ([]netip.Addr, error)
	listen     func(network, address string) (net.Listener, error)
	dial       func(ctx context.Context, network, address string) (net.Conn, error)
	proxy      func(*http.Request) (*url.URL, error) // for the way to the CAs
	holder     func(port string) (holder, bool)      // which program listens there, if that can be told
	disk       func(dir string) (disk, error)
	now        func() time.Time
	renewTest  func(ctx context.Context) error // makes a dry order; nil: cannot
	notes      func() []note                   // nil: none
	stored     func() []stored                 // nil: none
}

// stored is the certificate that a server with these options would begin with.
type stored struct {
	Name     string
	Issuer   string // empty: there is none
	NotAfter time.Time
}

// note is the last thing that went wrong for a name, as the supervisor of
// certificates recorded it.
type note struct {
	Name, Text string
	At, Next   time.Time // Next is when the name is tried again; zero: unknown
}

// doctor examines, prints what it found, and returns the exit code: a failure
// when anything found is one.
func doctor(ctx context.Context, c checkup, stdout io.Writer) int {
	e := &examination{checkup: c.inTheWorld()}
	findings := e.examine(ctx)
	render := report
	if c.JSON {
		render = reportJSON
	}
	_, err := io.WriteString(stdout, render(findings))
	if err != nil || tally(findings, failed) > 0 {
		return exitFailure
	}
	return exitDone
}

// inTheWorld fills in what was left out.
func (c checkup) inTheWorld() checkup {
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
	if c.holder == nil {
		c.holder = portHolder
	}
	if c.disk == nil {
		c.disk = diskOf
	}
	if c.now == nil {
		c.now = time.Now
	}
	if c.notes == nil {
		c.notes = func() []note { return nil }
	}
	if c.stored == nil {
		c.stored = func() []stored { return nil }
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
	checkup
	authorities []authority // asked once, before the checks
}

// check is one thing that is looked at. Its id is part of what -json promises.
type check struct {
	id   string
	look func(context.Context) []finding
}

// examine runs the checks, in the order in which a person would mend things.
func (e *examination) examine(ctx context.Context) []finding {
	if len(e.Domains) > 0 {
		e.authorities = e.askAuthorities(ctx)
	}
	var all []finding
	for _, c := range e.checks() {
		for _, f := range c.look(ctx) {
			f.Check = c.id
			all = append(all, f)
		}
		if ctx.Err() != nil {
			return append(all, failure("", "The examination was interrupted.", "Run it again.").in(c.id))
		}
	}
	return all
}

// checks are those that make sense for the options: certificates by ACME are
// for names only.
func (e *examination) checks() []check {
	checks := []check{{"source", e.checkSource}, {"clock", e.checkClock}, {"state", e.checkState}, {"ports", e.checkPorts}}
	if e.HTTPS {
		checks = append(checks, check{"files", e.checkFiles})
	}
	if len(e.Domains) > 0 {
		checks = append(checks,
			check{"names", e.checkNames}, check{"ca", e.checkAuthorities}, check{"caa", e.checkCAA},
			check{"account", e.checkAccount}, check{"certificates", e.checkStored}, check{"supervisor", e.checkNotes})
	}
	if e.RenewTest {
		checks = append(checks, check{"renew-test", e.checkRenewal})
	}
	return checks
}

// forEach looks at several names at once, since a resolver that is away makes
// each of them wait; what it found keeps their order.
func forEach(names []string, look func(name string) []finding) []finding {
	found := make([][]finding, len(names))
	var all sync.WaitGroup
	turns := make(chan struct{}, 2*runtime.NumCPU())
	for i, name := range names {
		all.Go(func() {
			turns <- struct{}{}
			found[i] = look(name)
			<-turns
		})
	}
	all.Wait()
	var flat []finding
	for _, some := range found {
		flat = append(flat, some...)
	}
	return flat
}
