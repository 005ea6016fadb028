package tlsmgr

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/certmagic"

	"inbox/internal/filelock"
)

// fakeSharedStorage is a store of several nodes in one directory of one machine.
type fakeSharedStorage struct {
	*certmagic.FileStorage
	unavailable     atomic.Bool
	stale           atomic.Bool                        // it answers as before anything was written, as a replica may
	loseLockOnWrite atomic.Bool                        // it finds at the next write that the lock was lost
	cancelLock      atomic.Pointer[context.CancelFunc] // ends the context of the last lock

	rejectWrite func(key string, value []byte) bool // what it does not take; nil: nothing
}

// lockCtxKey finds in a context the lock that it came with.
type lockCtxKey struct{}

var errUnavailable = errors.New("the store is away")

func newFakeSharedStorage(t *testing.T) *fakeSharedStorage {
	return &fakeSharedStorage{FileStorage: &certmagic.FileStorage{Path: t.TempDir()}}
}

func (f *fakeSharedStorage) Load(ctx context.Context, key string) ([]byte, error) {
	if f.unavailable.Load() {
		return nil, errUnavailable
	}
	if f.stale.Load() {
		return nil, fs.ErrNotExist
	}
	return f.FileStorage.Load(ctx, key)
}

func (f *fakeSharedStorage) Store(ctx context.Context, key string, value []byte) error {
	if f.unavailable.Load() {
		return errUnavailable
	}
	if f.rejectWrite != nil && f.rejectWrite(key, value) {
		return errUnavailable
	}
	lockCtx, locked := ctx.Value(lockCtxKey{}).(context.Context)
	if locked && f.loseLockOnWrite.Load() {
		(*f.cancelLock.Load())()
	}
	if locked && lockCtx.Err() != nil {
		return errors.New("the lock was lost")
	}
	return f.FileStorage.Store(ctx, key, value)
}

func (f *fakeSharedStorage) TryLock(ctx context.Context, name string) (context.Context, func(), bool, error) {
	if f.unavailable.Load() {
		return nil, nil, false, errUnavailable
	}
	file, err := filelock.TryLock(filepath.Join(f.Path, certmagic.StorageKeys.Safe(name)))
	if errors.Is(err, filelock.ErrLocked) {
		return nil, nil, false, nil
	}
	if err != nil {
		return nil, nil, false, err
	}
	lock, unlock := context.WithCancel(context.WithoutCancel(ctx)) // not lost because its holder stops
	lockCtx, endLockCtx := context.WithCancel(context.WithValue(ctx, lockCtxKey{}, lock))
	loseLock := context.CancelFunc(func() { unlock(); endLockCtx() })
	f.cancelLock.Store(&loseLock)
	return lockCtx, func() { loseLock(); file.Close() }, true, nil
}

func (f *fakeSharedStorage) IsLocked(_ context.Context, name string) (bool, error) {
	return filelock.HeldExclusively(filepath.Join(f.Path, certmagic.StorageKeys.Safe(name))), nil
}

// newNode is one of several servers on a store. Their engines keep what they
// obtain in one map, as certmagic does in the store.
func newNode(t *testing.T, store *fakeSharedStorage, certificates map[string]*stored, onOrder func(order) (int, error)) *testScheduler {
	t.Helper()
	s := newTestScheduler(t, "", onOrder)
	s.engine.certs = certificates
	return newTestSchedulerOn(sharedStorage{store, s.scheduler.log}, s.settings, s.engine, s.log, "")
}

// runNodes lets nodes work, one after the other in small steps, in a time that
// passes at once: the map of certificates is no store.
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
		store, certificates := newFakeSharedStorage(t), map[string]*stored{}
		one, two := newNode(t, store, certificates, orderSucceeds), newNode(t, store, certificates, orderSucceeds)
		runNodes(t, time.Minute, two, one)
		if n := len(one.engine.orderTimes) + len(two.engine.orderTimes); n != 1 {
			t.Errorf("%d orders, want 1", n)
		}
		for _, n := range []*testScheduler{one, two} {
			if cert, _ := n.certs.pick(testName, time.Now()); cert == nil {
				t.Error("a node does not serve what the other obtained")
			}
		}
		if store.Exists(t.Context(), "room") {
			t.Error("what was stored to see whether there is room is still there")
		}
	})
}

// A node that cannot reach the authority keeps that to itself: the other orders
// at once, though the first keeps trying.
func TestNodeWithoutCADoesNotBlockOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, certificates := newFakeSharedStorage(t), map[string]*stored{}
		isolated := newNode(t, store, certificates, orderUnreachable)
		runNodes(t, 10*time.Minute, isolated)
		if n := len(isolated.engine.orderTimes); n < 3 || n > 12 {
			t.Errorf("%d tries in ten minutes, want the waits to double up to five minutes", n)
		}
		connected := newNode(t, store, certificates, orderSucceeds)
		runNodes(t, 2*time.Second, connected)
		if len(connected.engine.orderTimes) != 1 {
			t.Fatalf("the other node made %d orders, want 1 at once", len(connected.engine.orderTimes))
		}
		runNodes(t, 10*time.Second, isolated)
		if cert, _ := isolated.certs.pick(testName, time.Now()); cert == nil || isolated.workers[0].getState().lastErr != nil {
			t.Errorf("the first node serves %v, its problem is %v", cert, isolated.workers[0].getState().lastErr)
		}
	})
}

