package metrics

import (
	"inbox/inbox/peerjs"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	descPeerIDs     = desc("peerjs_ids", "Ids of PeerJS clients that are connected, or can come back for them.")
	descPeerAnswers = desc("peerjs_answers_total", "Frames that the server itself sent to clients of PeerJS, by their type.", "type")
	descPeerAbsent  = desc("peerjs_absent_ids", "Ids of PeerJS that are not claimed and for which frames wait.")
	descPeerWaiting = desc("peerjs_waiting_bytes", "Memory of these frames, and of large ones that are being read or written.")
)

// CollectPeerJS sends the metrics of PeerJS.
func CollectPeerJS(m chan<- prometheus.Metric, s peerjs.Stats) {
	m <- gauge(descPeerIDs, s.IDs)
	for kind, n := range s.Answers {
		m <- counter(descPeerAnswers, n, kind)
	}
	m <- gauge(descPeerAbsent, s.AbsentIDs)
	m <- gauge(descPeerWaiting, s.WaitingBytes)
}
