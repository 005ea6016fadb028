package server

import (
	"net/http"
	"time"

	"inbox/cmd/inbox/internal/access"
	"inbox/cmd/inbox/internal/compat"
	"inbox/cmd/inbox/internal/conn"
	"inbox/cmd/inbox/internal/limits"
	"inbox/cmd/inbox/internal/metrics"
	"inbox/cmd/inbox/internal/proxywarn"
	"inbox/public"
	"inbox/tlsmgr"
)

// stack has what the layers of a request need.
type stack struct {
	domains      []string
	timeouts     Timeouts
	certs        *tlsmgr.Manager // nil over plain HTTP
	limits       *limits.Limits
	meter        *metrics.Meter // nil if nothing reads it
	allowOrigin  func(http.ResponseWriter, *http.Request)
	compat       *compat.Protocols
	proxies      *proxywarn.Warnings
	isForAnyHost func(*http.Request) bool // whether -domain does not matter

	http2Refuser *conn.HTTP2Refuser // of the listeners without TLS
}

// mainHandler returns the layers of the main server around the handler that newRoutes returns, outermost first.
func (s stack) mainHandler(inner http.Handler) http.Handler {
	overTLS, named := s.certs != nil, len(s.domains) > 0
	return chain(inner,
		// Outermost, so that the time in which a refused body arrives counts for no layer.
		s.limits.Lingering.Handler,
		// Counts and logs every response.
		when(s.meter != nil, func(next http.Handler) http.Handler { return s.meter.Handler(s.compat.RouteOf(routes.Of), next) }),
		// Counts an HTTP/2 connection for as long as net/http can keep its memory.
		when(overTLS, func(next http.Handler) http.Handler {
			return conn.DelayReleaseHTTP2(s.timeouts.idle(overTLS), next)
		}),
		// Before everything that can refuse: net/http reads the body of a refused request.
		bodyDeadline(s.timeouts.Body),
		// Refusals from here on have the HSTS field, and those after it the CORS fields.
		when(named, s.certs.HSTS),
		// A proxy in front can redirect the challenges of port 80 to https.
		when(named, s.certs.HTTPHandler),
		corsForErrors(s.allowOrigin, s.compat.AllowOrigin),
		s.limits.Streams.Handler(s.limits.Requests.Handler),
		// Before a refusal can be delayed, because a large header uses much memory.
		s.limits.Header.Handler(s.limits.Requests.Handler),
		s.compat.Limited(s.limits.Requests.Handler, s.limits.Requests.Delay),
		when(!overTLS, s.http2Refuser.Handler),
		when(named, s.proxies.CheckHost(s.domains, s.isForAnyHost)),
	)
}

// redirectHandler returns the layers of the server on port 80, outermost first. ACME
// challenges are answered before the request rate is limited.
func (s stack) redirectHandler(httpsPort int) http.Handler {
	isRedirect := func(*http.Request) metrics.Route { return metrics.RouteRedirect }
	return chain(tlsmgr.Redirect(tlsmgr.RedirectConfig{Domains: s.domains, HTTPSPort: httpsPort, APIPaths: []string{mailboxPath, ackPath, icePath, access.PassPath}}),
		s.limits.Lingering.Handler,
		when(s.meter != nil, func(next http.Handler) http.Handler { return s.meter.Handler(isRedirect, next) }),
		bodyDeadline(s.timeouts.Body),
		s.limits.Header.Handler(s.limits.Requests.Handler),
		s.certs.HTTPHandler,
		s.limits.Requests.Handler,
		s.http2Refuser.Handler,
		s.proxies.CheckHost(s.domains, func(*http.Request) bool { return false }), // as Redirect does, with a warning
		s.proxies.Redirects,
	)
}

// newRoutes dispatches requests by path. For so few paths, a switch is faster than a mux.
func newRoutes(mailboxes http.Handler, health *health, addresses, pages http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !health.serving.Load() {
			w.Header().Set("Connection", "close") // over HTTP/2, net/http sends GOAWAY instead
		}
		switch r.URL.Path {
		case mailboxPath, ackPath, icePath:
			mailboxes.ServeHTTP(w, r)
		case healthPath:
			healthz(w, r)
		case readyPath:
			health.readyz(w, r)
		case addressesPath:
			addresses.ServeHTTP(w, r)
		default:
			pages.ServeHTTP(w, r)
		}
	})
}

// middleware wraps a handler in a layer. nil is a layer that is off.
type middleware func(next http.Handler) http.Handler

func when(on bool, layer middleware) middleware {
	if on {
		return layer
	}
	return nil
}

// chain wraps a handler in layers, outermost first.
func chain(h http.Handler, layers ...middleware) http.Handler {
	for i := len(layers) - 1; i >= 0; i-- {
		if layers[i] != nil {
			h = layers[i](h)
		}
	}
	return h
}

// bodyDeadline sets a read deadline for request bodies. Server.ReadTimeout would include
// the header. Without a deadline, a slow body that no handler reads would keep the
// connection open forever, as net/http first reads the rest of it. net/http clears the
// deadline once the body is complete, so a poll can wait longer.
func bodyDeadline(timeout time.Duration) middleware {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ContentLength != 0 { // -1 is a body of unknown length
				// An error means that w does not support deadlines, like a test's recorder.
				_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(timeout))
			}
			next.ServeHTTP(w, r)
		})
	}
}

// corsForErrors adds CORS headers to error responses of layers in front of the mailbox
// handler, the modules and the protocols of -compat, so that pages of allowed origins can read
// them.
func corsForErrors(allowOrigin, compat func(http.ResponseWriter, *http.Request)) middleware {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch path := r.URL.Path; {
			case path == mailboxPath, path == ackPath, path == icePath, path == access.PassPath, public.IsModule(path):
				allowOrigin(w, r)
			default:
				compat(w, r)
			}
			next.ServeHTTP(w, r)
		})
	}
}
