package turn

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestManual compares the limits in docs/turn.md with the code.
func TestManual(t *testing.T) {
	text, err := os.ReadFile("../docs/turn.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []string{
		fmt.Sprintf("| peers of an allocation | %d addresses and %d channels |", maxPeers, maxChannels),
		fmt.Sprintf("| requests of an allocation | %d per second, %d at once |", requestsPerSecond, requestBurst),
		fmt.Sprintf("| life of an allocation | %.0f h, and ten minutes without relayed data |", MaxAllocationLifetime.Hours()),
		fmt.Sprintf("| packets that wait for a client over TLS | %d KiB; ", maxQueuedBytes>>10),
		fmt.Sprintf("at most %d,%03d |", maxRelays/1000, maxRelays%1000),
	} {
		if !strings.Contains(string(text), row) {
			t.Errorf("docs/turn.md lacks %q", row)
		}
	}
	if maxIdle.Minutes() != 10 || CredentialLifetime.Minutes() != 10 || allocateTimeout.Seconds() != 10 {
		t.Error("docs/turn.md says ten minutes without data, ten minutes for credentials, and ten seconds for a stream")
	}
}
