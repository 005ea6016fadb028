package topics

import "sync/atomic"

// Limits that a client can reach, as their names in [Stats] and in frames of the type error.
const (
	limitTopicsPerConn    = "topics-per-connection"
	limitMembersPerTopic  = "members-per-topic"
	limitTopicsPerAddress = "topics-per-address"
	limitTopics           = "topics"
)

var limitNames = [...]string{limitTopicsPerConn, limitMembersPerTopic, limitTopicsPerAddress, limitTopics}

// counts are the counters of a handler.
type counts struct {
	open                           [numProtocols]atomic.Int64
	frames                         [numKinds]atomic.Int64
	delivered, dropped, disconnect atomic.Int64
	refused                        [len(limitNames)]atomic.Int64
}

// Stats are the connections of a handler, and what happened since it was made.
type Stats struct {
	// Open is the number of WebSockets, by protocol: "y-webrtc", "trystero", or "unknown" before
	// the first subscription.
	Open map[string]int64
	// Topics is the number of topics with members, and Members the sum of their members.
	Topics, Members int64
	// Frames are those received, by type: "subscribe", "unsubscribe", "publish", "ping", "other".
	Frames map[string]int64
	// Delivered are frames that were written to a member. Dropped ones were not, because a client
	// of Trystero did not read. Disconnected are the other connections that were closed for this.
	Delivered, Dropped, Disconnected int64
	// Refused are subscriptions, by limit.
	Refused map[string]int64
	// QueuedBytes is the memory of frames that wait for clients to read, and of incomplete ones.
	QueuedBytes int64
}

// Stats returns the present values. It can be called concurrently.
func (h *Handler) Stats() Stats {
	c := &h.counts
	s := Stats{
		Open: map[string]int64{}, Frames: map[string]int64{}, Refused: map[string]int64{},
		Delivered: c.delivered.Load(), Dropped: c.dropped.Load(), Disconnected: c.disconnect.Load(), QueuedBytes: h.queued.used.Load(),
	}
	if h.topics != nil {
		topics, members := h.topics.Len()
		s.Topics, s.Members = int64(topics), int64(members)
	}
	for p := range numProtocols {
		s.Open[p.String()] = c.open[p].Load()
	}
	for k, name := range kindNames {
		s.Frames[name] = c.frames[k].Load()
	}
	for i, name := range limitNames {
		s.Refused[name] = c.refused[i].Load()
	}
	return s
}

// countRefused counts a refusal.
func (c *counts) countRefused(limit string) {
	for i, name := range limitNames {
		if name == limit {
			c.refused[i].Add(1)
		}
	}
}
