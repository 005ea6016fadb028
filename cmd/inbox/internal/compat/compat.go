// Package compat serves the protocols of other programs' clients, which -compat selects, beside
// the mailboxes. A protocol has a row in the table of constructors, and a handler in a package of
// its own.
package compat

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"inbox/cmd/inbox/internal/config"
	"inbox/cmd/inbox/internal/conn"
	"inbox/cmd/inbox/internal/limits"
	"inbox/cmd/inbox/internal/metrics"
	"inbox/inbox"
	"inbox/inbox/invite"
	"inbox/internal/websocket"

	"github.com/prometheus/client_golang/prometheus"
)

// Parts are the parts of the server that the handlers use.
type Parts struct {
	// Store has the mailboxes.
	Store inbox.Store
	// Secret keys hashes. It is the same on all nodes of a store.
	Secret []byte
	// BodyTimeout and WriteTimeout bound how long a frame is on its way.
	BodyTimeout, WriteTimeout time.Duration
	// Access decides who can use a private server; nil: all can.
	Access  *invite.Access
	Clients *conn.ClientResolver
	Limits  *limits.Limits
	Log     *slog.Logger
}

// constructors make the protocols of -compat.
var constructors = map[string]func(*config.Config, Parts) protocol{
	"peerjs": newPeerJS,
	"topics": newTopics,
}

// handler is the handler of a protocol. Its connections outlive their requests.
type handler interface {
	http.Handler
	// AllowOrigin sets the CORS fields that let a page read a response.
	AllowOrigin(http.ResponseWriter, *http.Request)
	// Stop begins to close all connections with a code of RFC 6455, and those that follow. It does
	// not wait.
	Stop(code uint16)
	// Wait waits until they are closed. When ctx is done it aborts those that are open.
	Wait(ctx context.Context) error
}

// protocol is a protocol that is served.
type protocol struct {
	handler
	name string
	// route returns the route of a path, and whether the handler serves it.
	route   func(path string) (metrics.Route, bool)
	sockets func() metrics.Sockets
	// refusals returns the refusals for want of an invitation, by type of problem.
	refusals func() map[string]int64
	// collect sends further metrics; nil without any.
	collect prometheus.CollectorFunc
}

// Protocols are those that are served. The zero value serves none.
type Protocols struct{ served []protocol }

// New returns the protocols of a configuration.
func New(cfg *config.Config, parts Parts) *Protocols {
	p := &Protocols{}
	for _, name := range cfg.Compat {
		served := constructors[name](cfg, parts)
		served.name = name
		p.served = append(p.served, served)
	}
	return p
}

// find returns the protocol that serves a path, or nil.
func (p *Protocols) find(path string) (*protocol, metrics.Route) {
	for i := range p.served {
		if route, ok := p.served[i].route(path); ok {
			return &p.served[i], route
		}
	}
	return nil, 0
}

// Handler returns next with the paths of the protocols before it.
func (p *Protocols) Handler(next http.Handler) http.Handler {
	if len(p.served) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if served, _ := p.find(r.URL.Path); served != nil {
			served.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// maxTokenWait bounds the wait of an opening handshake for a token of its address.
const maxTokenWait = 15 * time.Second

// Limited returns the limit of requests with a wait before it: an opening handshake of a protocol
// waits for a token of its address, of which delay takes one, before it is refused. PeerJS does not
// try again, and the frames of a page with many peers use up the tokens of those that follow.
func (p *Protocols) Limited(limit func(http.Handler) http.Handler, delay func(*http.Request) (wait time.Duration, again bool)) func(http.Handler) http.Handler {
	if len(p.served) == 0 {
		return limit
	}
	return func(next http.Handler) http.Handler {
		limited := limit(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if served, _ := p.find(r.URL.Path); served != nil && websocket.IsUpgrade(r) && awaitToken(r, delay) {
				next.ServeHTTP(w, r)
				return
			}
			limited.ServeHTTP(w, r)
		})
	}
}

// awaitToken reports whether a request has got a token in time.
func awaitToken(r *http.Request, delay func(*http.Request) (wait time.Duration, again bool)) bool {
	for by := time.Now().Add(maxTokenWait); ; {
		wait, again := delay(r)
		if wait <= 0 {
			return true
		}
		if again && time.Now().Add(wait).After(by) {
			return false
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-r.Context().Done():
			timer.Stop()
			return false
		}
		if !again {
			return true
		}
	}
}

// RouteOf returns a function that returns the route of a request: that of other, unless a protocol
// serves a path that other takes for a page.
func (p *Protocols) RouteOf(other func(*http.Request) metrics.Route) func(*http.Request) metrics.Route {
	if len(p.served) == 0 {
		return other
	}
	return func(r *http.Request) metrics.Route {
		route := other(r)
		if route == metrics.RoutePages {
			if served, its := p.find(r.URL.Path); served != nil {
				return its
			}
		}
		return route
	}
}

// AllowOrigin sets the CORS fields of a response that precedes a handler.
func (p *Protocols) AllowOrigin(w http.ResponseWriter, r *http.Request) {
	if served, _ := p.find(r.URL.Path); served != nil {
		served.AllowOrigin(w, r)
	}
}

// Stop begins to close the connections of all protocols, as handler does.
func (p *Protocols) Stop(code uint16) {
	for _, served := range p.served {
		served.Stop(code)
	}
}

// Wait waits until they are closed, and aborts those that are open when ctx is done.
func (p *Protocols) Wait(ctx context.Context) error {
	var errs []error
	for _, served := range p.served {
		errs = append(errs, served.Wait(ctx))
	}
	return errors.Join(errs...)
}

// Sockets returns the connections of each protocol.
func (p *Protocols) Sockets() map[string]metrics.Sockets {
	all := make(map[string]metrics.Sockets, len(p.served))
	for _, served := range p.served {
		all[served.name] = served.sockets()
	}
	return all
}

// AddRefusals adds the refusals for want of an invitation to those of the mailboxes.
func (p *Protocols) AddRefusals(counts map[string]int64) {
	for _, served := range p.served {
		for kind, n := range served.refusals() {
			counts[kind] += n
		}
	}
}

// Collect sends the metrics.
func (p *Protocols) Collect(m chan<- prometheus.Metric) {
	for _, served := range p.served {
		metrics.CollectSockets(m, served.name, served.sockets())
		if served.collect != nil {
			served.collect(m)
		}
	}
}
