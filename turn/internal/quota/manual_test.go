package quota

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// TestManual compares the shares in docs/turn.md with the code.
func TestManual(t *testing.T) {
	text, err := os.ReadFile("../../../docs/turn.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []string{
		fmt.Sprintf("| rate of an allocation (one relay of one client) | %d Mbit/s,", FlowBits/1_000_000),
		fmt.Sprintf("| rate of an address, an IPv4 address or an IPv6 /64 | %d Mbit/s |", AddressBits/1_000_000),
		fmt.Sprintf("| rate of an IPv6 /48 | %d Mbit/s |", NetworkBits/1_000_000),
		fmt.Sprintf("only for addresses that used less than %g %% of the month, and /48 that used less than %g %% |", 100.0/smallUse, 100.0*networkFactor/smallUse),
		fmt.Sprintf("continue at %d kbit/s each", SlowFlowBits/1000),
		fmt.Sprintf("From %d %% on, no new call gets one", 100-100/nearlyParts),
		fmt.Sprintf("Packets below %d bytes count as %d", leastBytes, leastBytes),
		fmt.Sprintf("with its payload and %d bytes", HeaderBytes),
		fmt.Sprintf("Only after %d days in an earlier month", earlierWait/(24*time.Hour)),
		fmt.Sprintf("The ledger keeps %d,000 addresses", maxAccounts/1000),
	} {
		if !strings.Contains(string(text), row) {
			t.Errorf("docs/turn.md lacks %q", row)
		}
	}
	if payerPart != 8 || lastPart != 16 || networkFactor != 4 || laterWait != 10*time.Minute || priorityPart != 16 || priorityPart/networkFactor != 4 {
		t.Error("docs/turn.md says an eighth, a sixteenth, four times that, a sixteenth, a quarter, and ten minutes")
	}
}
