package acme

import (
	"context"
	"errors"
	"io/fs"
	"testing"
	"testing/synctest"
	"time"

	"inbox/tlsmgr/acme/schedule"
	"inbox/tlsmgr/internal/tlstest"
)

// newNode returns one of several nodes on a store. The engines of all nodes keep their
// certificates in one map, as certmagic does in the store.
func newNode(t *testing.T, store *tlstest.SharedStorage, certificates map[string]*Certificate, onOrder func(Order) (int, error)) *testScheduler {
	t.Helper()
	s := newTestScheduler(t, "", onOrder)
	s.engine.certs = certificates
	return newTestSchedulerOn(store, s.Settings, s.engine, s.log)
}

// runNodes runs the nodes in turn, one step per second of fake time. They do not run
// concurrently, since they share the map of certificates.
func runNodes(t *testing.T, d time.Duration, nodes ...*testScheduler) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Second) {
		for _, n := range nodes {
			n.step(t.Context(), n.workers[0])
		}
	}
}

func TestNodesOrderOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, certificates := tlstest.NewSharedStorage(t), map[string]*Certificate{}
		one, two := newNode(t, store, certificates, orderSucceeds), newNode(t, store, certificates, orderSucceeds)
		runNodes(t, time.Minute, two, one)
		if n := len(one.engine.orderTimes) + len(two.engine.orderTimes); n != 1 {
			t.Errorf("got %d orders, want 1", n)
		}
		for _, n := range []*testScheduler{one, two} {
			if cert := n.served(); cert == nil {
				t.Error("a node does not serve the certificate that the other obtained")
			}
		}
		if _, err := store.Load(t.Context(), "space"); err == nil {
			t.Error("the value written to check for free space was not removed")
		}
	})
}

// A node that cannot reach the CA does not record that in the shared schedule, so
// another node can order at once.
func TestNodeWithoutCADoesNotBlockOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, certificates := tlstest.NewSharedStorage(t), map[string]*Certificate{}
		isolated := newNode(t, store, certificates, orderUnreachable)
		runNodes(t, 10*time.Minute, isolated)
		if n := len(isolated.engine.orderTimes); n < 3 || n > 12 {
			t.Errorf("got %d attempts in ten minutes, want 3 to 12", n)
		}
		connected := newNode(t, store, certificates, orderSucceeds)
		runNodes(t, 2*time.Second, connected)
		if len(connected.engine.orderTimes) != 1 {
			t.Fatalf("got %d orders by the other node, want 1 at once", len(connected.engine.orderTimes))
		}
		runNodes(t, 10*time.Second, isolated)
		if cert := isolated.served(); cert == nil || isolated.err() != nil {
			t.Errorf("first node: got certificate %v, error %v, want a certificate and no error", cert, isolated.err())
		}
	})
}

// The Retry-After of a CA applies to all nodes.
func TestNodesShareRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, certificates := tlstest.NewSharedStorage(t), map[string]*Certificate{}
		rateLimited := func(Order) (int, error) {
			return 0, &OrderError{Outcome: schedule.CAUnavailable, RetryAfter: 20 * time.Minute, Err: errors.New("429")}
		}
		one, two := newNode(t, store, certificates, rateLimited), newNode(t, store, certificates, orderSucceeds)
		runNodes(t, 2*time.Second, one)
		runNodes(t, 19*time.Minute, one, two)
		if n := len(one.engine.orderTimes) + len(two.engine.orderTimes); n != 1 {
			t.Errorf("got %d orders within the Retry-After, want 1", n)
		}
	})
}

