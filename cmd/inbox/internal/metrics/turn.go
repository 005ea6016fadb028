package metrics

import (
	"inbox/turn"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	descAllocations     = desc("turn_allocations", "Open allocations of TURN.", "transport")
	descAllocated       = desc("turn_allocations_opened_total", "Opened allocations.", "transport")
	descRelayedPackets  = desc("turn_relayed_packets_total", "Relayed packets, by the transport of the receiving client.", "transport")
	descRelayedBytes    = desc("turn_relayed_bytes_total", "Payload of these packets.", "transport")
	descTURNRefused     = desc("turn_refused_total", "Requests that got an error.", "reason")
	descTURNDropped     = desc("turn_dropped_total", "Messages that were neither answered nor relayed.", "reason")
	descUnauthenticated = desc("turn_unauthenticated_responses_total", "Responses to clients without proven credentials, STUN included.")
	descWithheld        = desc("turn_withheld_responses_total", "Requests without proven credentials that got no response because of their number.")
	descLibraryErrors   = desc("turn_library_errors_total", "Errors that the TURN library reported. Clients can cause them.")
	descTURNStreams     = desc("turn_streams_open", "Open connections of TURN over TLS.")
	descLongestQueue    = desc("turn_longest_queue_bytes", "Bytes that wait for the slowest client over TLS.")
	descMonth           = desc("turn_month_bytes", "Bytes relayed in the current month (UTC).")
	descMaxMonth        = desc("turn_month_bytes_limit", "Limit of these bytes; absent without a limit.")
	descBuffer          = desc("turn_receive_buffer_bytes", "Size of the receive buffer of TURN over UDP; absent if it is unknown.")
	descReceiveDropped  = desc("turn_receive_dropped_packets_total", "Packets that the kernel dropped because this buffer was full; absent if it is unknown.")
)

// TURNSocket is what the kernel knows of the UDP socket of TURN.
type TURNSocket struct {
	BufferBytes int   // of the receive buffer; 0: unknown
	Dropped     int64 // packets, because the buffer was full
	DropsKnown  bool
}

// CollectTURN returns a collector of a TURN server and its UDP socket. The functions must be safe
// for concurrent use.
func CollectTURN(state func() turn.State, socket func() TURNSocket) prometheus.CollectorFunc {
	return func(m chan<- prometheus.Metric) {
		collectTURN(m, state())
		s := socket()
		limitGauge(m, descBuffer, int64(s.BufferBytes))
		if s.DropsKnown {
			m <- counter(descReceiveDropped, s.Dropped)
		}
	}
}

func collectTURN(m chan<- prometheus.Metric, s turn.State) {
	for transport, t := range map[string]turn.TransportState{"udp": s.UDP, "tls": s.TLS} {
		m <- gauge(descAllocations, t.Allocations, transport)
		m <- counter(descAllocated, t.Allocated, transport)
		m <- counter(descRelayedPackets, t.RelayedPackets, transport)
		m <- counter(descRelayedBytes, t.RelayedBytes, transport)
	}
	for reason, n := range s.Refused {
		m <- counter(descTURNRefused, n, reason)
	}
	for reason, n := range s.Dropped {
		m <- counter(descTURNDropped, n, reason)
	}
	m <- counter(descUnauthenticated, s.Unauthenticated)
	m <- counter(descWithheld, s.Withheld)
	m <- counter(descLibraryErrors, s.LibraryErrors)
	m <- gauge(descTURNStreams, int64(s.Streams))
	m <- gauge(descLongestQueue, int64(s.LongestQueueBytes))
	m <- gauge(descMonth, s.MonthBytes)
	limitGauge(m, descMaxMonth, s.MonthLimit)
}
