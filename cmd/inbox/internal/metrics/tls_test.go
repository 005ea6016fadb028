package metrics

import (
	"crypto/tls"
	"testing"
)

func TestHandshakeReasons(t *testing.T) {
	for text, want := range map[string]string{
		"remote error: tls: unknown certificate":                              "rejected",
		"tls: no cipher suite supported by both client and server":            "no-cipher",
		"read tcp 192.0.2.0/24->192.0.2.0/24: read: connection reset by peer": "closed",
		`tls: client requested unsupported application protocols (["EOF"])`:   "no-protocol",
		"tls: an error of a later version of Go":                              "other",
		"tls: client offered only unsupported versions: [302 301]":            "version",
		"read tcp 127.0.0.0/24->127.0.0.0/24: i/o timeout":                    "timeout",
		"tls: first record does not look like a TLS handshake":                "not-tls",
		"client sent an HTTP request to an HTTPS server":                      "not-tls",
	} {
		if got := handshakeFailures[handshakeFailure(text)].reason; got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
	var e ClientErrors
	e.Count("http2: server: error reading preface from client 192.0.2.0/24: EOF")
	if e.protocol.Load() != 1 || e.handshakes[handshakeFailure("EOF")].Load() != 0 {
		t.Error("an error after the handshake counts as a failed handshake")
	}
}

// TestChallengesAreNotCounted checks that validations by the CA are not counted as
// handshakes.
func TestChallengesAreNotCounted(t *testing.T) {
	var h Handshakes
	for _, protocol := range []string{"acme-tls/1", "h2"} {
		if err := h.Count(tls.ConnectionState{Version: tls.VersionTLS13, NegotiatedProtocol: protocol}); err != nil {
			t.Error(err)
		}
	}
	if got := h.counts[1][0].Load(); got != 1 {
		t.Errorf("got %d handshakes, want only that of the client", got)
	}
}