// A node that crashes while it checks that the CA is available has made no order and
// does not delay other nodes.
func TestNodeCrashesDuringReadinessCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, certificates := tlstest.NewSharedStorage(t), map[string]*Certificate{}
		crashed := newNode(t, store, certificates, orderSucceeds)
		ctx, crash := context.WithCancel(t.Context())
		crashed.engine.readyFunc = func() error {
			store.LoseLock()              // the lock expires
			store.Unavailable.Store(true) // and no write reaches the store
			crash()
			return ctx.Err()
		}
		crashed.step(ctx, crashed.workers[0])
		store.Unavailable.Store(false)
		other := newNode(t, store, certificates, orderSucceeds)
		runNodes(t, 2*time.Second, other)
		if len(crashed.engine.orderTimes) != 0 || len(other.engine.orderTimes) != 1 {
			t.Errorf("got %d orders by the crashed node, %d by the other, want 0 and 1", len(crashed.engine.orderTimes), len(other.engine.orderTimes))
		}
	})
}

// A node that stops while it checks that the CA is available records nothing, so
// another node can order at once, and so can this one after a restart.
func TestNodeStopsDuringReadinessCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, certificates := tlstest.NewSharedStorage(t), map[string]*Certificate{}
		stopped := newNode(t, store, certificates, orderSucceeds)
		ctx, stop := context.WithCancel(t.Context())
		stopped.engine.readyFunc = func() error { stop(); return ctx.Err() }
		stopped.step(ctx, stopped.workers[0])
		if text, err := store.Load(t.Context(), recordKey(testName, ".json")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got schedule %s (%v), want none", text, err)
		}
		other := newNode(t, store, certificates, orderSucceeds)
		other.step(t.Context(), other.workers[0])
		if len(stopped.engine.orderTimes) != 0 || len(other.engine.orderTimes) != 1 {
			t.Errorf("got %d orders by the stopped node, %d by the other, want 0 and 1", len(stopped.engine.orderTimes), len(other.engine.orderTimes))
		}
	})
}

// A node that stops during an order delays the next order of all nodes, and records
// one validation, which can have failed.
func TestNodeStopsDuringOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := tlstest.NewSharedStorage(t)
		ctx, stop := context.WithCancel(t.Context())
		stopped := newNode(t, store, map[string]*Certificate{}, func(Order) (int, error) { stop(); return 0, ctx.Err() })
		stopped.step(ctx, stopped.workers[0])
		state := stopped.stored(t)
		if !state.NextAttempt.Equal(time.Now().Add(schedule.InterruptedRetryDelay)) || len(state.FailedValidations) != 1 {
			t.Errorf("got schedule %+v, want the next order in %v and one validation", state, schedule.InterruptedRetryDelay)
		}
	})
}

// All nodes share one budget of failed validations.
func TestNodesShareValidationBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, certificates := tlstest.NewSharedStorage(t), map[string]*Certificate{}
		validations := 0
		fails := func(o Order) (int, error) { validations++; return orderFailsValidation(o) }
		nodes := []*testScheduler{newNode(t, store, certificates, fails), newNode(t, store, certificates, fails), newNode(t, store, certificates, fails)}
		for range 58 {
			runNodes(t, time.Minute, nodes...)
			for _, n := range nodes {
				n.forceRenewal()
			}
		}
		if validations > schedule.MaxFailedValidations {
			t.Errorf("got %d failed validations within the hour, want at most %d", validations, schedule.MaxFailedValidations)
		}
	})
}

// The budget holds although the store loses all schedules and locks.
func TestValidationBudgetSurvivesEmptyStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, certificates := tlstest.NewSharedStorage(t), map[string]*Certificate{}
		validations := 0
		fails := func(o Order) (int, error) { validations++; return orderFailsValidation(o) }
		nodes := []*testScheduler{newNode(t, store, certificates, fails), newNode(t, store, certificates, fails), newNode(t, store, certificates, fails)}
		for minute := range 58 {
			runNodes(t, time.Minute, nodes...)
			if minute%10 == 9 {
				if err := store.Delete(t.Context(), scheduleDir); err != nil {
					t.Fatal(err)
				}
			}
			for _, n := range nodes {
				n.forceRenewal()
			}
		}
		if validations < 2 || validations > schedule.MaxFailedValidations {
			t.Errorf("got %d failed validations within the hour, want 2 to %d", validations, schedule.MaxFailedValidations)
		}
	})
}

