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
)

// fileShared is a store of several nodes in one directory of one machine.
type fileShared struct {
	*certmagic.FileStorage
	away atomic.Bool
	past atomic.Bool                        // it answers as before anything was written, as a replica may
	late atomic.Bool                        // it finds at the next write that the lock was lost
	lose atomic.Pointer[context.CancelFunc] // ends the context of the last lock

	refuses func(key string, value []byte) bool // what it does not take; nil: nothing
}

// heldKey finds in a context the lock that it came with.
type heldKey struct{}

var errAway = errors.New("the store is away")

func newFileShared(t *testing.T) *fileShared {
	return &fileShared{FileStorage: &certmagic.FileStorage{Path: t.TempDir()}}
}

func (f *fileShared) Load(ctx context.Context, key string) ([]byte, error) {
	if f.away.Load() {
		return nil, errAway
	}
	if f.past.Load() {
		return nil, fs.ErrNotExist
	}
	return f.FileStorage.Load(ctx, key)
}

func (f *fileShared) Store(ctx context.Context, key string, value []byte) error {
	if f.away.Load() {
		return errAway
	}
	if f.refuses != nil && f.refuses(key, value) {
		return errAway
	}
	held, locked := ctx.Value(heldKey{}).(context.Context)
	if locked && f.late.Load() {
		(*f.lose.Load())()
	}
	if locked && held.Err() != nil {
		return errors.New("the lock was lost")
	}
	return f.FileStorage.Store(ctx, key, value)
}

func (f *fileShared) TryLock(ctx context.Context, name string) (context.Context, func(), bool, error) {
	if f.away.Load() {
		return nil, nil, false, errAway
	}
	free, taken, err := tryLockFile(filepath.Join(f.Path, certmagic.StorageKeys.Safe(name)), true)
	if err != nil || !taken {
		return nil, nil, false, err
	}
	lock, unlock := context.WithCancel(context.WithoutCancel(ctx)) // not lost because its holder stops
	held, end := context.WithCancel(context.WithValue(ctx, heldKey{}, lock))
	lose := context.CancelFunc(func() { unlock(); end() })
	f.lose.Store(&lose)
	return held, func() { lose(); free() }, true, nil
}

func (f *fileShared) IsLocked(_ context.Context, name string) (bool, error) {
	free, taken, err := tryLockFile(filepath.Join(f.Path, certmagic.StorageKeys.Safe(name)), false)
	if taken {
		free()
	}
	return !taken, err
}

// node is one of several servers on a store. Their engines keep what they
// obtain in one map, as certmagic does in the store.
func node(t *testing.T, store *fileShared, certificates map[string]*stored, answer func(order) (int, error)) *supervised {
	t.Helper()
	s := newSupervised(t, "", answer)
	s.engine.store = certificates
	return superviseIn(sharedStorage{store, s.scheduler.log}, s.settings, s.engine, s.log, "")
}

// runAll lets nodes work, one after the other in small steps, in a time that
// passes at once: the map of certificates is no store.
func runAll(t *testing.T, d time.Duration, nodes ...*supervised) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Second) {
		for _, n := range nodes {
			n.step(t.Context(), n.workers[0])
		}
	}
}

func TestNodesOrderOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, certificates := newFileShared(t), map[string]*stored{}
		one, two := node(t, store, certificates, granted), node(t, store, certificates, granted)
		runAll(t, time.Minute, two, one)
		if n := len(one.engine.asked) + len(two.engine.asked); n != 1 {
			t.Errorf("%d orders, want 1", n)
		}
		for _, n := range []*supervised{one, two} {
			if cert, _ := n.certs.pick(theName, time.Now()); cert == nil {
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
func TestNodeWithoutTheAuthorityHindersNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, certificates := newFileShared(t), map[string]*stored{}
		cut := node(t, store, certificates, unreachable)
		runAll(t, 10*time.Minute, cut)
		if n := len(cut.engine.asked); n < 3 || n > 12 {
			t.Errorf("%d tries in ten minutes, want the waits to double up to five minutes", n)
		}
		well := node(t, store, certificates, granted)
		runAll(t, 2*time.Second, well)
		if len(well.engine.asked) != 1 {
			t.Fatalf("the other node made %d orders, want 1 at once", len(well.engine.asked))
		}
		runAll(t, 10*time.Second, cut)
		if cert, _ := cut.certs.pick(theName, time.Now()); cert == nil || cut.workers[0].getState().lastErr != nil {
			t.Errorf("the first node serves %v, its problem is %v", cert, cut.workers[0].getState().lastErr)
		}
	})
}

