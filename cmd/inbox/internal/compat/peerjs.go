package compat

import (
	"inbox/cmd/inbox/internal/config"
	"inbox/cmd/inbox/internal/metrics"
	"inbox/inbox"
	"inbox/inbox/peerjs"

	"github.com/prometheus/client_golang/prometheus"
)

// peerjsRoutes are the routes of the metrics.
var peerjsRoutes = map[peerjs.Route]metrics.Route{
	peerjs.RouteInfo: metrics.RoutePeerJSInfo, peerjs.RouteID: metrics.RoutePeerJSID,
	peerjs.RoutePeers: metrics.RoutePeerJSPeers, peerjs.RouteSocket: metrics.RoutePeerJSSocket,
}

func newPeerJS(cfg *config.Config, parts Parts) protocol {
	c := peerjs.Config{
		Store: parts.Store, Shared: cfg.Store != nil, Secret: parts.Secret, Origins: cfg.Origins,
		MaxMessageBytes: int(max(cfg.MaxBodyBytes, peerjs.MinMessageBytes)), MaxWaitingBytes: cfg.Mailboxes.MaxQueuedBytes,
		MessageTimeout: parts.BodyTimeout, WriteTimeout: parts.WriteTimeout,
		Payer: parts.Clients.Payer, ClientFields: parts.Clients.Fields(),
		Guard: parts.Limits.IDs, Enter: parts.Limits.Polls.Enter, Throttle: parts.Limits.Requests.Delay,
		OnFrameDelay: parts.Limits.FrameDelays.Add,
		Alive:        inbox.Alive, Logger: parts.Log,
	}
	if parts.Access != nil {
		c.Access = parts.Access
	}
	h := peerjs.New(c)
	return protocol{
		handler: h,
		route: func(path string) (metrics.Route, bool) {
			route, ok := peerjsRoutes[peerjs.RouteOf(path)]
			return route, ok
		},
		sockets: func() metrics.Sockets {
			stats := h.Stats()
			return metrics.Sockets{Open: stats.Open, Frames: stats.Frames}
		},
		refusals: h.Refusals,
		collect:  func(m chan<- prometheus.Metric) { metrics.CollectPeerJS(m, h.Stats()) },
	}
}
