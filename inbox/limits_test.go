package inbox_test

import (
	"errors"
	"testing"

	"inbox/inbox"
)

// TestSharesOfAStore checks how much a payer can add as a store of 256 MiB fills.
// The last part is reserved for payers that hold next to nothing.
func TestSharesOfAStore(t *testing.T) {
	const kib, mib = 1 << 10, 1 << 20
	const each = 256 * mib / 240
	l := inbox.Limits{MaxQueuedBytes: 256 * mib, MaxQueuedBytesPerPayer: 60 * mib}
	for _, row := range []struct {
		name         string
		queued, held int64
		most         int64 // that can be added
	}{
		{"empty", 0, 0, 60 * mib},
		{"empty, payer holds much", 0, 59 * mib, mib},
		{"a quarter of what is free", 56 * mib, 0, 50 * mib},
		{"the same, payer holds much", 56 * mib, 49 * mib, mib},
		{"half full", 128 * mib, 0, each},
		{"nearly full", 239 * mib, 0, each},
		{"nearly full, payer holds much", 239 * mib, 2 * mib, 0},
		{"the last sixteenth", 240 * mib, 0, 64 * kib},
		{"the last sixteenth, payer holds little", 255 * mib, 63 * kib, kib},
		{"the last sixteenth, payer holds more", 240 * mib, 64 * kib, 0},
	} {
		if err := l.AllowBytes(row.held, row.most, 1, row.queued); row.most > 0 && err != nil {
			t.Errorf("%s: %d bytes more: got %v, want them allowed", row.name, row.most, err)
		}
		if err := l.AllowBytes(row.held, row.most+1, 1, row.queued); !errors.Is(err, inbox.ErrPayerFull) {
			t.Errorf("%s: %d bytes more: got %v, want %v", row.name, row.most+1, err, inbox.ErrPayerFull)
		}
	}
}