// What the authority asks of one node holds for all of them.
func TestNodesShareTheAuthoritysPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, certificates := newFileShared(t), map[string]*stored{}
		busy := func(order) (int, error) {
			return 0, &orderError{outcome: caUnavailable, retryAfter: 20 * time.Minute, err: errors.New("429")}
		}
		one, two := node(t, store, certificates, busy), node(t, store, certificates, granted)
		runAll(t, 2*time.Second, one)
		runAll(t, 19*time.Minute, one, two)
		if n := len(one.engine.asked) + len(two.engine.asked); n != 1 {
			t.Errorf("%d orders within the patience asked for, want 1", n)
		}
	})
}

// A node that dies while it asks whether the authority is there has ordered
// nothing, and leaves nothing on record that would keep others from it.
func TestNodeDiesAskingTheAuthority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, certificates := newFileShared(t), map[string]*stored{}
		dies := node(t, store, certificates, granted)
		ctx, die := context.WithCancel(t.Context())
		dies.engine.reach = func() error {
			(*store.lose.Load())() // the lock runs out
			store.away.Store(true) // and nothing it does reaches the store
			die()
			return ctx.Err()
		}
		dies.step(ctx, dies.workers[0])
		store.away.Store(false)
		well := node(t, store, certificates, granted)
		runAll(t, 2*time.Second, well)
		if len(dies.engine.asked) != 0 || len(well.engine.asked) != 1 {
			t.Errorf("%d orders of the one that died, %d of the other; want 0 and 1", len(dies.engine.asked), len(well.engine.asked))
		}
	})
}

// A node that is stopped while it asks whether the authority is there has ordered
// nothing either: it records nothing, and another orders at once. So does it
// itself after a restart.
func TestNodeStopsAskingTheAuthority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, certificates := newFileShared(t), map[string]*stored{}
		stops := node(t, store, certificates, granted)
		ctx, stop := context.WithCancel(t.Context())
		stops.engine.reach = func() error { stop(); return ctx.Err() }
		stops.step(ctx, stops.workers[0])
		if text, err := store.Load(t.Context(), stops.schedules.key(theName, ".json")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the record is %s (%v), want none", text, err)
		}
		next := node(t, store, certificates, granted)
		next.step(t.Context(), next.workers[0])
		if len(stops.engine.asked) != 0 || len(next.engine.asked) != 1 {
			t.Errorf("%d orders of the one that was stopped, %d of the other; want 0 and 1 at once", len(stops.engine.asked), len(next.engine.asked))
		}
	})
}

// A node that is stopped while an order is under way keeps the others from
// another one for a while, and a validation that may have failed on record.
func TestNodeStopsWhileItOrders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFileShared(t)
		ctx, stop := context.WithCancel(t.Context())
		stops := node(t, store, map[string]*stored{}, func(order) (int, error) { stop(); return 0, ctx.Err() })
		stops.step(ctx, stops.workers[0])
		rec, err := stops.schedules.read(theName, time.Now())
		if err != nil || !rec.NextAttempt.Equal(time.Now().Add(interruptedRetryDelay)) || len(rec.FailedValidations) != 1 {
			t.Errorf("the record is %+v (%v), want the next order in %v, and one validation", rec, err, interruptedRetryDelay)
		}
	})
}

