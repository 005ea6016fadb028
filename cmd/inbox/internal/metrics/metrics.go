// Package metrics exports what operators observe: metrics for Prometheus, readiness, the
// certificates, and profiles, on a listener of their own. It reads the counters of other
// components when it is scraped. Only [Meter] measures on the request path.
package metrics

import (
	"runtime"

	"inbox/cmd/inbox/internal/limits"
	"inbox/cmd/inbox/internal/logging"
	"inbox/inbox"
	"inbox/tlsmgr"

	"github.com/prometheus/client_golang/prometheus"
)

// The names follow the conventions of Prometheus. docs/monitoring.md describes each metric,
// and a test compares the two.
var (
	descBuild        = desc("build_info", "Always 1; the labels have the versions.", "version", "goversion")
	descReady        = desc("ready", "Whether /readyz reports ready.")
	descMemory       = desc("memory_limit_bytes", "Memory limit of the process; absent without a limit.")
	descInboxes      = desc("inboxes", "Claimed inboxes.")
	descMaxInboxes   = desc("inboxes_limit", "Limit of claimed inboxes; absent without a limit.")
	descClaims       = desc("claims_total", "Names claimed.")
	descMessages     = desc("queued_messages", "Messages that were not received yet, or whose sender waits for the recipient.")
	descQueued       = desc("queued_bytes", "Bytes that these messages count for.")
	descMaxQueued    = desc("queued_bytes_limit", "Limit of these bytes; absent without a limit.")
	descDelivered    = desc("deliveries_total", "Messages delivered: acknowledged automatically, kept until acknowledged, or requeued because the receiver was gone.", "kind", "transport")
	descReceivers    = desc("receivers", "Receivers: long polls that wait for a message, and streams.", "transport")
	descPolls        = desc("polls_open", "Unfinished requests that can wait for a message or a recipient.")
	descOpen         = desc("connections_open", "Open connections.")
	descMaxOpen      = desc("connections_open_limit", "Limit of open connections per port; absent without a limit.")
	descStreams      = desc("streams_open", "HTTP/2 requests whose response the client has not received completely.")
	descMaxStreams   = desc("streams_open_limit", "Limit of these requests; absent without a limit.")
	descDropped      = desc("frames_dropped_connections_total", "Connections dropped because their address sent too many frames or small TLS records.")
	descConnBytes    = desc("connections_memory_bytes", "Memory that open connections count for; 0 without a limit.")
	descMaxConnBytes = desc("connections_memory_limit_bytes", "Limit of the memory of connections; absent without a limit.")
	descAccepted     = desc("connections_accepted_total", "Accepted connections.")
	descLimited      = desc("limited_total", "Refusals by the limits per address, or what -rate-dry-run would have refused.", "limit")
	descFrameDelay   = desc("frame_delay_seconds", "How long frames of WebSockets waited for a token of their address, or for their turn among heavy users; those that did not wait do not count.")
	descRefused      = desc("refused_total", "Refused requests, by the type of the problem.", "problem")
	descAdminRefused = desc("metrics_refused_total", "Refused requests of the metrics listener, by the type of the problem.", "problem")
	descNotBefore    = desc("certificate_not_before_timestamp_seconds", "Start of the certificate's validity, in Unix time; 0 without a certificate.", "name", "source")
	descNotAfter     = desc("certificate_not_after_timestamp_seconds", "End of the certificate's validity, in Unix time; 0 without a certificate.", "name", "source")
	descCertFailed   = desc("certificate_failing", "Whether the last attempt to replace the certificate failed.", "name")
	descFailures     = desc("certificate_order_failures", "Failed orders since the last success.", "name")
	descObtained     = desc("certificate_obtained_total", "Obtained certificates.", "name")
	descRenewAt      = desc("certificate_renew_at_timestamp_seconds", "When the certificate is due for renewal, in Unix time; 0 without a certificate.", "name")
)

