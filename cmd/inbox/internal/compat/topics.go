package compat

import (
	"cmp"
	"net/http"
	"time"

	"inbox/cmd/inbox/internal/config"
	"inbox/cmd/inbox/internal/limits"
	"inbox/cmd/inbox/internal/metrics"
	"inbox/inbox"
	"inbox/inbox/topics"
	"inbox/ratelimit"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	topicsPath = "/topics"
	// topicsPart of the memory of queued messages is for frames of topics that wait, besides it.
	topicsPart = 4
	// maxTopicsDebt is how long an address waits at most for a publication that it could not
	// afford.
	maxTopicsDebt = 10 * time.Second
)

func newTopics(cfg *config.Config, parts Parts) protocol {
	c := topics.Config{
		Topics: topics.NewMemory(topics.Limits{
			MaxTotal: cfg.Mailboxes.MaxInboxes, MaxPerPayer: cfg.Mailboxes.MaxInboxesPerPayer,
		}),
		MaxMessageBytes: int(cfg.MaxBodyBytes), MaxQueuedBytes: cfg.Mailboxes.MaxQueuedBytes / topicsPart,
		MessageTimeout: parts.BodyTimeout, WriteTimeout: parts.WriteTimeout,
		Origins: cfg.Origins, CrossSiteDetail: "Its operator can allow them with -cors-origins.",
		Enter: parts.enterTopics, OnFrameDelay: parts.Limits.FrameDelays.Add, Logger: parts.Log,
	}
	if cfg.Store != nil {
		c.Unavailable = "It shares its mailboxes with other servers, and topics are in the memory of one server. " +
			"Its operator can run another one without -store for them."
		parts.Log.Warn("/topics answers 503: topics are in the memory of one server, and -store is for several; " +
			"run a server without -store for them")
	}
	if parts.Access != nil {
		c.Access = parts.Access
	}
	h := topics.NewHandler(c)
	if parts.Access != nil {
		parts.Access.OnCheck(h.CheckAccess)
	}
	return protocol{
		handler: h,
		route:   func(path string) (metrics.Route, bool) { return metrics.RouteTopics, path == topicsPath },
		sockets: func() metrics.Sockets {
			stats := h.Stats()
			sockets := metrics.Sockets{Frames: stats.Frames}
			for _, n := range stats.Open {
				sockets.Open += n
			}
			return sockets
		},
		refusals: h.Refusals,
		collect:  func(m chan<- prometheus.Metric) { metrics.CollectTopics(m, h.Stats()) },
	}
}

// enterTopics counts a connection as a request that waits.
func (p Parts) enterTopics(r *http.Request) (topics.Client, error) {
	leave, err := p.Limits.Polls.Enter(r)
	if err != nil {
		return nil, err
	}
	// Unlike requests, the frames of a connection have one client, also behind a proxy.
	client := cmp.Or(p.Clients.Client(r), ratelimit.NewClient(p.Clients.Addr(r)))
	return &topicsClient{p.Limits, client, p.payerOfTopics(r), leave}, nil
}

// payerOfTopics returns whom a connection counts against: the inviter of a guest, or the address.
func (p Parts) payerOfTopics(r *http.Request) inbox.Payer {
	if p.Access != nil {
		if inviter := p.Access.Inviter(topics.Token(r)); inviter.Client != "" {
			return inviter
		}
	}
	return p.Clients.Payer(r)
}

// topicsClient is the client of a connection. It does not refer to the request, which takes memory.
type topicsClient struct {
	limits *limits.Limits
	client *ratelimit.Client
	payer  inbox.Payer
	leave  func()
}

var _ topics.Client = (*topicsClient)(nil)

func (t *topicsClient) Payer() inbox.Payer { return t.payer }
func (t *topicsClient) Leave()             { t.leave() }

// Delay takes a token of the address, which its requests use too.
func (t *topicsClient) Delay() (wait time.Duration, again bool) {
	return t.limits.Requests.DelayClient(t.client)
}

// Charge takes further tokens.
func (t *topicsClient) Charge(tokens int) {
	t.limits.Requests.Limiter.ChargeFrom(t.client, tokens, maxTopicsDebt, time.Now())
}
