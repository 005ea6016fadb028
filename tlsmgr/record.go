package tlsmgr

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/caddyserver/certmagic"
)

// The schedule of orders.
const (
	// An authority that was not reached is asked again soon.
	retryFirst, retryMost = 5 * time.Second, 5 * time.Minute
	// An order that failed will mostly fail again until a person does something.
	failFirst, failMost = 15 * time.Minute, 6 * time.Hour
	// An order that was broken off by our own end is taken up soon.
	brokenOff = time.Minute
	// urgedAgain is how soon after an order that failed a person can have
	// another.
	urgedAgain = time.Minute
	// Let's Encrypt allows five failed validations per name and hour.
	floorValidations = 4
	floorTime        = time.Hour
)

// record is what is remembered of a name across restarts. It is written before
// each order, as if that had failed already, so that a crash cannot undo it.
type record struct {
	// Next is the earliest time of the next order, and Tried that of the last one.
	Next, Tried time.Time
	// NotBefore is when the authority will hear us again, as it said itself.
	NotBefore time.Time
	// Failed counts orders that failed, and Missed those that were not made,
	// since the last success.
	Failed, Missed int
	// Validations are those of the last hour that failed or may have.
	Validations []time.Time
	// TrialPassed says that an order was successful at the place for trials.
	TrialPassed bool
	// Problem is what the last order came to nothing for.
	Problem string
}

// room is when so many more validations may fail without going through the floor.
func (r *record) room(n int, now time.Time) time.Time {
	r.Validations = slices.DeleteFunc(r.Validations, func(at time.Time) bool {
		// One in the future is the doing of a clock that was wrong.
		return now.Sub(at) >= floorTime || at.Sub(now) > floorTime
	})
	slices.SortFunc(r.Validations, time.Time.Compare)
	over := len(r.Validations) + n - floorValidations
	if over <= 0 {
		return now
	}
	return r.Validations[min(over, len(r.Validations))-1].Add(floorTime)
}

// begin assumes the worst of an order.
func (r *record) begin(w way, now time.Time) {
	r.Tried = now
	r.Next = now.Add(failFirst)
	for range w.validations {
		r.Validations = append(r.Validations, now)
	}
}

// settle takes back what did not happen of the worst.
func (r *record) settle(w way, failed int) {
	keep := len(r.Validations) - max(w.validations-failed, 0)
	r.Validations = r.Validations[:max(keep, 0)]
}

// succeeded leaves a gap to the next order: an authority that always says
// «renew now» is not to be obeyed for ever.
func (r *record) succeeded(now time.Time, life time.Duration) {
	*r = record{Tried: now, Next: now.Add(min(life/10, time.Hour)), Validations: r.Validations, TrialPassed: r.TrialPassed}
}

// failed sets when to try again.
func (r *record) failed(err error, now time.Time) {
	e := asOrderError(err)
	r.Problem = err.Error()
	r.NotBefore = now.Add(e.retryAfter)
	if e.outcome == notMade {
		r.Missed++
		r.Next = now.Add(doubling(retryFirst, retryMost, r.Missed))
	} else {
		r.Failed++
		r.Next = now.Add(doubling(failFirst, failMost, r.Failed))
	}
	if r.NotBefore.After(r.Next) {
		r.Next = r.NotBefore
	}
}

// urge brings the next order forward because a person asked for it.
func (r *record) urge(now time.Time) {
	at := now
	if r.Failed > 0 {
		at = r.Tried.Add(urgedAgain)
	}
	if r.NotBefore.After(at) {
		at = r.NotBefore
	}
	if at.Before(r.Next) {
		r.Next = at
	}
}

// sane forgets times that only a wrong clock can have written.
func (r *record) sane(now time.Time) {
	latest := now.Add(maxRetryAfter)
	if r.Next.After(latest) {
		r.Next = now
	}
	if r.NotBefore.After(latest) {
		r.NotBefore = now
	}
}

// doubling is the nth wait: the first, twice that, and so on up to the most.
func doubling(first, most time.Duration, n int) time.Duration {
	wait := first
	for ; n > 1 && wait < most; n-- {
		wait *= 2
	}
	return min(wait, most)
}

// records are the files of all names. What concerns orders is written by the
// holder of the name's lock alone.
type records struct {
	dir    string
	mender mender
}

var errNoState = errors.New("there is no state directory, and without a record of the orders an authority's limits " +
	"cannot be kept; name a directory that can be written to with -state")

func (r records) path(name, ending string) string {
	return filepath.Join(r.dir, certmagic.StorageKeys.Safe(name)+ending)
}

// read returns the record of a name. One that is damaged is assumed to tell of
// an order that failed just now.
func (r records) read(name string, now time.Time) (*record, error) {
	rec := new(record)
	switch err := r.readFile(name, ".json", rec); {
	case errors.Is(err, errDamaged):
		r.mender.aside(r.path(name, ".json"))
		rec = &record{Next: now.Add(failFirst), Problem: "the record of orders was damaged; a new one is kept"}
		return rec, r.write(name, rec)
	case err != nil:
		return nil, fmt.Errorf("read the record of orders: %w", err)
	}
	rec.sane(now)
	return rec, nil
}

func (r records) write(name string, rec *record) error {
	if err := r.writeFile(name, ".json", rec); err != nil {
		return fmt.Errorf("write the record of orders: %w", err)
	}
	return nil
}

// readFile leaves into as it is when there is no file.
func (r records) readFile(name, ending string, into any) error {
	if r.dir == "" {
		return errNoState
	}
	text, err := os.ReadFile(r.path(name, ending))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	return nil
}

func (r records) writeFile(name, ending string, value any) error {
	if r.dir == "" {
		return errNoState
	}
	text, err := json.MarshalIndent(value, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return err
	}
	return writeFile(r.path(name, ending), append(text, '\n'))
}

// lock is held while somebody orders for a name. The system frees it when its
// holder dies.
func (r records) lock(name string) (unlock func(), free bool, err error) {
	if r.dir == "" {
		return nil, false, errNoState
	}
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return nil, false, err
	}
	return lockFile(r.path(name, ".lock"), true)
}

// ordering tells whether anybody holds the lock.
func (r records) ordering(name string) bool {
	if r.dir == "" {
		return false
	}
	unlock, free, err := lockFile(r.path(name, ".lock"), false)
	if err != nil {
		return false
	}
	if free {
		unlock()
	}
	return !free
}
