package tlsmgr

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A store that answers with old data, or forgets all of it, brings no order
// forward: a node remembers what it recorded itself.
func TestLostScheduleState(t *testing.T) {
	for why, loseState := range map[string]func(*fakeSharedStorage){
		"old data": func(f *fakeSharedStorage) { f.stale.Store(true) },
		"emptied":  func(f *fakeSharedStorage) { _ = os.RemoveAll(f.Path) },
	} {
		t.Run(why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newFakeSharedStorage(t)
				n := newNode(t, store, map[string]*stored{}, orderRefused)
				for range 60 {
					runNodes(t, time.Minute, n)
					loseState(store)
					_ = os.MkdirAll(store.Path, 0o700)
				}
				if got := len(n.engine.orderTimes); got != 3 {
					t.Errorf("%d orders in an hour, want 3", got)
				}
			})
		})
	}
}

// Nor does it lift what the authority asked for, though a person urges.
func TestLostScheduleStateAndForcedRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFakeSharedStorage(t)
		n := newNode(t, store, map[string]*stored{}, func(order) (int, error) {
			return 0, &orderError{outcome: caRejected, retryAfter: 30 * time.Minute, err: errors.New("too many orders")}
		})
		start := time.Now()
		for range 50 {
			runNodes(t, time.Minute, n)
			store.stale.Store(true)
			n.forceRenewAll()
		}
		if got := n.engine.ordersSince(start); !slices.Equal(got, minutes(0, 30)) {
			t.Errorf("orders at %v, want one in half an hour", got)
		}
	})
}

// What cannot be recorded is not ordered, nor what there is no room for.
func TestStoreWriteErrorPreventsOrder(t *testing.T) {
	for kind, reject := range map[string]func(string, []byte) bool{
		"records":         func(key string, _ []byte) bool { return strings.HasPrefix(key, scheduleDir) },
		"more than a bit": func(_ string, value []byte) bool { return len(value) > 8<<10 },
	} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newFakeSharedStorage(t)
				store.rejectWrite = reject
				n := newNode(t, store, map[string]*stored{}, orderSucceeds)
				runNodes(t, 10*time.Minute, n)
				if got := len(n.engine.orderTimes); got != 0 {
					t.Errorf("%d orders, want none", got)
				}
				if got := n.log.count("no certificate can be ordered"); got != 1 {
					t.Errorf("logged %d times, want once:\n%s", got, n.log)
				}
			})
		})
	}
}

// Without the store nothing is ordered, and what is served stays.
func TestNodeServesWithoutStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, certificates := newFakeSharedStorage(t), map[string]*stored{}
		n := newNode(t, store, certificates, orderSucceeds)
		runNodes(t, time.Minute, n)
		store.unavailable.Store(true)
		n.engine.loadErr = errUnavailable
		runNodes(t, time.Hour, n)
		if cert, source := n.certs.pick(testName, time.Now()); cert == nil || source != "acme" {
			t.Error("the certificate is served no more")
		}
		if len(n.engine.orderTimes) != 1 {
			t.Errorf("%d orders, want 1", len(n.engine.orderTimes))
		}
		store.unavailable.Store(false)
		n.engine.loadErr = nil
		runNodes(t, time.Minute, n)
		if problem := n.workers[0].getState().lastErr; problem != nil {
			t.Errorf("the store is back, and the problem is %v", problem)
		}
	})
}
