package acme

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"inbox/tlsmgr/acme/schedule"
	"inbox/tlsmgr/storage"
)

// scheduleDir is the prefix of the storage keys of schedules.
const scheduleDir = "schedule"

// records stores the schedule of each name. Only the holder of the lock of a name
// writes its schedule.
type records struct {
	storage storage.Storage
	cas     []string // sorted URLs of the configured CAs
	log     *slog.Logger
}

func recordKey(name, suffix string) string {
	return scheduleDir + "/" + storage.Element(name) + suffix
}

var errClockAhead = errors.New("the clock was ahead when the schedule was stored, or is behind now; the stored times count as now")

// load returns the schedule of a name for the configured CAs, and writes nothing. A
// defect, which is [ErrDamaged] or errClockAhead, is corrected in the returned state. The
// holder of the lock stores the correction.
func (r records) load(ctx context.Context, name string, now time.Time) (state schedule.State, defect, err error) {
	switch err = r.loadJSON(ctx, recordKey(name, ".json"), &state); {
	case errors.Is(err, ErrDamaged):
		return schedule.Damaged(r.cas, now), err, nil
	case err != nil:
		return state, nil, fmt.Errorf("read the schedule: %w", err)
	}
	state, clamped := schedule.ClampFuture(schedule.ForCAs(state, r.cas), now)
	if clamped {
		defect = errClockAhead
	}
	return state, defect, nil
}

// loadUnder returns the schedule, and stores it if a defect was corrected. The caller
// holds the lock of the name.
func (r records) loadUnder(ctx context.Context, lease storage.Lease, name string, now time.Time) (schedule.State, error) {
	state, defect, err := r.load(ctx, name, now)
	if err != nil || defect == nil {
		return state, err
	}
	if errors.Is(defect, errClockAhead) {
		r.log.Warn(defect.Error(), "name", name)
	} else if err := lease.Quarantine(ctx, recordKey(name, ".json")); err != nil {
		return state, fmt.Errorf("quarantine the damaged schedule: %w", err)
	}
	return state, r.save(ctx, lease, name, state)
}

// repair stores a corrected schedule. If another process holds the lock, that process
// stores it.
func (r records) repair(ctx context.Context, name string, now time.Time) error {
	lease, err := r.lock(ctx, name)
	if errors.Is(err, storage.ErrLocked) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lease.Release()
	_, err = r.loadUnder(ctx, lease, name, now)
	return err
}

// save stores the schedule. In shared storage it omits the outage, which other nodes do
// not have.
func (r records) save(ctx context.Context, lease storage.Lease, name string, state schedule.State) error {
	if r.storage.Shared() {
		state.Outage = schedule.Outage{}
	}
	if err := saveJSON(ctx, lease, recordKey(name, ".json"), state); err != nil {
		return fmt.Errorf("write the schedule: %w", err)
	}
	return nil
}

// loadJSON decodes a stored value, and leaves into unchanged if there is no value.
func (r records) loadJSON(ctx context.Context, key string, into any) error {
	text, err := r.storage.Load(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

func saveJSON(ctx context.Context, s storage.Storage, key string, value any) error {
	text, err := json.MarshalIndent(value, "", "\t")
	if err != nil {
		return err
	}
	return s.Store(ctx, key, append(text, '\n'))
}

// lock acquires the lock that a process holds while it orders for a name.
func (r records) lock(ctx context.Context, name string) (storage.Lease, error) {
	return r.storage.TryLock(ctx, recordKey(name, ".lock"))
}

// orderInProgress reports whether any process is ordering for a name.
func (r records) orderInProgress(name string) bool {
	locked, err := r.storage.IsLocked(context.Background(), recordKey(name, ".lock"))
	return locked && err == nil
}
