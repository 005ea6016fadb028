package quota_test

import (
	"errors"
	"testing"

	"inbox/inbox/quota"
)

// TestSharesOfAStore checks how much a payer can add as a store of 256 MiB fills.
// The last part is reserved for payers that hold next to nothing.
func TestSharesOfAStore(t *testing.T) {
	const kib, mib = 1 << 10, 1 << 20
	const each = 256 * mib / 240
	l := quota.Limits{MaxQueuedBytes: 256 * mib, MaxQueuedBytesPerPayer: 60 * mib}
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
		if err := l.AllowBytes(row.held, row.most+1, 1, row.queued); !errors.Is(err, quota.ErrExceeded) {
			t.Errorf("%s: %d bytes more: got %v, want %v", row.name, row.most+1, err, quota.ErrExceeded)
		}
	}
}

// TestSharesOfNames checks how many mailboxes a client and a network can hold as a
// store of 100,000 fills.
func TestSharesOfNames(t *testing.T) {
	l := quota.Limits{MaxInboxes: 100_000, MaxInboxesPerPayer: 1000}
	for _, row := range []struct {
		name            string
		claimed         int64
		client, network int64 // most that either can hold
	}{
		{"empty", 0, 1000, 16000},
		{"nearly half full", 49_999, 1000, 12500},
		{"half full", 50_000, 416, 6666},
		{"the last sixteenth", 93_750, 24, 390},
		{"the last 64th", 98_438, 1, 16},
		{"one left", 99_999, 1, 16},
	} {
		for factor, most := range map[int]int64{1: row.client, quota.NetworkFactor: row.network} {
			if err := l.AllowInbox(most-1, factor, row.claimed); err != nil {
				t.Errorf("%s, factor %d: one more than %d: got %v, want it allowed", row.name, factor, most-1, err)
			}
			if err := l.AllowInbox(most, factor, row.claimed); !errors.Is(err, quota.ErrExceeded) {
				t.Errorf("%s, factor %d: one more than %d: got %v, want %v", row.name, factor, most, err, quota.ErrExceeded)
			}
		}
	}
}

// TestSharesOfNamesNeverGrow checks stores of many sizes: as they fill, no share grows,
// and a payer that holds none can always claim the next name.
func TestSharesOfNamesNeverGrow(t *testing.T) {
	for _, size := range []int64{1, 2, 15, 16, 17, 63, 64, 100, 255, 1000, 4096, 20_000} {
		l := quota.Limits{MaxInboxes: int(size)}
		for _, factor := range []int{1, quota.NetworkFactor} {
			last := size
			for claimed := range size {
				for last > 0 && l.AllowInbox(last-1, factor, claimed) != nil {
					last--
				}
				if last == 0 {
					t.Fatalf("size %d, factor %d: %d claimed: a payer without names is refused", size, factor, claimed)
				}
				if size >= 16 && last < size && l.AllowInbox(last, factor, claimed) == nil {
					t.Fatalf("size %d, factor %d: the share has grown at %d claimed", size, factor, claimed)
				}
			}
		}
	}
}
