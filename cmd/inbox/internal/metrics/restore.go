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

// CollectRestored returns a collector of what the server restored when it started.
func CollectRestored(r snapshot.Restored) prometheus.CollectorFunc {
	return func(m chan<- prometheus.Metric) {
		m <- gauge(descRestoredInboxes, r.Inboxes)
		m <- gauge(descRestoredMessages, r.Messages)
		m <- gauge(descDroppedInboxes, r.DroppedInboxes)
		m <- gauge(descDroppedMessages, r.DroppedMessages)
		for _, reason := range []snapshot.Loss{snapshot.Unsaved, snapshot.Unreadable} {
			m <- gauge(descRestoreFailed, boolValue(r.Loss == reason), string(reason))
		}
	}
}
