package compat

import (
	"inbox/cmd/inbox/internal/metrics"
	"inbox/inbox/peerjs"
)

// peerjsRoutes are the routes of the metrics.
var peerjsRoutes = map[peerjs.Route]metrics.Route{
	peerjs.RouteInfo: metrics.RoutePeerJSInfo, peerjs.RouteID: metrics.RoutePeerJSID,
	peerjs.RoutePeers: metrics.RoutePeerJSPeers, peerjs.RouteSocket: metrics.RoutePeerJSSocket,
}

func newPeerJS(c Config) protocol {
	h := peerjs.New(peerjs.Config{
		Store: c.Store, Shared: c.Shared, Secret: c.Secret, Origins: c.Origins,
		MaxMessageBytes: int(max(c.MaxBodyBytes, peerjs.MinMessageBytes)), MaxWaitingBytes: c.MaxQueuedBytes,
		MessageTimeout: c.BodyTimeout, WriteTimeout: c.WriteTimeout,
		Payer: c.Clients.Payer, ClientFields: c.Clients.Fields(),
		Guard: c.Limits.IDs, Enter: c.Limits.Polls.Enter, Throttle: c.Limits.Requests.Delay, Logger: c.Log,
	})
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
	}
}
