package main

import (
	"crypto/tls"
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"inbox/cmd/inbox/internal/logging"
)

var (
	descHandshakes      = desc("tls_handshakes_total", "TLS handshakes that succeeded; those of an authority's challenges are left out.", "version", "resumed")
	descHandshakeErrors = desc("tls_handshake_errors_total", "TLS handshakes that failed, by a coarse reason. Scanners cause most of them.", "reason")
	descProtocolErrors  = desc("protocol_errors_total", "What made no sense to net/http after the handshake. Scanners cause most of it.")
)

// handshakeCounts counts those that succeeded: TLS 1.2 and 1.3, anew and resumed.
type handshakeCounts struct{ counts [2][2]atomic.Int64 }

// count is for tls.Config.VerifyConnection, which is called in each handshake,
// just before it ends. It refuses nobody.
func (h *handshakeCounts) count(s tls.ConnectionState) error {
	if s.NegotiatedProtocol == "acme-tls/1" {
		return nil
	}
	version, resumed := 0, 0
	if s.Version >= tls.VersionTLS13 {
		version = 1
	}
	if s.DidResume {
		resumed = 1
	}
	h.counts[version][resumed].Add(1)
	return nil
}

func (h *handshakeCounts) collect(to chan<- prometheus.Metric) {
	for version, name := range []string{"1.2", "1.3"} {
		for resumed := range h.counts[version] {
			to <- counter(descHandshakes, h.counts[version][resumed].Load(), name, strconv.FormatBool(resumed == 1))
		}
	}
}

// collectErrorLog exports the counts of the error log.
func collectErrorLog(e *logging.ErrorLog, to chan<- prometheus.Metric) {
	for reason, n := range e.HandshakeErrors() {
		to <- counter(descHandshakeErrors, n, reason)
	}
	to <- counter(descProtocolErrors, e.ProtocolErrors())
}
