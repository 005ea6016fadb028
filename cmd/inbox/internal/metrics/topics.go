package metrics

import (
	"inbox/inbox/topics"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	descTopics         = desc("topics", "Topics with members.")
	descTopicMembers   = desc("topic_members", "Members of all topics.")
	descTopicClients   = desc("topic_clients", "Open WebSockets of topics, by their clients' protocol; unknown before the first subscription.", "client")
	descTopicFrames    = desc("topic_deliveries_total", "Frames for members of topics, by result: written, or dropped because a client of Trystero did not read.", "result")
	descTopicSlow      = desc("topic_slow_clients_total", "WebSockets of topics that were closed because their client did not read.")
	descTopicRefused   = desc("topic_refusals_total", "Subscriptions that a limit refused.", "limit")
	descTopicQueueSize = desc("topic_queued_bytes", "Memory of frames that wait for clients of topics to read, and of incomplete ones.")
)

// CollectTopics sends the metrics of topics.
func CollectTopics(m chan<- prometheus.Metric, s topics.Stats) {
	m <- gauge(descTopics, s.Topics)
	m <- gauge(descTopicMembers, s.Members)
	for protocol, n := range s.Open {
		m <- gauge(descTopicClients, n, protocol)
	}
	m <- counter(descTopicFrames, s.Delivered, "written")
	m <- counter(descTopicFrames, s.Dropped, "dropped")
	m <- counter(descTopicSlow, s.Disconnected)
	for limit, n := range s.Refused {
		m <- counter(descTopicRefused, n, limit)
	}
	m <- gauge(descTopicQueueSize, s.QueuedBytes)
}
