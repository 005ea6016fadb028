package main

import (
	"crypto/tls"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
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

// handshakeFailures tells the reasons of failed handshakes apart by what net/http logs:
// it hands the errors to nobody. The first that fits counts. What a client
// offered is quoted in the text of the first alone.
var handshakeFailures = [...]struct {
	reason string
	says   []string
}{
	{"no-protocol", []string{"unsupported application protocols", "did not request an application protocol"}},
	{"version", []string{"unsupported versions", "legacy version field", "inappropriate protocol fallback"}},
	{"no-cipher", []string{"no cipher suite supported", "no key exchanges supported", "peer doesn't support any of the certificate's signature algorithms"}},
	{"no-certificate", []string{"no certificates configured"}}, // a name that is not ours
	{"not-tls", []string{"does not look like a TLS handshake", "sent an HTTP request to an HTTPS server"}},
	{"rejected", []string{"remote error: tls: "}}, // by the client, such as of a self-signed certificate
	{"timeout", []string{"i/o timeout", "deadline exceeded"}},
	{"closed", []string{"EOF", "connection reset", "broken pipe", "closed network connection"}},
	{"other", []string{""}},
}

// handshakeFailure is an index of failures.
func handshakeFailure(text string) int {
	for i, f := range handshakeFailures {
		for _, says := range f.says {
			if strings.Contains(text, says) {
				return i
			}
		}
	}
	return len(handshakeFailures) - 1
}

func (f *errorLogFilter) collect(to chan<- prometheus.Metric) {
	for i, failure := range handshakeFailures {
		to <- counter(descHandshakeErrors, f.handshakeErrors[i].Load(), failure.reason)
	}
	to <- counter(descProtocolErrors, f.protocolErrors.Load())
}
