package tlsmgr

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
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
	// NotBefore is when an authority will hear us again, as it said itself: of
	// several the first. Patience says it of each, by its URL.
	NotBefore time.Time
	Patience  map[string]time.Time `json:",omitempty"`
	// Failed counts orders that failed, and Missed those that were not made,
	// since the last success.
	Failed, Missed int
	// Validations are those of the last hour that failed or may have.
	Validations []time.Time
	// TrialPassed says that an order was successful at the place for trials.
	TrialPassed bool
	// From is the authority that gave the last certificate, and Rest until when
	// the name rests after it.
	From string
	Rest time.Time
	// Idle counts successful orders in a row that left the name due. From the
	// second such order on nobody can end the rest.
	Idle int
	// Asked are the authorities that all of this is about, sorted.
	Asked []string
	// Problem is what the last order came to nothing for.
	Problem string
	// Shelf holds the schedules of other authorities that were asked, the last one
	// first: nodes that are not configured alike take turns.
	Shelf []record `json:",omitempty"`

	wrong wrong
}

// wrong is what was mended in a record that was read.
type wrong int

const (
	recordWell wrong = iota
	recordDamaged
	recordAhead
)

// maxShelf is how many schedules are remembered besides the one that is in use.
const maxShelf = 3

// room is when so many more validations may fail without going through the floor.
func (r *record) room(n int, now time.Time) time.Time {
	r.Validations = slices.DeleteFunc(r.Validations, func(at time.Time) bool { return now.Sub(at) >= floorTime })
	for i, at := range r.Validations {
		if at.After(now) { // by a clock that was ahead; it may have been just now
			r.Validations[i] = now
		}
	}
	slices.SortFunc(r.Validations, time.Time.Compare)
	over := len(r.Validations) + n - floorValidations
	if over <= 0 {
		return now
	}
	return r.Validations[min(over, len(r.Validations))-1].Add(floorTime)
}

// patience is how long an authority is not to be asked yet. None asks for more
// than the most: that was written by a clock that was ahead.
func (r *record) patience(ca *authority, now time.Time) time.Duration {
	if wait := r.Patience[ca.url].Sub(now); wait <= maxRetryAfter {
		return max(wait, 0)
	}
	return 0
}

// heed notes the patience that an authority asked for, and forgets what is over.
func (r *record) heed(ca *authority, wait time.Duration, now time.Time) {
	r.Patience = maps.Clone(r.Patience)
	maps.DeleteFunc(r.Patience, func(_ string, at time.Time) bool { return !at.After(now) })
	if wait > 0 {
		if r.Patience == nil {
			r.Patience = map[string]time.Time{}
		}
		r.Patience[ca.url] = now.Add(wait)
	}
}

// begin assumes the worst of an order.
func (r *record) begin(w way, now time.Time) {
	r.Tried = now
	r.Next = now.Add(failFirst)
	r.count(w, now)
}

// count assumes that all validations of an order fail.
func (r *record) count(w way, now time.Time) {
	for range w.validations {
		r.Validations = append(r.Validations, now)
	}
}

// settle takes back what did not happen of the worst.
func (r *record) settle(w way, failed int) {
	keep := len(r.Validations) - max(w.validations-failed, 0)
	r.Validations = r.Validations[:max(keep, 0)]
}

// succeeded leaves a gap to the next order. An authority that always says
// «renew now» is not to be obeyed for ever, nor is one whose certificates are,
// for whatever reason, not taken up. A name that was due already while it
// rested has gained nothing by the order before this one.
func (r *record) succeeded(now time.Time, life time.Duration, from string, due time.Time) {
	idle := 0
	if due.Before(r.Rest) {
		idle = r.Idle + 1
	}
	rest := now.Add(gap(idle, life))
	*r = record{Tried: now, Next: rest, Rest: rest, Idle: idle, From: from,
		Validations: r.Validations, Patience: r.Patience, TrialPassed: r.TrialPassed, Asked: r.Asked, Shelf: r.Shelf}
}