// A node that loses the lock during an order does not write the schedule.
func TestLostLockKeepsSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, certificates := tlstest.NewSharedStorage(t), map[string]*Certificate{}
		n := newNode(t, store, certificates, func(Order) (int, error) {
			store.LoseLock()
			return 0, errors.New("connection lost")
		})
		runNodes(t, time.Second, n)
		state := n.stored(t)
		if state.NextAttempt.Sub(state.LastAttempt) != schedule.FailureBackoffMin || state.Failures+state.Outage.Count != 0 {
			t.Errorf("got schedule %+v, want it unchanged since the start of the order", state)
		}
		if n.log.Count("the lock was lost") != 1 {
			t.Errorf("want the lost lock logged once:\n%s", n.log)
		}
	})
}

// A node that finds the lock lost at its first write checks again soon, for the
// certificate of the new holder.
func TestLostLockFoundOnWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, certificates := tlstest.NewSharedStorage(t), map[string]*Certificate{}
		paused := newNode(t, store, certificates, orderSucceeds)
		paused.engine.readyFunc = func() error {
			store.LoseLockOnWrite.Store(true)
			return errors.New("no response")
		}
		if wait := paused.step(t.Context(), paused.workers[0]); wait != lockRetryDelay {
			t.Errorf("got the next check in %v, want %v:\n%s", wait, lockRetryDelay, paused.log)
		}
	})
}

// Nodes with different CAs on one store have separate schedules and do not reset each
// other's backoff.
func TestNodesWithDifferentCAs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, certificates := tlstest.NewSharedStorage(t), map[string]*Certificate{}
		one, two := newNode(t, store, certificates, orderRefused), newNode(t, store, certificates, orderRefused)
		two.setCAs(&CAClient{URL: "other"})
		runNodes(t, time.Hour, one, two)
		for _, n := range []*testScheduler{one, two} {
			if got := len(n.engine.orderTimes); got != 3 {
				t.Errorf("got %d orders at CA %s in an hour, want 3, as with a single node", got, n.Settings.CAs[0].URL)
			}
		}
	})
}

// A node that was paused past the end of its lock does not overwrite the schedule of
// the next holder.
func TestPausedNodeKeepsSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, certificates := tlstest.NewSharedStorage(t), map[string]*Certificate{}
		n := newNode(t, store, certificates, orderSucceeds)
		n.engine.beforeOrder = func() { store.LoseLock() } // as after a pause between lock and order
		runNodes(t, time.Second, n)
		if len(n.engine.orderTimes) != 0 {
			t.Errorf("got %d orders without the lock, want none", len(n.engine.orderTimes))
		}
		if _, err := store.Load(t.Context(), recordKey(testName, ".json")); err == nil {
			t.Error("the schedule was written without the lock")
		}
	})
}

// Only the holder of the lock repairs an invalid schedule.
func TestScheduleIsRepairedUnderLock(t *testing.T) {
	for why, text := range map[string]string{"damaged": "{", "clock ahead": `{"LastAttempt": "2999-01-01T00:00:00Z"}`} {
		synctest.Test(t, func(t *testing.T) {
			store, certificates := tlstest.NewSharedStorage(t), map[string]*Certificate{}
			n := newNode(t, store, certificates, orderSucceeds)
			key := recordKey(testName, ".json")
			if err := store.Store(t.Context(), key, []byte(text)); err != nil {
				t.Fatal(err)
			}
			lease, err := n.records.lock(t.Context(), testName)
			if err != nil {
				t.Fatal(err)
			}
			runNodes(t, time.Minute, n)
			if now, _ := store.Load(t.Context(), key); string(now) != text || len(n.engine.orderTimes) != 0 {
				t.Errorf("%s: while another node has the lock: got %d orders, schedule %s, want none, unchanged", why, len(n.engine.orderTimes), now)
			}
			lease.Release()
			runNodes(t, 20*time.Minute, n)
			if now, _ := store.Load(t.Context(), key); string(now) == text || len(n.engine.orderTimes) != 1 {
				t.Errorf("%s: got %d orders, schedule %s, want one, repaired", why, len(n.engine.orderTimes), now)
			}
		})
	}
}
