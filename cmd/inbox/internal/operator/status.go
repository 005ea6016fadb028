package operator

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"inbox/cmd/inbox/internal/logging"
	"inbox/cmd/inbox/internal/memory"
	"inbox/tlsmgr"
)

// Status is the state of the server, as /status.json has it. docs/monitoring.md describes the
// fields; names are only added. Times that do not apply are null, and limits that are off 0.
type Status struct {
	Version      string        `json:"version"`
	Time         time.Time     `json:"time"`
	Ready        bool          `json:"ready"`
	Failing      []string      `json:"failing"`
	Process      Process       `json:"process"`
	Restarts     Restarts      `json:"restarts"`
	Certificates []Certificate `json:"certificates"`
	Mailboxes    Mailboxes     `json:"mailboxes"`
	Messages     Messages      `json:"messages"`
	Receivers    Receivers     `json:"receivers"`
	Protocols    []Protocol    `json:"protocols"`
	Connections  Connections   `json:"connections"`
	Refusals     []Layer       `json:"refusals"`
	Invitations  *Invitations  `json:"invitations"`
	TURN         *TURN         `json:"turn"`
	Warnings     []Warning     `json:"warnings"`
	History      History       `json:"history"`
}

// Process is the state of the process.
type Process struct {
	StartedAt        time.Time `json:"started_at"`
	UptimeSeconds    int64     `json:"uptime_seconds"`
	MemoryBytes      int64     `json:"memory_bytes"`
	MemoryLimitBytes int64     `json:"memory_limit_bytes"`
}

// Restarts are the starts of the server, and what the last one restored.
type Restarts struct {
	LastDay          int         `json:"last_day"`
	LastWeek         int         `json:"last_week"`
	Earlier          []time.Time `json:"earlier"`
	RestoredInboxes  int64       `json:"restored_mailboxes"`
	RestoredMessages int64       `json:"restored_messages"`
	Loss             string      `json:"loss"`
}

// Certificate is the certificate of a name.
type Certificate struct {
	Name        string     `json:"name"`
	Source      string     `json:"source"`
	Issuer      string     `json:"issuer"`
	Status      string     `json:"status"`
	LastError   string     `json:"last_error"`
	Failures    int        `json:"failures"`
	NotBefore   *time.Time `json:"not_before"`
	NotAfter    *time.Time `json:"not_after"`
	RenewAt     *time.Time `json:"renew_at"`
	LastAttempt *time.Time `json:"last_attempt"`
	NextAttempt *time.Time `json:"next_attempt"`
}

// Mailboxes counts names and queued messages.
type Mailboxes struct {
	Claimed          int64 `json:"claimed"`
	Limit            int64 `json:"limit"`
	ClaimedTotal     int64 `json:"claimed_total"`
	QueuedMessages   int64 `json:"queued_messages"`
	QueuedBytes      int64 `json:"queued_bytes"`
	QueuedBytesLimit int64 `json:"queued_bytes_limit"`
}

// Messages counts deliveries.
type Messages struct {
	DeliveredTotal int64   `json:"delivered_total"`
	RequeuedTotal  int64   `json:"requeued_total"`
	PerSecond      float64 `json:"per_second"`
}

// Receivers counts the long polls that wait for a message, and the streams.
type Receivers struct {
	Open       int64            `json:"open"`
	Transports map[string]int64 `json:"transports"`
}

// Protocol counts the WebSockets of a protocol of -compat, and the frames that they received.
type Protocol struct {
	Protocol    string `json:"protocol"`
	Open        int64  `json:"open"`
	FramesTotal int64  `json:"frames_total"`
}

// Connections counts connections.
type Connections struct {
	Open          int64 `json:"open"`
	Limit         int64 `json:"limit"`
	AcceptedTotal int64 `json:"accepted_total"`
}

