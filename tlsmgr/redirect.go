package tlsmgr

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"inbox/internal/problem"
)

// Redirect is what port 80 serves besides challenges: it sends readers of a
// configured host to https, and nobody else anywhere. The mailbox is refused
// instead, for a client that follows would have sent its password in clear
// each time; and so is a token that a [Source] did not answer. httpsPort is left out of the address when it is 443,
// and for whoever came by port 80 to a listener on another: a container or a router maps the ports, 443 as well.
func Redirect(domains []string, httpsPort int) http.Handler {
	return CheckHost(domains, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		if strings.HasPrefix(r.URL.Path, tokenPath) {
			http.Error(w, "no certificate is being ordered with this token", http.StatusNotFound)
			return
		}
		if r.URL.Opaque != "" || !strings.HasPrefix(r.URL.Path, "/") {
			http.Error(w, "the request names no path of this host", http.StatusBadRequest)
			return
		}
		isRead := r.Method == http.MethodGet || r.Method == http.MethodHead
		if !isRead || r.URL.Path == "/inbox" || r.URL.Path == "/ice" {
			w.Header().Set("Connection", "close")
			http.Error(w, "use https: over plain http a password can be read on the way", http.StatusForbidden)
			return
		}
		w.Header().Del("Cache-Control")
		port := httpsPort
		if isPortMapped(r) {
			port = 443
		}
		// From the checked name and a known port, never from what the client wrote.
		http.Redirect(w, r, "https://"+urlHost(hostOf(r.Host), port)+r.URL.RequestURI(), http.StatusPermanentRedirect)
	}))
}

// isPortMapped is true for a request that went to port 80 and came to another.
func isPortMapped(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok || local.Port == 80 {
		return false
	}
	_, requestedPort, err := net.SplitHostPort(r.Host)
	return err != nil || requestedPort == "" || requestedPort == "80" // an error is a host without a port
}

// urlHost writes host and port as a URL has them.
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

// CheckHost answers 421 to requests for other hosts than the domains, on
// whatever port. Requests for which except is true pass; nil: none do.
func CheckHost(domains []string, except func(*http.Request) bool, next http.Handler) http.Handler {
	var names []string
	for _, d := range domains {
		if name, err := canonicalName(d); err == nil {
			names = append(names, name)
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains(names, hostOf(r.Host)) && (except == nil || !except(r)) {
			misdirected.Respond(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}
