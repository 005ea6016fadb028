package metrics

import (
	"crypto/tls"
	"strconv"
	"sync/atomic"

	"inbox/cmd/inbox/internal/logging"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	descHandshakes      = desc("tls_handshakes_total", "Successful TLS handshakes, except those of ACME challenges.", "version", "resumed")
	descHandshakeErrors = desc("tls_handshake_errors_total", "Failed TLS handshakes, by a coarse reason. Scanners cause most of them.", "reason")
	descProtocolErrors  = desc("protocol_errors_total", "Protocol errors that net/http reported after the handshake. Scanners cause most of them.")
)

// Handshakes counts successful TLS handshakes: TLS 1.2 and 1.3, full and resumed. The zero
// value is ready to use. All methods can be called concurrently.
type Handshakes struct{ counts [2][2]atomic.Int64 }

// Count is for tls.Config.VerifyConnection, which TLS calls just before the end of each
// handshake. It returns no error.
func (h *Handshakes) Count(s tls.ConnectionState) error {
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

// Collect sends the metrics.
func (h *Handshakes) Collect(to chan<- prometheus.Metric) {
	for version, name := range []string{"1.2", "1.3"} {
		for resumed := range h.counts[version] {
			to <- counter(descHandshakes, h.counts[version][resumed].Load(), name, strconv.FormatBool(resumed == 1))
		}
	}
}

func collectErrors(to chan<- prometheus.Metric, e *logging.ErrorLog) {
	for reason, n := range e.HandshakeErrors() {
		to <- counter(descHandshakeErrors, n, reason)
	}
	to <- counter(descProtocolErrors, e.ProtocolErrors())
}