// Failed validations count for all nodes together.
func TestNodesShareTheFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, certificates := newFileShared(t), map[string]*stored{}
		validations := 0
		fails := func(o order) (int, error) { validations++; return unproved(o) }
		nodes := []*supervised{node(t, store, certificates, fails), node(t, store, certificates, fails), node(t, store, certificates, fails)}
		for range 58 {
			runAll(t, time.Minute, nodes...)
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
func TestFloorOutlivesTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, certificates := newFileShared(t), map[string]*stored{}
		validations := 0
		fails := func(o order) (int, error) { validations++; return unproved(o) }
		nodes := []*supervised{node(t, store, certificates, fails), node(t, store, certificates, fails), node(t, store, certificates, fails)}
		for minute := range 58 {
			runAll(t, time.Minute, nodes...)
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
func TestLostLockLeavesTheRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, certificates := newFileShared(t), map[string]*stored{}
		n := node(t, store, certificates, func(order) (int, error) {
			(*store.lose.Load())()
			return 0, errors.New("connection lost")
		})
		runAll(t, time.Second, n)
		rec, err := n.schedules.read(theName, time.Now())
		if err != nil || rec.NextAttempt.Sub(rec.LastAttempt) != failureBackoffMin || rec.FailureCount+rec.UnavailableCount != 0 {
			t.Errorf("the record is %+v (%v), want it as it was when the order began", rec, err)
		}
		if n.log.count("the lock was lost") != 1 {
			t.Errorf("nothing is said of it:\n%s", n.log)
		}
	})
}

// A node that was paused learns by its first write that the lock is another's, and
// looks soon for what that one obtained.
func TestLockLostUnnoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, certificates := newFileShared(t), map[string]*stored{}
		paused := node(t, store, certificates, granted)
		paused.engine.reach = func() error {
			store.late.Store(true)
			return errors.New("no answer")
		}
		if wait := paused.step(t.Context(), paused.workers[0]); wait != lockRetryDelay {
			t.Errorf("looks again in %v, want %v:\n%s", wait, lockRetryDelay, paused.log)
		}
	})
}

// Nodes that ask different authorities keep a schedule each, though they share
// the record: none begins anew because the other had its turn.
func TestNodesOfDifferentAuthorities(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, certificates := newFileShared(t), map[string]*stored{}
		one, two := node(t, store, certificates, declined), node(t, store, certificates, declined)
		two.settings.cas = []*caClient{{url: "other"}}
		two.schedules = newScheduleStore(sharedStorage{store, two.scheduler.log}, two.settings)
		runAll(t, time.Hour, one, two)
		for _, n := range []*supervised{one, two} {
			if got := len(n.engine.asked); got != 3 {
				t.Errorf("%d orders at the %s in an hour, want 3, as alone", got, n.settings.cas[0].url)
			}
		}
	})
}

// A node that was paused after it had the lock, until another had ordered, does
// not write over what that one recorded.
func TestPausedNodeLeavesTheRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, certificates := newFileShared(t), map[string]*stored{}
		n := node(t, store, certificates, granted)
		n.engine.wake = func() { (*store.lose.Load())() } // as after a pause, before the order
		runAll(t, time.Second, n)
		if len(n.engine.asked) != 0 {
			t.Errorf("%d orders without the lock", len(n.engine.asked))
		}
		if _, err := store.Load(t.Context(), n.schedules.key(theName, ".json")); err == nil {
			t.Error("a record was written without the lock")
		}
	})
}

// A record that must be mended is mended by the holder of the lock alone.
func TestRecordIsMendedUnderTheLock(t *testing.T) {
	for why, text := range map[string]string{"damaged": "{", "ahead": `{"Tried": "2999-01-01T00:00:00Z"}`} {
		synctest.Test(t, func(t *testing.T) {
			store, certificates := newFileShared(t), map[string]*stored{}
			n := node(t, store, certificates, granted)
			key := n.schedules.key(theName, ".json")
			if err := store.Store(t.Context(), key, []byte(text)); err != nil {
				t.Fatal(err)
			}
			_, free, _, err := n.schedules.tryLockName(t.Context(), theName)
			if err != nil {
				t.Fatal(err)
			}
			runAll(t, time.Minute, n)
			if now, _ := store.Load(t.Context(), key); string(now) != text || len(n.engine.asked) != 0 {
				t.Errorf("%s: %d orders, and the record that another works on is %s", why, len(n.engine.asked), now)
			}
			free()
			runAll(t, 20*time.Minute, n)
			if now, _ := store.Load(t.Context(), key); string(now) == text || len(n.engine.asked) != 1 {
				t.Errorf("%s: %d orders, and the record is %s", why, len(n.engine.asked), now)
			}
		})
	}
}