// What the authority asks of one node holds for all of them.
func TestNodesShareRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, certificates := newFakeSharedStorage(t), map[string]*stored{}
		rateLimited := func(order) (int, error) {
			return 0, &orderError{outcome: caUnavailable, retryAfter: 20 * time.Minute, err: errors.New("429")}
		}
		one, two := newNode(t, store, certificates, rateLimited), newNode(t, store, certificates, orderSucceeds)
		runNodes(t, 2*time.Second, one)
		runNodes(t, 19*time.Minute, one, two)
		if n := len(one.engine.orderTimes) + len(two.engine.orderTimes); n != 1 {
			t.Errorf("%d orders within the patience asked for, want 1", n)
		}
	})
}

// A node that dies while it asks whether the authority is there has ordered
// nothing, and leaves nothing on record that would keep others from it.
func TestNodeCrashesDuringReadinessCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, certificates := newFakeSharedStorage(t), map[string]*stored{}
		crashed := newNode(t, store, certificates, orderSucceeds)
		ctx, crash := context.WithCancel(t.Context())
		crashed.engine.readyFunc = func() error {
			(*store.cancelLock.Load())()  // the lock runs out
			store.unavailable.Store(true) // and nothing it does reaches the store
			crash()
			return ctx.Err()
		}
		crashed.step(ctx, crashed.workers[0])
		store.unavailable.Store(false)
		other := newNode(t, store, certificates, orderSucceeds)
		runNodes(t, 2*time.Second, other)
		if len(crashed.engine.orderTimes) != 0 || len(other.engine.orderTimes) != 1 {
			t.Errorf("%d orders of the one that died, %d of the other; want 0 and 1", len(crashed.engine.orderTimes), len(other.engine.orderTimes))
		}
	})
}

// A node that is stopped while it asks whether the authority is there has ordered
// nothing either: it records nothing, and another orders at once. So does it
// itself after a restart.
func TestNodeStopsDuringReadinessCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, certificates := newFakeSharedStorage(t), map[string]*stored{}
		stopped := newNode(t, store, certificates, orderSucceeds)
		ctx, stop := context.WithCancel(t.Context())
		stopped.engine.readyFunc = func() error { stop(); return ctx.Err() }
		stopped.step(ctx, stopped.workers[0])
		if text, err := store.Load(t.Context(), stopped.schedules.key(testName, ".json")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the record is %s (%v), want none", text, err)
		}
		other := newNode(t, store, certificates, orderSucceeds)
		other.step(t.Context(), other.workers[0])
		if len(stopped.engine.orderTimes) != 0 || len(other.engine.orderTimes) != 1 {
			t.Errorf("%d orders of the one that was stopped, %d of the other; want 0 and 1 at once", len(stopped.engine.orderTimes), len(other.engine.orderTimes))
		}
	})
}

// A node that is stopped while an order is under way keeps the others from
// another one for a while, and a validation that may have failed on record.
func TestNodeStopsDuringOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFakeSharedStorage(t)
		ctx, stop := context.WithCancel(t.Context())
		stopped := newNode(t, store, map[string]*stored{}, func(order) (int, error) { stop(); return 0, ctx.Err() })
		stopped.step(ctx, stopped.workers[0])
		sched, err := stopped.schedules.read(testName, time.Now())
		if err != nil || !sched.NextAttempt.Equal(time.Now().Add(interruptedRetryDelay)) || len(sched.FailedValidations) != 1 {
			t.Errorf("the record is %+v (%v), want the next order in %v, and one validation", sched, err, interruptedRetryDelay)
		}
	})
}

// Failed validations count for all nodes together.
func TestNodesShareValidationBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, certificates := newFakeSharedStorage(t), map[string]*stored{}
		validations := 0
		fails := func(o order) (int, error) { validations++; return orderFailsValidation(o) }
		nodes := []*testScheduler{newNode(t, store, certificates, fails), newNode(t, store, certificates, fails), newNode(t, store, certificates, fails)}
		for range 58 {
			runNodes(t, time.Minute, nodes...)
			for _, n := range nodes {
				n.forceRenewAll()
			}
		}
		if validations > maxFailedValidations {
			t.Errorf("%d validations failed within the hour, want %d at most", validations, maxFailedValidations)
		}
	})
}

