package metrics

import "github.com/prometheus/client_golang/prometheus"

var (
	descSockets = desc("compat_sockets", "Open WebSockets of a protocol of -compat.", "protocol")
	descFrames  = desc("compat_frames_total", "Frames that these received, by their type; other is one of no known type.", "protocol", "type")
)

// Sockets are the WebSockets of a protocol of -compat.
type Sockets struct {
	Open   int64
	Frames map[string]int64 // received, by type
}

// CollectSockets sends the metrics of a protocol.
func CollectSockets(m chan<- prometheus.Metric, protocol string, s Sockets) {
	m <- gauge(descSockets, s.Open, protocol)
	for kind, n := range s.Frames {
		m <- counter(descFrames, n, protocol, kind)
	}
}
