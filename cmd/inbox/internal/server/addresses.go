package server

import (
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"inbox/cmd/inbox/internal/config"
	"inbox/cmd/inbox/internal/host"
	"inbox/internal/problem"
	"inbox/ratelimit"
)

// address is where a browser opens the pages.
type address struct {
	Scheme string `json:"scheme"`
	Host   string `json:"host"` // IPv6 in brackets, as in a URL
	Port   int    `json:"port"`
}

func (a address) url() string {
	if a.Scheme == "https" && a.Port == 443 || a.Scheme == "http" && a.Port == 80 {
		return a.Scheme + "://" + a.Host
	}
	return a.Scheme + "://" + a.Host + ":" + strconv.Itoa(a.Port)
}

// site is how the pages are served.
type site struct {
	scheme      string
	addr        netip.AddrPort // invalid for a Unix socket
	names       []string       // of -domain
	inContainer bool           // addresses and ports can differ outside
}

// newSite returns how the pages are served on a socket.
func newSite(cfg *config.Config, socket net.Listener, p Process) site {
	s := site{scheme: "http", names: cfg.Domains, inContainer: host.InContainer(p.Getenv)}
	if cfg.HTTPS {
		s.scheme = "https"
	}
	s.addr, _ = netip.ParseAddrPort(socket.Addr().String())
	return s
}

// at returns the address of the pages at a host.
func (s site) at(host string) address {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	a := address{s.scheme, host, int(s.addr.Port())}
	if s.scheme == "https" && len(s.names) > 0 && s.inContainer {
		a.Port = 443 // a CA validates on this port only, so it must be published
	}
	return a
}

// remote returns the addresses at which other devices open the pages, most useful first. The
// machine has these addresses in its networks.
func (s site) remote(network []netip.Addr) []address {
	all := []address{} // encodes as [] in JSON, not null
	bound := s.addr.Addr()
	switch {
	case len(s.names) > 0:
		for _, name := range s.names {
			all = append(all, s.at(name))
		}
	case !bound.IsValid() || bound.IsLoopback():
	case !bound.IsUnspecified():
		all = append(all, s.at(bound.String()))
	default:
		for _, a := range network {
			if a.Is4() || bound.Is6() {
				all = append(all, s.at(a.String()))
			}
		}
	}
	return all
}

// maxNetworkAddrs bounds the addresses that are offered. A machine with containers has many.
const maxNetworkAddrs = 16

// networkAddrs returns the addresses at which other devices reach this machine, most useful
// first. It omits link-local addresses, which browsers cannot open.
func networkAddrs() []netip.Addr {
	var found []netip.Addr
	addrs, _ := net.InterfaceAddrs() // on failure, the banner shows localhost only
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && p.Addr().IsGlobalUnicast() {
			found = append(found, p.Addr().Unmap())
		}
	}
	sortByUse(found, sourceAddrs())
	return found[:min(len(found), maxNetworkAddrs)]
}

// sortByUse sorts the source addresses of the machine first, because other networks can belong
// to containers or a VPN. IPv4 precedes IPv6: its addresses are short, and do not change each day.
func sortByUse(addrs, sources []netip.Addr) {
	rank := func(a netip.Addr) (n int) {
		if a.Is6() {
			n += 4
		}
		if !slices.Contains(sources, a) {
			n += 2
		}
		if !a.IsPrivate() {
			n++
		}
		return n
	}
	slices.SortStableFunc(addrs, func(a, b netip.Addr) int { return rank(a) - rank(b) })
}

// sourceAddrs returns the addresses from which this machine connects to the internet. It sends
// nothing: to connect a UDP socket only selects a route. The destinations are for documentation
// (RFC 5737, RFC 3849).
func sourceAddrs() (found []netip.Addr) {
	for _, to := range []string{"192.0.2.1:9", "[2001:db8::1]:9"} {
		if c, err := net.Dial("udp", to); err == nil {
			found = append(found, ratelimit.ParseAddr(c.LocalAddr().String()))
			c.Close()
		}
	}
	return found
}

// addresses answers a page on this machine with the addresses at which other devices open it, so
// that a link does not contain localhost. The addresses of a private network are confidential: a
// page of another site, another device and a client of a proxy are refused.
type addresses struct {
	site         site
	network      func() []netip.Addr
	behindProxy  bool   // according to the options
	clientHeader string // of a proxy

	refused atomic.Int64
}

var errNotLocal = problem.New(http.StatusForbidden, "local-only", "Only a page on this computer gets its addresses",
	"Open the page under localhost, without a proxy.")

func (a *addresses) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !problem.RequireGetOrHead(w, r) {
		return
	}
	if !a.allowed(r) {
		a.refused.Add(1)
		errNotLocal.Write(w)
		return
	}
	h := w.Header()
	problem.SetInert(h)
	h.Set("Content-Type", "application/json")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	_ = json.NewEncoder(w).Encode(map[string][]address{"addresses": a.site.remote(a.network())})
}

// allowed reports whether a page of this server made the request, in a browser on this machine.
// HTTP/1.0 and an Origin of another host show a proxy, such as nginx with default settings.
func (a *addresses) allowed(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	return !a.behindProxy && r.ProtoAtLeast(1, 1) &&
		ratelimit.ParseAddr(r.RemoteAddr).IsLoopback() && isLocalHost(r.Host) &&
		slices.Equal(r.Header["Sec-Fetch-Site"], []string{"same-origin"}) &&
		(origin == "" || strings.HasSuffix(origin, "://"+r.Host)) &&
		!a.isForwarded(r.Header)
}

// isLocalHost reports whether a browser on this machine resolves the host to this machine.
func isLocalHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.EqualFold(host, "localhost") || ratelimit.ParseAddr(host).IsLoopback()
}

// forwardingFields are added by proxies, besides those that begin with X-Forwarded.
var forwardingFields = []string{
	"Forwarded", "Via", "X-Real-Ip", "X-Client-Ip", "X-Cluster-Client-Ip", "X-Original-Forwarded-For", "X-Original-Host",
	"X-Envoy-External-Address", "X-Scheme", "X-Url-Scheme", "Front-End-Https", "True-Client-Ip", "Cf-Connecting-Ip", "Cf-Visitor",
	"Fastly-Client-Ip", "Fly-Client-Ip", "X-Azure-Clientip", "Cdn-Loop",
}

func (a *addresses) isForwarded(h http.Header) bool {
	for field := range h {
		if strings.HasPrefix(field, "X-Forwarded") || slices.Contains(forwardingFields, field) ||
			a.clientHeader != "" && strings.EqualFold(field, a.clientHeader) {
			return true
		}
	}
	return false
}