// A store that was restarted empty has forgotten the record and the locks. The
// authority has not.
func TestValidationBudgetSurvivesEmptyStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, certificates := newFakeSharedStorage(t), map[string]*stored{}
		validations := 0
		fails := func(o order) (int, error) { validations++; return orderFailsValidation(o) }
		nodes := []*testScheduler{newNode(t, store, certificates, fails), newNode(t, store, certificates, fails), newNode(t, store, certificates, fails)}
		for minute := range 58 {
			runNodes(t, time.Minute, nodes...)
			if minute%10 == 9 {
				if err := store.Delete(t.Context(), scheduleDir); err != nil {
					t.Fatal(err)
				}
			}
			for _, n := range nodes {
				n.forceRenewAll()
			}
		}
		if validations < 2 || validations > maxFailedValidations {
			t.Errorf("%d validations failed within the hour, want %d at most, and more than one", validations, maxFailedValidations)
		}
	})
}

// Whoever loses the lock while ordering leaves the record to the next.
func TestLostLockKeepsSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, certificates := newFakeSharedStorage(t), map[string]*stored{}
		n := newNode(t, store, certificates, func(order) (int, error) {
			(*store.cancelLock.Load())()
			return 0, errors.New("connection lost")
		})
		runNodes(t, time.Second, n)
		sched, err := n.schedules.read(testName, time.Now())
		if err != nil || sched.NextAttempt.Sub(sched.LastAttempt) != failureBackoffMin || sched.FailureCount+sched.UnavailableCount != 0 {
			t.Errorf("the record is %+v (%v), want it as it was when the order began", sched, err)
		}
		if n.log.count("the lock was lost") != 1 {
			t.Errorf("nothing is said of it:\n%s", n.log)
		}
	})
}

// A node that was paused learns by its first write that the lock is another's, and
// looks soon for what that one obtained.
func TestLostLockFoundOnWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, certificates := newFakeSharedStorage(t), map[string]*stored{}
		paused := newNode(t, store, certificates, orderSucceeds)
		paused.engine.readyFunc = func() error {
			store.loseLockOnWrite.Store(true)
			return errors.New("no answer")
		}
		if wait := paused.step(t.Context(), paused.workers[0]); wait != lockRetryDelay {
			t.Errorf("looks again in %v, want %v:\n%s", wait, lockRetryDelay, paused.log)
		}
	})
}

// Nodes that ask different authorities keep a schedule each, though they share
// the record: none begins anew because the other had its turn.
func TestNodesWithDifferentCAs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, certificates := newFakeSharedStorage(t), map[string]*stored{}
		one, two := newNode(t, store, certificates, orderRefused), newNode(t, store, certificates, orderRefused)
		two.settings.cas = []*caClient{{url: "other"}}
		two.schedules = newScheduleStore(sharedStorage{store, two.scheduler.log}, two.settings)
		runNodes(t, time.Hour, one, two)
		for _, n := range []*testScheduler{one, two} {
			if got := len(n.engine.orderTimes); got != 3 {
				t.Errorf("%d orders at the %s in an hour, want 3, as alone", got, n.settings.cas[0].url)
			}
		}
	})
}

// A node that was paused after it had the lock, until another had ordered, does
// not write over what that one recorded.
func TestPausedNodeKeepsSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, certificates := newFakeSharedStorage(t), map[string]*stored{}
		n := newNode(t, store, certificates, orderSucceeds)
		n.engine.beforeOrder = func() { (*store.cancelLock.Load())() } // as after a pause, before the order
		runNodes(t, time.Second, n)
		if len(n.engine.orderTimes) != 0 {
			t.Errorf("%d orders without the lock", len(n.engine.orderTimes))
		}
		if _, err := store.Load(t.Context(), n.schedules.key(testName, ".json")); err == nil {
			t.Error("a record was written without the lock")
		}
	})
}

// A record that must be mended is mended by the holder of the lock alone.
func TestScheduleIsRepairedUnderLock(t *testing.T) {
	for why, text := range map[string]string{"damaged": "{", "ahead": `{"Tried": "2999-01-01T00:00:00Z"}`} {
		synctest.Test(t, func(t *testing.T) {
			store, certificates := newFakeSharedStorage(t), map[string]*stored{}
			n := newNode(t, store, certificates, orderSucceeds)
			key := n.schedules.key(testName, ".json")
			if err := store.Store(t.Context(), key, []byte(text)); err != nil {
				t.Fatal(err)
			}
			_, unlock, _, err := n.schedules.tryLockName(t.Context(), testName)
			if err != nil {
				t.Fatal(err)
			}
			runNodes(t, time.Minute, n)
			if now, _ := store.Load(t.Context(), key); string(now) != text || len(n.engine.orderTimes) != 0 {
				t.Errorf("%s: %d orders, and the record that another works on is %s", why, len(n.engine.orderTimes), now)
			}
			unlock()
			runNodes(t, 20*time.Minute, n)
			if now, _ := store.Load(t.Context(), key); string(now) == text || len(n.engine.orderTimes) != 1 {
				t.Errorf("%s: %d orders, and the record is %s", why, len(n.engine.orderTimes), now)
			}
		})
	}
}
