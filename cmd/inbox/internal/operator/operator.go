// Package operator shows the state of the server to its operator: as a page and as JSON on the
// metrics listener, as text in a terminal, and as one line per hour in the log. It reads the
// counters of other components, and changes nothing. Access to the listener is checked by
// package metrics.
package operator

import (
	"time"

	"inbox/cmd/inbox/internal/logging"
	"inbox/cmd/inbox/internal/metrics"
	"inbox/cmd/inbox/internal/snapshot"
	"inbox/inbox/invite"
	"inbox/turn"
)

// Sources are what the state is read from. The functions must be safe for concurrent use.
type Sources struct {
	metrics.Sources
	// TURN returns the state of the relay; nil without one in this process.
	TURN func() turn.State
	// Invitations returns those of a private server; nil if the server is open.
	Invitations func() invite.Stats
	// Restored is what the start took from the snapshot.
	Restored snapshot.Restored
	// Started is the time of the start, Earlier those of earlier ones, oldest first.
	Started time.Time
	Earlier []time.Time
	// Warnings are the last warnings of the log.
	Warnings *logging.Recent
}

// counts are totals since the start.
type counts struct {
	claimed, delivered, requeued, relays, relayedBytes int64
	refused                                            [numLayers]int64
}

// count reads the totals.
func (s *Sources) count() (c counts) {
	c.claimed = s.Claims()
	for _, r := range s.Receivers() {
		c.delivered += r.AutoAck + r.ManualAck
		c.requeued += r.Requeued
	}
	for layer, reasons := range s.refusals() {
		for _, n := range reasons {
			c.refused[layer] += n
		}
	}
	if s.TURN != nil {
		t := s.TURN()
		c.relays = t.UDP.Allocated + t.TLS.Allocated
		c.relayedBytes = t.UDP.RelayedBytes + t.TLS.RelayedBytes
	}
	return c
}

// openReceivers returns the receivers of all transports.
func (s *Sources) openReceivers() (open int64) {
	for _, r := range s.Receivers() {
		open += r.Open
	}
	return open
}

// refusedTotal returns the refusals of all layers.
func (c *counts) refusedTotal() (sum int64) {
	for _, n := range c.refused {
		sum += n
	}
	return sum
}

// Operator has the state of the server, with a short history. All methods can be called
// concurrently.
type Operator struct {
	sources Sources
	history history
}

// New returns the state of a server.
func New(s Sources) *Operator { return &Operator{sources: s} }
