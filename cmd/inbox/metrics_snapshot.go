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
func (s *snapshotFile) Describe(descs chan<- *prometheus.Desc) {
	prometheus.DescribeByCollect(s, descs)
}

// Collect implements [prometheus.Collector].
func (s *snapshotFile) Collect(m chan<- prometheus.Metric) {
	m <- gauge(descRestoredInboxes, s.restored.Inboxes)
	m <- gauge(descRestoredMessages, s.restored.Messages)
	m <- gauge(descDroppedInboxes, s.restored.DroppedInboxes)
	m <- gauge(descDroppedMessages, s.restored.DroppedMessages)
	for _, reason := range []lossReason{lossUnsaved, lossUnreadable} {
		m <- gauge(descRestoreFailed, boolValue(s.loss == reason), string(reason))
	}
}
