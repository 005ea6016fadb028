package quota

import (
	"fmt"
	"testing"
)

// TestLedgerForgetsPayers checks that payers that hold nothing leave no
// entries, whether their charges were accepted or refused.
func TestLedgerForgetsPayers(t *testing.T) {
	l := NewLedger(Limits{MaxQueuedBytesPerPayer: 1000, MaxInboxesPerPayer: 1})
	for i := range 100 {
		p := Payer{Client: fmt.Sprint(i), Network: fmt.Sprint(i / 3)}
		a, err := l.Charge(p, Usage{Inboxes: 1}, Usage{})
		if err != nil {
			t.Fatal(err)
		}
		b, err := l.Charge(p, Usage{Bytes: 600}, Usage{})
		if err != nil || a != b {
			t.Fatalf("got account %p and %v, want %p", b, err, a)
		}
		for _, more := range []Usage{{Inboxes: 1}, {Bytes: 401}} {
			if _, err := l.Charge(p, more, Usage{}); err == nil {
				t.Fatalf("charged %+v beyond the quota", more)
			}
		}
		l.Refund(a, Usage{Bytes: 600})
		l.Refund(a, Usage{Inboxes: 1})
	}
	for i := range l.clients {
		if left := l.clients[i].accounts; len(left) > 0 {
			t.Errorf("got accounts %v left, want none", left)
		}
	}
	if left := l.networks.usage; len(left) > 0 {
		t.Errorf("got networks %v left, want none", left)
	}
}