// gap is how long a name rests after an order that was successful: an hour, and
// six times as long each time that the last one was for nothing. Let's Encrypt
// gives five equal certificates a week; this way four are ordered in the first
// one, and then one in many days. Shorter lives have shorter rests, but what
// ends before it begins is nonsense, and no reason to order without a pause.
func gap(idle int, life time.Duration) time.Duration {
	if life <= 0 {
		life = unknownLife
	}
	rest, most := max(min(life/10, time.Hour), time.Second), max(life/2, time.Second)
	for ; idle > 0 && rest < most; idle-- {
		rest *= 6
	}
	return min(rest, most)
}

// failed sets when to try again. An authority that cannot be reached is asked
// again within a quarter of the urgency, which is what the certificate in use has
// left, or had to live once it has ended; zero for none.
func (r *record) failed(err error, urgency time.Duration, now time.Time) {
	e := asOrderError(err)
	r.Problem = err.Error()
	r.NotBefore = now.Add(e.retryAfter)
	if e.outcome == notMade {
		r.Missed++
		wait := doubling(retryFirst, retryMost, r.Missed)
		if urgency > 0 {
			wait = min(wait, max(urgency/4, retryFirst))
		}
		r.Next = now.Add(wait)
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
	at := later(now, r.NotBefore)
	if r.Idle > 0 {
		at = later(at, r.Rest)
	}
	if r.Failed > 0 {
		at = later(at, r.Tried.Add(urgedAgain))
	}
	if at.Before(r.Next) {
		r.Next = at
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// backToNow mends what a clock wrote that was ahead by more than two machines
// differ, and tells whether it did: what the record holds is taken for just
// happened, so that waits neither grow nor end by it.
func (r *record) backToNow(now time.Time) bool {
	ahead := r.Tried.Sub(now)
	if ahead <= floorTime {
		return false
	}
	for _, at := range []*time.Time{&r.Tried, &r.Next, &r.NotBefore, &r.Rest} {
		if !at.IsZero() {
			*at = at.Add(-ahead)
		}
	}
	for i := range r.Validations {
		r.Validations[i] = r.Validations[i].Add(-ahead)
	}
	for ca := range r.Patience {
		r.Patience[ca] = r.Patience[ca].Add(-ahead)
	}
	for i := range r.Shelf {
		r.Shelf[i].backToNow(now)
	}
	return true
}

// suit takes up the schedule of the authorities that are asked when they are
// others than before: the one that was in use the last time, else a new one. What
// protects the name stays: the validations, and the rest after a certificate of
// an authority that is still asked.
func (r *record) suit(asked []string) {
	if r.Asked == nil || slices.Equal(r.Asked, asked) {
		r.Asked = asked
		return
	}
	fresh := record{Tried: r.Tried}
	left, shelf := *r, r.Shelf
	if i := slices.IndexFunc(shelf, func(s record) bool { return slices.Equal(s.Asked, asked) }); i >= 0 {
		fresh = shelf[i]
		shelf = slices.Delete(slices.Clone(shelf), i, i+1)
	}
	if slices.Contains(asked, r.From) {
		fresh.From, fresh.Rest, fresh.Next, fresh.Idle = r.From, r.Rest, later(fresh.Next, r.Rest), r.Idle
	}
	left.Shelf, left.Validations, left.Patience = nil, nil, nil
	shelf = slices.Insert(slices.Clone(shelf), 0, left)
	fresh.Asked, fresh.Validations, fresh.Shelf = asked, r.Validations, shelf[:min(len(shelf), maxShelf)]
	fresh.Patience = r.Patience
	*r = fresh
}

// doubling is the nth wait: the first, twice that, and so on up to the most.
func doubling(first, most time.Duration, n int) time.Duration {
	wait := first
	for ; n > 1 && wait < most; n-- {
		wait *= 2
	}
	return min(wait, most)
}

// records are what is remembered of all names. What concerns orders is written
// by the holder of the name's lock alone.
type records struct {
	place
	asked []string // the URLs of the authorities, sorted
	log   *slog.Logger
}

func newRecords(p place, s *settings) records {
	r := records{place: p, log: s.Logger}
	for _, ca := range s.cas {
		r.asked = append(r.asked, ca.url)
	}
	slices.Sort(r.asked)
	return r
}

func (r records) key(name, ending string) string {
	return scheduleDir + "/" + certmagic.StorageKeys.Safe(name) + ending
}

// read returns the record of a name, as it is to be understood now. One that is
// damaged is assumed to tell of an order that failed just now. What is mended so
// is not written: that is for the holder of the lock.
func (r records) read(name string, now time.Time) (*record, error) {
	rec := new(record)
	switch err := r.readFile(name, ".json", rec); {
	case errors.Is(err, errDamaged):
		return &record{Tried: now, Next: now.Add(failFirst), Asked: r.asked, Problem: "the record of orders was damaged; a new one is kept", wrong: recordDamaged}, nil
	case err != nil:
		return nil, fmt.Errorf("read the record of orders: %w", err)
	}
	rec.suit(r.asked)
	if rec.backToNow(now) {
		rec.wrong = recordAhead
	}
	return rec, nil
}

// readLocked is read for the holder of the lock. It writes down what it mends.
func (r records) readLocked(held context.Context, name string, now time.Time) (*record, error) {
	rec, err := r.read(name, now)
	if err != nil || rec.wrong == recordWell {
		return rec, err
	}
	if rec.wrong == recordDamaged {
		r.aside(held, r.key(name, ".json"))
	} else {
		r.log.Warn("the clock was ahead when the last order was recorded, or is behind now; what is recorded is taken for just happened", "name", name)
	}
	rec.wrong = recordWell
	return rec, r.write(held, name, rec)
}

// mend writes down what is wrong with a record, unless somebody orders just now,
// who will.
func (r records) mend(ctx context.Context, name string, now time.Time) error {
	held, free, taken, err := r.lock(ctx, name)
	if err != nil || !taken {
		return err
	}
	defer free()
	_, err = r.readLocked(held, name, now)
	return err
}

func (r records) write(ctx context.Context, name string, rec *record) error {
	if err := r.writeFile(ctx, name, ".json", rec); err != nil {
		return fmt.Errorf("write the record of orders: %w", err)
	}
	return nil
}

// readFile leaves into as it is when there is none.
func (r records) readFile(name, ending string, into any) error {
	text, err := r.place.read(r.key(name, ending))
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

func (r records) writeFile(ctx context.Context, name, ending string, value any) error {
	text, err := json.MarshalIndent(value, "", "\t")
	if err != nil {
		return err
	}
	return r.place.write(ctx, r.key(name, ending), append(text, '\n'))
}

// lock is held while somebody orders for a name.
func (r records) lock(ctx context.Context, name string) (held context.Context, free func(), taken bool, err error) {
	return r.place.lock(ctx, r.key(name, ".lock"))
}

// ordering tells whether anybody orders for a name.
func (r records) ordering(name string) bool { return r.locked(r.key(name, ".lock")) }

// servedLock is held, together with others, by each program that answers
// challenges out of the state directory.
const servedLock = "serving.lock"

// attend holds that lock, if there is a directory.
func (r records) attend() (leave func()) {
	d, ok := r.place.(disk)
	if !ok || os.MkdirAll(d.path(scheduleDir), 0o700) != nil {
		return func() {}
	}
	for range 10 { // whoever asks whether it is held holds it for a moment
		if leave, free, err := lockFile(d.path(scheduleDir+"/"+servedLock), false); err == nil && free {
			return leave
		}
		time.Sleep(10 * time.Millisecond)
	}
	return func() {}
}
