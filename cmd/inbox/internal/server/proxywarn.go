package server

import (
	"log/slog"
	"net/http"
	"strings"
	"sync"

	"inbox/cmd/inbox/internal/logging"
	"inbox/ratelimit"
)

// proxyWarnings logs mistakes in the configuration of trusted proxies, whose users see only
// an error of the proxy. Each mistake is logged once. Other peers are ignored, because any
// client could cause these warnings.
type proxyWarnings struct {
	log      *slog.Logger
	clientIP *ratelimit.ClientIP

	noCertificate, notTLS, loop sync.Once
}

// onHandshakeError is the hook of [logging.ErrorLog].
func (p *proxyWarnings) onHandshakeError(peer, reason string) {
	if (reason != logging.NoCertificate && reason != logging.NotTLS) || !p.clientIP.TrustsPeer(peer) {
		return
	}
	if reason == logging.NotTLS {
		p.notTLS.Do(func() {
			p.log.Warn("a trusted proxy sends plain HTTP to the HTTPS port", "fix", "let the proxy use https:// (in nginx: "+
				"proxy_pass https://…), or set -https=false")
		})
		return
	}
	p.noCertificate.Do(func() {
		p.log.Warn("a trusted proxy connects over HTTPS without a server name of -domain (SNI), so there is no certificate for it",
			"fix", "in nginx: proxy_ssl_server_name on; proxy_ssl_name NAME; or let it use http:// and set -https=false")
	})
}

// redirects warns of a request that a proxy received over HTTPS and forwards to the HTTP
// port: the redirect to HTTPS leads to the same request again.
func (p *proxyWarnings) redirects(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if cameOverHTTPS(r.Header) && p.clientIP.TrustsPeer(r.RemoteAddr) {
			p.loop.Do(func() {
				p.log.Warn("a trusted proxy forwards HTTPS requests to the HTTP port, which redirects them to HTTPS endlessly",
					"fix", "let the proxy connect over HTTPS (in a CDN: full mode instead of flexible), or set -https=false without -domain")
			})
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
