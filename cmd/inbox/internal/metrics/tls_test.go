package metrics

import (
	"crypto/tls"
	"testing"
)

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