// Layer has the refusals of a part of the server. LastMinutes is the number of those that the
// history covers.
type Layer struct {
	Layer       string           `json:"layer"`
	Title       string           `json:"title"`
	Total       int64            `json:"total"`
	LastMinutes int64            `json:"last_15_minutes"`
	Reasons     map[string]int64 `json:"reasons"`
}

// Invitations counts those of a private server, as far as they are kept, and the guest passes that
// the process has made.
type Invitations struct {
	Valid            int64 `json:"valid"`
	Expired          int64 `json:"expired"`
	Revoked          int64 `json:"revoked"`
	GuestPassesTotal int64 `json:"guest_passes_total"`
}

// TURN is the state of the relay.
type TURN struct {
	Allocations       int64     `json:"allocations"`
	AllocationsTotal  int64     `json:"allocations_total"`
	BitsPerSecond     float64   `json:"bits_per_second"`
	RelayedBytesTotal int64     `json:"relayed_bytes_total"`
	MonthBytes        int64     `json:"month_bytes"`
	MonthLimitBytes   int64     `json:"month_limit_bytes"`
	MonthEndsAt       time.Time `json:"month_ends_at"`
}

// Warning is a warning or an error of the log, with the number of its consecutive repetitions.
type Warning struct {
	Time       time.Time   `json:"time"`
	Level      string      `json:"level"`
	Message    string      `json:"message"`
	Count      int         `json:"count"`
	Attributes []Attribute `json:"attributes"`
}

// Attribute is a fact of a warning.
type Attribute struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Status returns the state at a time.
func (o *Operator) Status(now time.Time) Status {
	s, samples := &o.sources, o.history.all()
	failing := append([]string{}, s.Failing()...)
	c, stats, conns := s.count(), s.Mailboxes(), s.Limits.Conns.Stats()
	return Status{
		Version: s.Version, Time: now.UTC().Truncate(time.Second), Ready: len(failing) == 0, Failing: failing,
		Process: Process{
			StartedAt: second(s.Started), UptimeSeconds: int64(now.Sub(s.Started).Seconds()),
			MemoryBytes: memory.Resident(), MemoryLimitBytes: s.MaxMemoryBytes,
		},
		Restarts:     s.restarts(now),
		Certificates: s.certificates(),
		Mailboxes: Mailboxes{
			Claimed: stats.Inboxes, Limit: s.MaxInboxes, ClaimedTotal: c.claimed,
			QueuedMessages: stats.Queued, QueuedBytes: stats.QueuedBytes, QueuedBytesLimit: s.MaxQueuedBytes,
		},
		Messages:    Messages{DeliveredTotal: c.delivered, RequeuedTotal: c.requeued, PerSecond: round(lastRate(samples, delivered))},
		Receivers:   s.receivers(),
		Protocols:   s.protocols(),
		Connections: Connections{Open: conns.Open, Limit: s.MaxConns, AcceptedTotal: conns.Accepted},
		Refusals:    s.layers(samples),
		Invitations: s.invitations(),
		TURN:        s.relay(now, samples),
		Warnings:    warnings(s.Warnings),
		History:     historyOf(samples),
	}
}

func second(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// optional returns nil for a zero time.
func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = second(t)
	return &t
}

func (s *Sources) restarts(now time.Time) Restarts {
	r := Restarts{
		Earlier: []time.Time{}, RestoredInboxes: s.Restored.Inboxes, RestoredMessages: s.Restored.Messages, Loss: string(s.Restored.Loss),
	}
	for _, t := range s.Earlier {
		r.Earlier = append(r.Earlier, second(t))
	}
	if len(s.Earlier) == 0 {
		return r // this is the first start
	}
	for _, t := range append(s.Earlier[1:len(s.Earlier):len(s.Earlier)], s.Started) {
		if ago := now.Sub(t); ago <= 24*time.Hour {
			r.LastDay++
			r.LastWeek++
		} else if ago <= 7*24*time.Hour {
			r.LastWeek++
		}
	}
	return r
}

