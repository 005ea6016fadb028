package tlsmgr

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"inbox/internal/problem"
	"inbox/tlsmgr/acme"
	"inbox/tlsmgr/internal/hosts"
)

// RedirectConfig configures the handler for plain HTTP.
type RedirectConfig struct {
	// Domains are the configured hosts.
	Domains []string
	// HTTPSPort is the port of the HTTPS listener.
	HTTPSPort int
	// APIPaths are paths that clients send passwords to. They are not redirected,
	// because a client that follows redirects would send its password in clear text
	// each time.
	APIPaths []string
}

// Refusals over plain HTTP.
var (
	unknownToken = problem.New(http.StatusNotFound, "not-found", "There is nothing at this path",
		"no order in progress has this token")
	noPath = problem.New(http.StatusBadRequest, "bad-request", "The request is not valid",
		"the request has no path")
	httpsRequired = problem.New(http.StatusForbidden, "https-required", "HTTPS is required",
		"use https: plain http sends passwords unencrypted")
)

// Redirect returns the handler for plain HTTP. It redirects GET and HEAD requests
// for a configured host to https, with status 308, and answers 421 to other hosts,
// 403 to API paths and other methods, and 404 to a challenge token that the
// [Manager] did not answer.
//
// The URL omits port 443. It also omits the port if the request was sent to port 80
// but arrived at another one: a container or router maps port 80, and so port 443.
func Redirect(c RedirectConfig) http.Handler {
	return CheckHost(c.Domains, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		if strings.HasPrefix(r.URL.Path, acme.TokenPath) {
			unknownToken.Write(w)
			return
		}
		if r.URL.Opaque != "" || !strings.HasPrefix(r.URL.Path, "/") {
			noPath.Write(w)
			return
		}
		isRead := r.Method == http.MethodGet || r.Method == http.MethodHead
		if !isRead || slices.Contains(c.APIPaths, r.URL.Path) {
			w.Header().Set("Connection", "close")
			httpsRequired.Write(w)
			return
		}
		w.Header().Del("Cache-Control")
		port := c.HTTPSPort
		if isPortMapped(r) {
			port = 443
		}
		// Built from the validated host and a known port, not from client input.
		http.Redirect(w, r, "https://"+urlHost(hosts.FromHeader(r.Host), port)+r.URL.RequestURI(), http.StatusPermanentRedirect)
	}))
}

// isPortMapped reports whether a request sent to port 80 arrived at another port.
func isPortMapped(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok || local.Port == 80 {
		return false
	}
	_, requestedPort, err := net.SplitHostPort(r.Host)
	return err != nil || requestedPort == "" || requestedPort == "80" // err: host without a port
}

// urlHost returns host and port in URL syntax, without the default port 443.
func urlHost(host string, port int) string {
	if port != 443 {
		return net.JoinHostPort(host, strconv.Itoa(port))
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Is6() {
		return "[" + host + "]"
	}
	return host
}

var misdirected = problem.New(http.StatusMisdirectedRequest, "misdirected-request",
	"This server does not serve that host", "Use a name of the server.")

// CheckHost answers 421 Misdirected Request to requests whose host is not one of the
// domains, regardless of the port. Requests for which except returns true are passed
// to next; except can be nil.
func CheckHost(domains []string, except func(*http.Request) bool, next http.Handler) http.Handler {
	var names []string
	for _, d := range domains {
		if name, err := hosts.Canonical(d); err == nil {
			names = append(names, name)
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains(names, hosts.FromHeader(r.Host)) && (except == nil || !except(r)) {
			misdirected.Respond(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}
