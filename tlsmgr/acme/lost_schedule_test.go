package acme

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"inbox/tlsmgr/acme/schedule"
	"inbox/tlsmgr/internal/tlstest"
)

// A store that returns old data, or loses all of it, causes no earlier order, because a
// node keeps the schedule that it has written in memory.
func TestLostScheduleState(t *testing.T) {
	for why, loseState := range map[string]func(*tlstest.SharedStorage){
		"stale reads": func(f *tlstest.SharedStorage) { f.Stale.Store(true) },
		"emptied":     func(f *tlstest.SharedStorage) { _ = os.RemoveAll(f.Path) },
	} {
		t.Run(why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := tlstest.NewSharedStorage(t)
				n := newNode(t, store, map[string]*Certificate{}, orderRefused)
				for range 60 {
					runNodes(t, time.Minute, n)
					loseState(store)
					_ = os.MkdirAll(store.Path, 0o700)
				}
				if got := len(n.engine.orderTimes); got != 3 {
					t.Errorf("got %d orders in an hour, want 3", got)
				}
			})
		})
	}
}

// A lost schedule does not shorten the CA's Retry-After, even with forced renewals.
func TestLostScheduleStateAndForcedRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := tlstest.NewSharedStorage(t)
		n := newNode(t, store, map[string]*Certificate{}, func(Order) (int, error) {
			return 0, &OrderError{Outcome: schedule.CARejected, RetryAfter: 30 * time.Minute, Err: errors.New("too many orders")}
		})
		start := time.Now()
		for range 50 {
			runNodes(t, time.Minute, n)
			store.Stale.Store(true)
			n.forceRenewal()
		}
		if got := n.engine.ordersSince(start); !slices.Equal(got, minutes(0, 30)) {
			t.Errorf("got orders at %v, want one per half hour", got)
		}
	})
}

// No certificate is ordered while schedules or certificates cannot be stored.
func TestStoreWriteErrorPreventsOrder(t *testing.T) {
	for kind, reject := range map[string]func(string, []byte) bool{
		"schedules":    func(key string, _ []byte) bool { return strings.HasPrefix(key, scheduleDir) },
		"large values": func(_ string, value []byte) bool { return len(value) > 8<<10 },
	} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := tlstest.NewSharedStorage(t)
				store.RejectWrite = reject
				n := newNode(t, store, map[string]*Certificate{}, orderSucceeds)
				runNodes(t, 10*time.Minute, n)
				if got := len(n.engine.orderTimes); got != 0 {
					t.Errorf("got %d orders, want none", got)
				}
				if got := n.log.Count("no certificate can be ordered"); got != 1 {
					t.Errorf("got the error logged %d times, want once:\n%s", got, n.log)
				}
			})
		})
	}
}

// While the store is unavailable, a node serves its certificate and does not order.
func TestNodeServesWithoutStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, certificates := tlstest.NewSharedStorage(t), map[string]*Certificate{}
		n := newNode(t, store, certificates, orderSucceeds)
		runNodes(t, time.Minute, n)
		store.Unavailable.Store(true)
		n.engine.loadErr = tlstest.ErrUnavailable
		runNodes(t, time.Hour, n)
		if n.served() == nil {
			t.Error("the certificate is no longer served")
		}
		if len(n.engine.orderTimes) != 1 {
			t.Errorf("got %d orders, want 1", len(n.engine.orderTimes))
		}
		store.Unavailable.Store(false)
		n.engine.loadErr = nil
		runNodes(t, time.Minute, n)
		if err := n.err(); err != nil {
			t.Errorf("after the store has recovered: got error %v, want none", err)
		}
	})
}