func (s *Sources) certificates() []Certificate {
	all := []Certificate{}
	if s.Certificates == nil {
		return all
	}
	for _, state := range s.Certificates() {
		all = append(all, certificateOf(state))
	}
	return all
}

func certificateOf(s tlsmgr.NameState) Certificate {
	c := Certificate{
		Name: s.Name, Source: s.Source, Issuer: s.Issuer, Status: s.Status, Failures: s.Failures,
		NotBefore: optional(s.NotBefore), NotAfter: optional(s.NotAfter), RenewAt: optional(s.RenewAt),
		LastAttempt: optional(s.LastAttempt), NextAttempt: optional(s.NextAttempt),
	}
	if s.LastError != nil {
		c.LastError = s.LastError.Error()
	}
	return c
}

func (s *Sources) invitations() *Invitations {
	if s.Invitations == nil {
		return nil
	}
	i := s.Invitations()
	return &Invitations{Valid: i.Valid, Expired: i.Expired, Revoked: i.Revoked, GuestPassesTotal: i.GuestPasses}
}

func (s *Sources) receivers() Receivers {
	r := Receivers{Open: s.openReceivers(), Transports: map[string]int64{}}
	for _, stats := range s.Receivers() {
		r.Transports[stats.Transport.String()] = stats.Open
	}
	return r
}

// protocols returns those of -compat in alphabetical order.
func (s *Sources) protocols() []Protocol {
	all := []Protocol{}
	sockets := s.Sockets()
	for _, name := range slices.Sorted(maps.Keys(sockets)) {
		p := Protocol{Protocol: name, Open: sockets[name].Open}
		for _, n := range sockets[name].Frames {
			p.FramesTotal += n
		}
		all = append(all, p)
	}
	return all
}

func (s *Sources) layers(samples []sample) []Layer {
	all := make([]Layer, numLayers)
	for i, reasons := range s.refusals() {
		l := Layer{Layer: layerNames[i].name, Title: layerNames[i].title, Reasons: reasons}
		for _, n := range reasons {
			l.Total += n
		}
		l.LastMinutes = l.Total
		if len(samples) > 0 {
			l.LastMinutes -= samples[0].counts.refused[i]
		}
		all[i] = l
	}
	return all
}

// relay returns nil without a relay in this process.
func (s *Sources) relay(now time.Time, samples []sample) *TURN {
	if s.TURN == nil {
		return nil
	}
	t := s.TURN()
	now = now.UTC()
	return &TURN{
		Allocations: t.UDP.Allocations + t.TLS.Allocations, AllocationsTotal: t.UDP.Allocated + t.TLS.Allocated,
		BitsPerSecond: round(8 * lastRate(samples, relayedBytes)), RelayedBytesTotal: t.UDP.RelayedBytes + t.TLS.RelayedBytes,
		MonthBytes: t.MonthBytes, MonthLimitBytes: t.MonthLimit,
		MonthEndsAt: time.Date(now.Year(), now.Month()+1, 1, 0, 0, 0, 0, time.UTC),
	}
}

func warnings(recent *logging.Recent) []Warning {
	all := []Warning{}
	if recent == nil {
		return all
	}
	for _, e := range recent.Entries() {
		w := Warning{Time: second(e.Last), Level: e.Level.String(), Message: e.Message, Count: e.Count, Attributes: []Attribute{}}
		for _, a := range e.Attrs {
			w.Attributes = append(w.Attributes, Attribute{a.Key, a.Value})
		}
		all = append(all, w)
	}
	return all
}

// reasons returns the reasons of a layer, the most frequent one first.
func (l Layer) reasons() []string {
	return slices.SortedFunc(maps.Keys(l.Reasons), func(a, b string) int {
		return cmp.Or(cmp.Compare(l.Reasons[b], l.Reasons[a]), cmp.Compare(a, b))
	})
}
