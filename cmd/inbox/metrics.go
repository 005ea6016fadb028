package main

import (
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The metrics, by the conventions of Prometheus. docs/monitoring.md tells what
// each means to an operator, and a test holds it to them.
var (
	descBuild      = desc("build_info", "Always 1; the labels say what runs.", "version", "goversion")
	descReady      = desc("ready", "Whether /readyz says ok.")
	descMemory     = desc("memory_limit_bytes", "Memory that the process tries to stay below; absent without a limit.")
	descInboxes    = desc("inboxes", "Inboxes that are claimed.")
	descMaxInboxes = desc("inboxes_limit", "Inboxes that there may be; absent without a limit.")
	descMessages   = desc("queued_messages", "Messages that were not read yet, or wait for their recipient.")
	descQueued     = desc("queued_bytes", "What these messages count for in the budgets.")
	descMaxQueued  = desc("queued_bytes_limit", "What they may count for; absent without a limit.")
	descDelivered  = desc("deliveries_total", "Messages that were handed out: plain and forgotten, kept until acknowledged, or put back for the receiver was gone.", "kind")
	descPolls      = desc("polls_open", "Unfinished requests that can wait for a message or a recipient.")
	descOpen       = desc("connections_open", "Connections that are open.")
	descMaxOpen    = desc("connections_open_limit", "Connections that may be open on each port; absent without a limit.")
	descAccepted   = desc("connections_accepted_total", "Connections that were accepted.")
	descRequests   = desc("requests_total", "Requests that are over, by the status of the answer; 499 is a client that went away.", "route", "code")
	descLimited    = desc("limited_total", "What was refused, or would have been with -rate-dry-run, by the limit that was met.", "limit")
	descRefused    = desc("refused_total", "Requests that were refused, by the type of the problem.", "problem")
	descNotBefore  = desc("certificate_not_before_timestamp_seconds", "When the certificate in use begins, in Unix time; 0 where there is none.", "name", "source")
	descNotAfter   = desc("certificate_not_after_timestamp_seconds", "When the certificate in use ends, in Unix time; 0 where there is none.", "name", "source")
	descCertFailed = desc("certificate_failing", "Whether the last attempt to replace the certificate failed.", "name")
	descFailures   = desc("certificate_order_failures", "Orders that failed since the last success.", "name")
	descObtained   = desc("certificate_obtained_total", "Certificates that were obtained.", "name")
	descRenewAt    = desc("certificate_renew_at_timestamp_seconds", "When the certificate is due to be renewed, in Unix time; 0 where there is none.", "name")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("inbox_"+name, help, labels, nil)
}

// collector reads the house's own counters when it is asked.
type collector struct{ *server }

// Describe implements [prometheus.Collector].
func (c collector) Describe(descs chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, descs) }

// Collect implements [prometheus.Collector].
func (c collector) Collect(m chan<- prometheus.Metric) {
	m <- gauge(descBuild, 1, buildVersion(), runtime.Version())
	m <- gauge(descReady, boolValue(len(c.health.failing()) == 0))
	limitGauge(m, descMemory, c.cfg.maxMemory)
	c.collectMailboxes(m)
	if c.meter != nil {
		c.meter.collect(m)
	}
	for _, more := range c.collectors {
		more.Collect(m)
	}
	c.collectConnections(m)
	c.collectLimits(m)
	c.collectCertificates(m)
}

func (c collector) collectMailboxes(m chan<- prometheus.Metric) {
	stats := c.stats()
	m <- gauge(descInboxes, stats.Inboxes)
	limitGauge(m, descMaxInboxes, c.cfg.maxInboxes)
	m <- gauge(descMessages, stats.Queued)
	m <- gauge(descQueued, stats.QueuedBytes)
	limitGauge(m, descMaxQueued, c.cfg.maxQueuedBytes)
	m <- gauge(descPolls, c.limits.Polls.Active())
	d := c.handler.Deliveries()
	m <- counter(descDelivered, d.AutoAck, "auto-ack")
	m <- counter(descDelivered, d.ManualAck, "manual-ack")
	m <- counter(descDelivered, d.Requeued, "requeued")
	for kind, n := range c.handler.Refusals() {
		m <- counter(descRefused, n, kind)
	}
}

func (c collector) collectConnections(m chan<- prometheus.Metric) {
	conns := c.limits.ConnStats()
	m <- gauge(descOpen, conns.Open)
	limitGauge(m, descMaxOpen, c.cfg.maxConns)
	m <- counter(descAccepted, conns.Accepted)
	collectErrorLog(c.errorLog, m)
	if c.source != nil {
		c.handshakes.collect(m)
	}
}

func (c collector) collectLimits(m chan<- prometheus.Metric) {
	for limit, n := range c.limits.Refused() {
		m <- counter(descLimited, n, limit)
	}
}

func (c collector) collectCertificates(m chan<- prometheus.Metric) {
	if c.source == nil {
		return
	}
	for _, s := range c.source.State() {
		m <- gauge(descNotBefore, unixSeconds(s.NotBefore), s.Name, s.Source)
		m <- gauge(descNotAfter, unixSeconds(s.NotAfter), s.Name, s.Source)
		m <- gauge(descCertFailed, boolValue(s.LastError != nil), s.Name)
		if s.Engine == "" {
			continue // not an authority's
		}
		m <- gauge(descFailures, int64(s.Failures), s.Name)
		m <- counter(descObtained, int64(s.Obtained), s.Name)
		m <- gauge(descRenewAt, unixSeconds(s.RenewAt), s.Name)
	}
}

// buildVersion is the second word of «inbox version».
func buildVersion() string { return strings.Fields(version())[1] }

// limitGauge says nothing of a limit that is switched off, so that no share of it
// can be computed.
func limitGauge(m chan<- prometheus.Metric, d *prometheus.Desc, n int64) {
	if n > 0 {
		m <- gauge(d, n)
	}
}

func boolValue(yes bool) int64 {
	if yes {
		return 1
	}
	return 0
}

func unixSeconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func gauge(d *prometheus.Desc, n int64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
}

func counter(d *prometheus.Desc, n int64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
}
