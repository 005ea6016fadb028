package limits

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestManual compares the limits in docs/turn.md with the code.
func TestManual(t *testing.T) {
	text, err := os.ReadFile("../../../../docs/turn.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []string{
		fmt.Sprintf("| %d per second and %d at once for an IPv4 /24 or an IPv6 /48; %d,%03d per second for all |", answerRate, answerBurst, allAnswersRate/1000, allAnswersRate%1000),
		fmt.Sprintf("divided by %d KiB; at least %d, at most ", bytesPerAllocation>>10, leastAllocationTotal),
		fmt.Sprintf("less as they fill, at least %d |", minAllocationsPerIP),
	} {
		if !strings.Contains(string(text), row) {
			t.Errorf("docs/turn.md lacks %q", row)
		}
	}
	if turnPart != 16 {
		t.Error("docs/turn.md says a sixteenth of the memory")
	}
}
