package metrics

import (
	"inbox/cmd/inbox/internal/snapshot"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	descRestoredInboxes  = desc("restored_inboxes", "Inboxes restored at the start.")
	descRestoredMessages = desc("restored_messages", "Messages restored at the start.")
	descDroppedInboxes   = desc("restore_dropped_inboxes", "Inboxes dropped at the start, because the limits were lowered.")
	descDroppedMessages  = desc("restore_dropped_messages", "Messages dropped at the start, because the limits were lowered.")
	descRestoreFailed    = desc("restore_failed", "Whether the start could not restore the inboxes: the previous server did not save them, or the file was unreadable.", "reason")
)

// RestoreCollector exports what the server restored when it started. It implements
// [prometheus.Collector].
type RestoreCollector struct{ snapshot.Restored }

// Describe implements [prometheus.Collector].
func (c RestoreCollector) Describe(descs chan<- *prometheus.Desc) {
	prometheus.DescribeByCollect(c, descs)
}

// Collect implements [prometheus.Collector].
func (c RestoreCollector) Collect(m chan<- prometheus.Metric) {
	m <- gauge(descRestoredInboxes, c.Inboxes)
	m <- gauge(descRestoredMessages, c.Messages)
	m <- gauge(descDroppedInboxes, c.DroppedInboxes)
	m <- gauge(descDroppedMessages, c.DroppedMessages)
	for _, reason := range []snapshot.Loss{snapshot.Unsaved, snapshot.Unreadable} {
		m <- gauge(descRestoreFailed, boolValue(c.Loss == reason), string(reason))
	}
}
