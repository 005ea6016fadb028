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
func TestForgetfulStore(t *testing.T) {
	for why, forget := range map[string]func(*fileShared){
		"old data": func(f *fileShared) { f.past.Store(true) },
		"emptied":  func(f *fileShared) { _ = os.RemoveAll(f.Path) },
	} {
		t.Run(why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newFileShared(t)
				n := node(t, store, map[string]*stored{}, declined)
				for range 60 {
					runAll(t, time.Minute, n)
					forget(store)
					_ = os.MkdirAll(store.Path, 0o700)
				}
				if got := len(n.engine.asked); got != 3 {
					t.Errorf("%d orders in an hour, want 3", got)
				}
			})
		})
	}
}

// Nor does it lift what the authority asked for, though a person urges.
func TestForgetfulStoreAndAnUrge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFileShared(t)
		n := node(t, store, map[string]*stored{}, func(order) (int, error) {
			return 0, &orderError{outcome: caRejected, retryAfter: 30 * time.Minute, err: errors.New("too many orders")}
		})
		start := time.Now()
		for range 50 {
			runAll(t, time.Minute, n)
			store.past.Store(true)
			n.forceRenewAll()
		}
		if got := n.engine.since(start); !slices.Equal(got, minutes(0, 30)) {
			t.Errorf("orders at %v, want one in half an hour", got)
		}
	})
}

// What cannot be recorded is not ordered, nor what there is no room for.
func TestStoreThatRefuses(t *testing.T) {
	for what, refuses := range map[string]func(string, []byte) bool{
		"records":         func(key string, _ []byte) bool { return strings.HasPrefix(key, scheduleDir) },
		"more than a bit": func(_ string, value []byte) bool { return len(value) > 8<<10 },
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newFileShared(t)
				store.refuses = refuses
				n := node(t, store, map[string]*stored{}, granted)
				runAll(t, 10*time.Minute, n)
				if got := len(n.engine.asked); got != 0 {
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
func TestNodeWithoutItsStoreServesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, certificates := newFileShared(t), map[string]*stored{}
		n := node(t, store, certificates, granted)
		runAll(t, time.Minute, n)
		store.away.Store(true)
		n.engine.unread = errAway
		runAll(t, time.Hour, n)
		if cert, source := n.certs.pick(theName, time.Now()); cert == nil || source != "acme" {
			t.Error("the certificate is served no more")
		}
		if len(n.engine.asked) != 1 {
			t.Errorf("%d orders, want 1", len(n.engine.asked))
		}
		store.away.Store(false)
		n.engine.unread = nil
		runAll(t, time.Minute, n)
		if problem := n.workers[0].getState().lastErr; problem != nil {
			t.Errorf("the store is back, and the problem is %v", problem)
		}
	})
}
