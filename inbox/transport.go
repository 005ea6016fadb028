package inbox

import "errors"

// Transport is how a receiver gets its messages.
type Transport int

// The transports.
const (
	LongPoll    Transport = iota // GET, one message
	EventStream                  // GET with Accept: text/event-stream
	WebSocket
	numTransports
)

// String returns "poll", "sse" or "websocket".
func (t Transport) String() string { return [...]string{"poll", "sse", "websocket"}[t] }

// ReceiverStats are the receivers of one transport.
type ReceiverStats struct {
	Transport Transport
	// Open is the number of receivers that wait for a message, or of streams.
	Open int64
	Deliveries
}

// Deliveries counts the outcomes of messages that were read for a receiver.
type Deliveries struct {
	// AutoAck were written to a receiver that does not acknowledge, and discarded, or
	// kept until the window of its stream has passed.
	AutoAck int64
	// ManualAck were written to a receiver that acknowledges, and kept until it
	// does. One that is written twice counts twice.
	ManualAck int64
	// Requeued were not written because the receiver had disconnected. They
	// stay first in their mailbox.
	Requeued int64
}

// Receivers returns the receivers at present, and what was delivered since the
// handler was made, by transport.
func (h *Handler) Receivers() []ReceiverStats {
	stats := make([]ReceiverStats, numTransports)
	for t := range stats {
		c := &h.receivers[t]
		stats[t] = ReceiverStats{Transport(t), c.open.Load(), Deliveries{c.autoAck.Load(), c.manualAck.Load(), c.requeued.Load()}}
	}
	return stats
}

// Reasons for the end of a stream.
const (
	reasonSuperseded = "superseded"
	reasonStopping   = "stopping"
	reasonClaimEnded = "claim-ended"
)

// endReason returns the reason that a client learns, or "" for an error that is none.
func endReason(err error) string {
	switch {
	case errors.Is(err, ErrSuperseded):
		return reasonSuperseded
	case errors.Is(err, ErrStopping):
		return reasonStopping
	case errors.Is(err, ErrClaimEnded):
		return reasonClaimEnded
	}
	return ""
}
