// Package access makes a server private, with -access invited: it joins the invitations of package
// invite with the options, the requests and the metrics of the server. It also runs inbox invite.
package access

import (
	"errors"
	"log/slog"
	"net/http"

	"inbox/cmd/inbox/internal/config"
	"inbox/inbox"
	"inbox/inbox/invite"
	"inbox/inbox/redisstore"
	"inbox/turn"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// PassPath is the path of guest passes.
	PassPath = "/guest-pass"
	// CodePrefix begins the names of mailboxes that the pages open for a code that a person types,
	// and joinerPrefix those of the devices on which it is typed.
	CodePrefix   = "code-"
	joinerPrefix = "join-"
)

// ErrNoState reports that the invitations cannot be kept. It is a mistake in the options.
var ErrNoState = errors.New("-access invited requires a state directory that the server can write to, or -store: " +
	"set a writable directory with -state")

// Parts are the parts of the server that are needed.
type Parts struct {
	// StateDir is the state directory; empty without one.
	StateDir string
	// Shared is the store of several nodes; nil without one.
	Shared *redisstore.Store
	Store  inbox.Store
	// Payer returns whom a request counts against by its address.
	Payer           func(*http.Request) inbox.Payer
	CrossSiteDetail string
	// OnEnd is called when the claim of an owner has ended with its invitation.
	OnEnd func(owner string)
	Log   *slog.Logger
}

// Access is the access to a private server.
type Access struct {
	*invite.Access
	passes *invite.Handler
	byAddr func(*http.Request) inbox.Payer
}

// Open returns the access to a server, or nil if it is open. The error is [ErrNoState], or that of
// invitations that cannot be read.
func Open(cfg *config.Config, p Parts) (*Access, error) {
	if !cfg.Private {
		return nil, nil
	}
	var storage invite.Storage
	switch {
	case p.Shared != nil:
		storage = invite.NewShared(p.Shared, redisstore.Prefix, cfg.Store.Key)
	case p.StateDir != "":
		storage = invite.NewFile(p.StateDir)
	default:
		return nil, ErrNoState
	}
	access, err := invite.New(invite.Config{
		Storage: storage, Store: p.Store, OnEnd: p.OnEnd, Remember: max(cfg.Mailboxes.Timeout, turn.CredentialLifetime),
		MaxClaims: maxClaims(cfg.Mailboxes.MaxInboxes), CodePrefix: CodePrefix, JoinerPrefix: joinerPrefix, Logger: p.Log,
	})
	if err != nil {
		return nil, err
	}
	if access.Stats().Valid == 0 && p.Shared == nil {
		p.Log.Warn("the server is private and has no valid invitation; make one with: inbox invite -label NAME")
	}
	a := &Access{Access: access, byAddr: p.Payer}
	a.passes = invite.NewHandler(invite.HandlerConfig{
		Access: access, Payer: p.Payer, AnyOrigin: cfg.AnyOrigin, Origins: cfg.Origins, CrossSiteDetail: p.CrossSiteDetail,
	})
	return a, nil
}

// maxClaims returns how many owners of mailboxes are followed: those of all mailboxes, and some whose
// mailboxes have expired in the last minutes. Zero is no limit.
func maxClaims(maxInboxes int) int {
	if maxInboxes == 0 {
		return 0
	}
	return maxInboxes + max(maxInboxes/4, 1000)
}

// Payer returns whom a request counts against: the inviter of a guest, or the address. It is used
// instead of that of [Parts].
func (a *Access) Payer(r *http.Request) inbox.Payer {
	if token := r.Header[inbox.InviteField]; len(token) > 0 {
		if inviter := a.Inviter(token[0]); inviter.Client != "" {
			return inviter
		}
	}
	return a.byAddr(r)
}

// Handler returns next with the path of guest passes before it.
func (a *Access) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == PassPath {
			a.passes.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// AddRefusals adds the refusals of guest passes to those of the mailboxes.
func (a *Access) AddRefusals(counts map[string]int64) {
	for kind, n := range a.passes.Refusals() {
		counts[kind] += n
	}
}

var (
	descInvitations = prometheus.NewDesc("inbox_invitations", "Invitations of a private server, as far as they are kept.", []string{"state"}, nil)
	descPasses      = prometheus.NewDesc("inbox_guest_passes_total", "Guest passes made.", nil, nil)
	descHeld        = prometheus.NewDesc("inbox_invited_claims", "Claims that end with their invitation or guest pass.", nil, nil)
	descJoiners     = prometheus.NewDesc("inbox_joiners", "Mailboxes of devices without an invitation that enter a short code.", nil, nil)
)

// Collect sends the metrics.
func (a *Access) Collect(m chan<- prometheus.Metric) {
	s := a.Stats()
	send := func(d *prometheus.Desc, kind prometheus.ValueType, n int64, labels ...string) {
		m <- prometheus.MustNewConstMetric(d, kind, float64(n), labels...)
	}
	send(descInvitations, prometheus.GaugeValue, s.Valid, "valid")
	send(descInvitations, prometheus.GaugeValue, s.Expired, "expired")
	send(descInvitations, prometheus.GaugeValue, s.Revoked, "revoked")
	send(descPasses, prometheus.CounterValue, s.GuestPasses)
	send(descHeld, prometheus.GaugeValue, s.Claims)
	send(descJoiners, prometheus.GaugeValue, s.Joiners)
}
