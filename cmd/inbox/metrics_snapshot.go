package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"inbox/cmd/inbox/internal/snapshot"
)

// What the last restart kept, for an operator who was not there.
var (
	descRestoredInboxes  = desc("restored_inboxes", "Inboxes that were taken up at the start.")
	descRestoredMessages = desc("restored_messages", "Messages that were taken up at the start.")
	descDroppedInboxes   = desc("restore_dropped_inboxes", "Inboxes that were left out at the start, since the limits are lower than before.")
	descDroppedMessages  = desc("restore_dropped_messages", "Messages that were left out at the start, since the limits are lower than before.")
	descRestoreFailed    = desc("restore_failed", "Whether the start found no inboxes though there were some: unsaved by the server before, or unreadable.", "reason")
)

// restoreCollector exports what the start restored.
type restoreCollector struct{ snapshot.Restored }

// Describe implements [prometheus.Collector].
func (s restoreCollector) Describe(descs chan<- *prometheus.Desc) {
	prometheus.DescribeByCollect(s, descs)
}

// Collect implements [prometheus.Collector].
func (s restoreCollector) Collect(m chan<- prometheus.Metric) {
	m <- gauge(descRestoredInboxes, s.Inboxes)
	m <- gauge(descRestoredMessages, s.Messages)
	m <- gauge(descDroppedInboxes, s.DroppedInboxes)
	m <- gauge(descDroppedMessages, s.DroppedMessages)
	for _, reason := range []snapshot.Loss{snapshot.Unsaved, snapshot.Unreadable} {
		m <- gauge(descRestoreFailed, boolValue(s.Loss == reason), string(reason))
	}
}