// Sources are what the metrics are read from. The functions must be safe for concurrent use.
type Sources struct {
	// Version is the version of the program.
	Version string
	// Failing returns the failing readiness checks.
	Failing func() []string
	// Limits that options set; zero is no limit.
	MaxMemoryBytes, MaxInboxes, MaxQueuedBytes, MaxConns, MaxConnBytes, MaxStreams int64
	// Mailboxes, Claims, Receivers and Refusals are the statistics of the mailboxes.
	Mailboxes func() inbox.Stats
	Claims    func() int64
	Receivers func() []inbox.ReceiverStats
	Refusals  func() map[string]int64
	// Sockets returns the WebSockets of the protocols of -compat.
	Sockets func() map[string]Sockets
	// Limits has the counters of connections, polls and limits.
	Limits *limits.Limits
	// Errors counts the errors that clients cause.
	Errors *logging.ErrorLog
	// Certificates returns the state of the certificates; nil without TLS.
	Certificates func() []tlsmgr.NameState
	// Collectors send the metrics of further components.
	Collectors []prometheus.CollectorFunc
}

// NewCollector returns a collector of all metrics except those of the Go runtime.
func NewCollector(s Sources) prometheus.Collector { return prometheus.CollectorFunc(s.collect) }

func (s *Sources) collect(m chan<- prometheus.Metric) {
	m <- gauge(descBuild, 1, s.Version, runtime.Version())
	m <- gauge(descReady, boolValue(len(s.Failing()) == 0))
	limitGauge(m, descMemory, s.MaxMemoryBytes)
	s.collectMailboxes(m)
	s.collectLimits(m)
	collectErrors(m, s.Errors)
	if s.Certificates != nil {
		collectCertificates(m, s.Certificates())
	}
	for _, collect := range s.Collectors {
		collect(m)
	}
}

func (s *Sources) collectMailboxes(m chan<- prometheus.Metric) {
	stats := s.Mailboxes()
	m <- gauge(descInboxes, stats.Inboxes)
	limitGauge(m, descMaxInboxes, s.MaxInboxes)
	m <- counter(descClaims, s.Claims())
	m <- gauge(descMessages, stats.Queued)
	m <- gauge(descQueued, stats.QueuedBytes)
	limitGauge(m, descMaxQueued, s.MaxQueuedBytes)
	for _, r := range s.Receivers() {
		transport := r.Transport.String()
		m <- gauge(descReceivers, r.Open, transport)
		m <- counter(descDelivered, r.AutoAck, "auto-ack", transport)
		m <- counter(descDelivered, r.ManualAck, "manual-ack", transport)
		m <- counter(descDelivered, r.Requeued, "requeued", transport)
	}
	for kind, n := range s.Refusals() {
		m <- counter(descRefused, n, kind)
	}
}

func (s *Sources) collectLimits(m chan<- prometheus.Metric) {
	conns := s.Limits.Conns.Stats()
	m <- gauge(descOpen, conns.Open)
	limitGauge(m, descMaxOpen, s.MaxConns)
	m <- gauge(descConnBytes, conns.Bytes)
	limitGauge(m, descMaxConnBytes, s.MaxConnBytes)
	m <- counter(descAccepted, conns.Accepted)
	m <- gauge(descStreams, s.Limits.Streams.Active())
	limitGauge(m, descMaxStreams, s.MaxStreams)
	m <- gauge(descPolls, s.Limits.Polls.Share.Used())
	m <- counter(descDropped, s.Limits.Frames.Dropped())
	for limit, n := range s.Limits.Refused() {
		m <- counter(descLimited, n, limit)
	}
	frames, waited := s.Limits.FrameDelays.Total()
	m <- prometheus.MustNewConstSummary(descFrameDelay, uint64(frames), waited.Seconds(), nil)
}

func collectCertificates(m chan<- prometheus.Metric, states []tlsmgr.NameState) {
	for _, s := range states {
		m <- gauge(descNotBefore, unixSeconds(s.NotBefore), s.Name, s.Source)
		m <- gauge(descNotAfter, unixSeconds(s.NotAfter), s.Name, s.Source)
		m <- gauge(descCertFailed, boolValue(s.LastError != nil), s.Name)
		if s.Engine == "" {
			continue // not obtained from a CA
		}
		m <- gauge(descFailures, int64(s.Failures), s.Name)
		m <- counter(descObtained, int64(s.Obtained), s.Name)
		m <- gauge(descRenewAt, unixSeconds(s.RenewAt), s.Name)
	}
}
