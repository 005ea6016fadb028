package main

import "github.com/prometheus/client_golang/prometheus"

// What the last restart kept, for an operator who was not there.
var (
	descRestoredInboxes  = desc("restored_inboxes", "Inboxes that were taken up at the start.")
	descRestoredMessages = desc("restored_messages", "Messages that were taken up at the start.")
	descDroppedInboxes   = desc("restore_dropped_inboxes", "Inboxes that were left out at the start, since the limits are lower than before.")
	descDroppedMessages  = desc("restore_dropped_messages", "Messages that were left out at the start, since the limits are lower than before.")
	descRestoreFailed    = desc("restore_failed", "Whether the start found no inboxes though there were some: unsaved by the server before, or unreadable.", "reason")
)

// Describe implements [prometheus.Collector].
func (a *archive) Describe(descs chan<- *prometheus.Desc) { prometheus.DescribeByCollect(a, descs) }

// Collect implements [prometheus.Collector].
func (a *archive) Collect(m chan<- prometheus.Metric) {
	m <- gauge(descRestoredInboxes, a.restored.Inboxes)
	m <- gauge(descRestoredMessages, a.restored.Messages)
	m <- gauge(descDroppedInboxes, a.restored.DroppedInboxes)
	m <- gauge(descDroppedMessages, a.restored.DroppedMessages)
	for _, reason := range []loss{lostUnsaved, lostUnreadable} {
		m <- gauge(descRestoreFailed, one(a.lost == reason), string(reason))
	}
}
