// Package proxywarn logs mistakes in the configuration of trusted proxies.
package proxywarn

import (
	"bytes"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"

	"inbox/cmd/inbox/internal/conn"
	"inbox/cmd/inbox/internal/logging"
	"inbox/ratelimit"
	"inbox/tlsmgr"
)

// Warnings logs mistakes in the configuration of trusted proxies, whose users see only
// an error of the proxy. Each mistake is logged once. Other peers are ignored, because any
// client could cause these warnings.
type Warnings struct {
	Log           *slog.Logger
	ClientIP      *ratelimit.ClientIP
	ProxyProtocol bool

	logged sync.Map // the texts
}

func (p *Warnings) warn(text, fix string) {
	if _, again := p.logged.LoadOrStore(text, true); !again {
		p.Log.Warn(text, "fix", fix)
	}
}

// OnHandshakeError is the hook of [logging.ErrorLog].
func (p *Warnings) OnHandshakeError(peer, reason string) {
	if reason == logging.NoCertificate && p.ClientIP.TrustsPeer(peer) {
		p.warn("a trusted proxy connects over HTTPS without a server name of -domain (SNI), so there is no certificate for it",
			"in nginx: proxy_ssl_server_name on; proxy_ssl_name NAME; or let it use http:// and set -https=false")
	}
}

const (
	tlsHandshakeRecord = 22 // the first byte of TLS (RFC 8446, section 5.1), never of HTTP
	proxyV1Start       = "PROXY "
	proxyV2Start       = "\r\n\r\n\x00\r\nQUIT\n"
)

func isProxyHeader(first []byte) bool {
	return bytes.HasPrefix(first, []byte(proxyV1Start)) || bytes.HasPrefix(first, []byte(proxyV2Start))
}

// OnFirstBytes returns the hook of [conn.LazyListener], which finds connections of another
// protocol than that of the listener.
func (p *Warnings) OnFirstBytes(overTLS bool) conn.OnFirstBytes {
	return func(peer net.Addr, first []byte) {
		isTLS := first[0] == tlsHandshakeRecord
		switch {
		case isTLS == overTLS && !isProxyHeader(first):
		case isTLS && p.ProxyProtocol: // the peer is the client of a proxy
			p.warn("a trusted proxy forwards TLS connections to the HTTP port",
				"let the proxy decrypt TLS, or set -https, or let it connect to the HTTPS port of this server")
		case !p.ClientIP.TrustsPeer(peer.String()):
		case isTLS:
			p.warn("a trusted proxy connects over TLS to the HTTP port", "let the proxy use http:// (in nginx: "+
				"proxy_pass http://…), or set -https, or let it connect to the HTTPS port of this server")
		case isProxyHeader(first):
			p.warn("a trusted proxy sends a PROXY header, but -proxy-protocol is not set",
				"set -proxy-protocol, or switch the header off in the proxy")
		case overTLS:
			p.warn("a trusted proxy sends plain HTTP to the HTTPS port", "let the proxy use https:// (in nginx: "+
				"proxy_pass https://…), or set -https=false")
		}
	}
}

// OnProxyHeader is a hook of [conn.ProxyListener]. The peer is trusted.
func (p *Warnings) OnProxyHeader(_ net.Addr, first []byte) {
	// The first read can end within the header.
	if !bytes.HasPrefix([]byte(proxyV1Start), first[:min(len(first), len(proxyV1Start))]) &&
		!bytes.HasPrefix([]byte(proxyV2Start), first[:min(len(first), len(proxyV2Start))]) {
		p.warn("a trusted proxy sends no PROXY header, which -proxy-protocol requires",
			"switch it on in the proxy (HAProxy: send-proxy, nginx: proxy_protocol on), or remove -proxy-protocol")
	}
}

// OnRefused is a hook of [conn.ProxyListener]. A private address is probably a proxy.
func (p *Warnings) OnRefused(peer net.Addr) {
	if addr := ratelimit.ParseAddr(peer.String()); addr.IsPrivate() || addr.IsLoopback() {
		p.warn("a private address was refused, because -proxy-protocol is set and -trusted-proxies lacks the address",
			"if it is the proxy, add it to -trusted-proxies")
	}
}

// OnMisdirected warns of a request for a host that is not served, as of a proxy that sends the
// name of its upstream. A client can also cause it through the proxy.
func (p *Warnings) OnMisdirected(r *http.Request) {
	if p.ClientIP.TrustsPeer(r.RemoteAddr) {
		p.warn("a trusted proxy forwards requests for a host that is not in -domain; they get 421",
			"let the proxy keep the host of the request (in nginx: proxy_set_header Host $http_host), or add the host to -domain")
	}
}

// OnLocalHost warns of a request of a remote client for a local host, as of a proxy that sends the
// name of its upstream: the relay cannot be reached there. A client can also cause it through the
// proxy.
func (p *Warnings) OnLocalHost(r *http.Request) {
	if p.ClientIP.TrustsPeer(r.RemoteAddr) {
		p.warn("a trusted proxy replaces the host of requests by a local one; GET /ice does not offer the relay",
			"let the proxy keep the host of the request (in nginx: proxy_set_header Host $http_host), or set -turn NAME")
	}
}

// CheckHost is [tlsmgr.CheckHost] with a warning.
func (p *Warnings) CheckHost(domains []string, except func(*http.Request) bool) func(http.Handler) http.Handler {
	isException := func(r *http.Request) bool { // called if the host is not served
		if except(r) {
			return true
		}
		p.OnMisdirected(r)
		return false
	}
	return func(next http.Handler) http.Handler { return tlsmgr.CheckHost(domains, isException, next) }
}

// Redirects warns of a request that a proxy received over HTTPS and forwards to the HTTP
// port: the redirect to HTTPS leads to the same request again.
func (p *Warnings) Redirects(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if cameOverHTTPS(r.Header) && p.ClientIP.TrustsPeer(r.RemoteAddr) {
			p.warn("a trusted proxy forwards HTTPS requests to the HTTP port, which redirects them to HTTPS endlessly",
				"let the proxy connect over HTTPS (in a CDN: full mode instead of flexible), or set -https=false without -domain")
		}
		next.ServeHTTP(w, r)
	})
}

// cameOverHTTPS reports whether a proxy states that its client used HTTPS.
func cameOverHTTPS(h http.Header) bool {
	for _, field := range []string{"X-Forwarded-Proto", "X-Forwarded-Scheme", "X-Url-Scheme"} {
		if first, _, _ := strings.Cut(h.Get(field), ","); strings.EqualFold(strings.TrimSpace(first), "https") {
			return true
		}
	}
	return strings.EqualFold(h.Get("X-Forwarded-Ssl"), "on") || strings.EqualFold(h.Get("Front-End-Https"), "on") ||
		strings.Contains(h.Get("Cf-Visitor"), `"https"`) ||
		strings.Contains(strings.ToLower(strings.ReplaceAll(h.Get("Forwarded"), `"`, "")), "proto=https")
}
