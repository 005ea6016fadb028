package metrics

import (
	"crypto/tls"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	descHandshakes      = desc("tls_handshakes_total", "Successful TLS handshakes, except those of ACME challenges.", "version", "resumed")
	descHandshakeErrors = desc("tls_handshake_errors_total", "Failed TLS handshakes, by a coarse reason. Scanners cause most of them.", "reason")
	descProtocolErrors  = desc("protocol_errors_total", "Protocol errors that net/http reported after the handshake. Scanners cause most of them.")
)

// Handshakes counts successful TLS handshakes: TLS 1.2 and 1.3, full and resumed. The zero
// value is ready to use. All methods may be called concurrently.
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

// Describe implements [prometheus.Collector].
func (h *Handshakes) Describe(descs chan<- *prometheus.Desc) { prometheus.DescribeByCollect(h, descs) }

// Collect implements [prometheus.Collector].
func (h *Handshakes) Collect(to chan<- prometheus.Metric) {
	for version, name := range []string{"1.2", "1.3"} {
		for resumed := range h.counts[version] {
			to <- counter(descHandshakes, h.counts[version][resumed].Load(), name, strconv.FormatBool(resumed == 1))
		}
	}
}

// handshakeFailures classifies failed handshakes by what net/http logs, because it passes the
// errors to no hook. The first match counts. Only the texts of the first reason quote what a
// client offered.
var handshakeFailures = [...]struct {
	reason string
	texts  []string
}{
	{"no-protocol", []string{"unsupported application protocols", "did not request an application protocol"}},
	{"version", []string{"unsupported versions", "legacy version field", "inappropriate protocol fallback"}},
	{"no-cipher", []string{"no cipher suite supported", "no key exchanges supported", "peer doesn't support any of the certificate's signature algorithms"}},
	{"no-certificate", []string{"no certificates configured"}}, // an unknown name
	{"not-tls", []string{"does not look like a TLS handshake", "sent an HTTP request to an HTTPS server"}},
	{"rejected", []string{"remote error: tls: "}}, // by the client, for example because of a self-signed certificate
	{"timeout", []string{"i/o timeout", "deadline exceeded"}},
	{"closed", []string{"EOF", "connection reset", "broken pipe", "closed network connection"}},
	{"other", []string{""}},
}

// handshakeFailure returns the index in handshakeFailures.
func handshakeFailure(text string) int {
	for i, f := range handshakeFailures {
		for _, match := range f.texts {
			if strings.Contains(text, match) {
				return i
			}
		}
	}
	return len(handshakeFailures) - 1
}

// ClientErrors counts the errors that clients cause, by what net/http logs. The zero value is
// ready to use. All methods may be called concurrently.
type ClientErrors struct {
	handshakes [len(handshakeFailures)]atomic.Int64
	protocol   atomic.Int64
}

// Count counts a line of the log.
func (e *ClientErrors) Count(text string) {
	if strings.HasPrefix(text, "http: TLS handshake error") {
		e.handshakes[handshakeFailure(text)].Add(1)
	} else {
		e.protocol.Add(1)
	}
}

// Describe implements [prometheus.Collector].
func (e *ClientErrors) Describe(descs chan<- *prometheus.Desc) {
	prometheus.DescribeByCollect(e, descs)
}

// Collect implements [prometheus.Collector].
func (e *ClientErrors) Collect(to chan<- prometheus.Metric) {
	for i, failure := range handshakeFailures {
		to <- counter(descHandshakeErrors, e.handshakes[i].Load(), failure.reason)
	}
	to <- counter(descProtocolErrors, e.protocol.Load())
}
