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
	"time"

	"inbox/tlsmgr"
)

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
	if !e.InServer {
		checks = append(checks, check{"access", e.checkAccess})
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
