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

	"inbox/internal/filelock"
)

// The schedule of orders.
const (
	// An authority that was not reached is asked again soon.
	unavailableBackoffMin, unavailableBackoffMax = 5 * time.Second, 5 * time.Minute
	// An order that failed will mostly fail again until a person does something.
	failureBackoffMin, failureBackoffMax = 15 * time.Minute, 6 * time.Hour
	// An order that was broken off by our own end is taken up soon.
	interruptedRetryDelay = time.Minute
	// forcedRetryDelay is how soon after an order that failed a person can have
	// another.
	forcedRetryDelay = time.Minute
	// Let's Encrypt allows five failed validations per name and hour.
	maxFailedValidations   = 4
	failedValidationWindow = time.Hour
)

// scheduleState is what is remembered of a name across restarts. It is written before
// each order, as if that had failed already, so that a crash cannot undo it.
type scheduleState struct {
	// NextAttempt is the earliest time of the next order, and Tried that of the last one.
	NextAttempt, LastAttempt time.Time
	// RetryAfter is when an authority will hear us again, as it said itself: of
	// several the first. Patience says it of each, by its URL.
	RetryAfter     time.Time
	RetryAfterByCA map[string]time.Time `json:",omitempty"`
	// FailureCount counts orders that failed, and Missed those that were not made,
	// since the last success.
	FailureCount, UnavailableCount int
	// FailedValidations are those of the last hour that failed or may have.
	FailedValidations []time.Time
	// StagingPassed says that an order was successful at the place for trials.
	StagingPassed bool
	// LastIssuer is the authority that gave the last certificate, and Rest until when
	// the name rests after it.
	LastIssuer     string
	RenewNotBefore time.Time
	// NoOpRenewals counts successful orders in a row that left the name due. From the
	// second such order on nobody can end the rest.
	NoOpRenewals int
	// CAs are the authorities that all of this is about, sorted.
	CAs []string
	// LastError is what the last order came to nothing for.
	LastError string
	// Archived holds the schedules of other authorities that were asked, the last one
	// first: nodes that are not configured alike take turns.
	Archived []scheduleState `json:",omitempty"`

	defect scheduleDefect
}

// scheduleDefect is what was mended in a record that was read.
type scheduleDefect int

const (
	defectNone scheduleDefect = iota
	defectDamaged
	defectFuture
)

// maxArchived is how many schedules are remembered besides the one that is in use.
const maxArchived = 3

// validationsAllowedAt is when so many more validations may fail without going through the floor.
func (s *scheduleState) validationsAllowedAt(n int, now time.Time) time.Time {
	s.FailedValidations = slices.DeleteFunc(s.FailedValidations, func(at time.Time) bool { return now.Sub(at) >= failedValidationWindow })
	for i, at := range s.FailedValidations {
		if at.After(now) { // by a clock that was ahead; it may have been just now
			s.FailedValidations[i] = now
		}
	}
	slices.SortFunc(s.FailedValidations, time.Time.Compare)
	excess := len(s.FailedValidations) + n - maxFailedValidations
	if excess <= 0 {
		return now
	}
	return s.FailedValidations[min(excess, len(s.FailedValidations))-1].Add(failedValidationWindow)
}

// remainingRetryAfter is how long an authority is not to be asked yet. None asks for more
// than the most: that was written by a clock that was ahead.
func (s *scheduleState) remainingRetryAfter(ca *caClient, now time.Time) time.Duration {
	if wait := s.RetryAfterByCA[ca.url].Sub(now); wait <= maxRetryAfter {
		return max(wait, 0)
	}
	return 0
}

// honorRetryAfter notes the patience that an authority asked for, and forgets what is over.
func (s *scheduleState) honorRetryAfter(ca *caClient, wait time.Duration, now time.Time) {
	s.RetryAfterByCA = maps.Clone(s.RetryAfterByCA)
	maps.DeleteFunc(s.RetryAfterByCA, func(_ string, at time.Time) bool { return !at.After(now) })
	if wait > 0 {
		if s.RetryAfterByCA == nil {
			s.RetryAfterByCA = map[string]time.Time{}
		}
		s.RetryAfterByCA[ca.url] = now.Add(wait)
	}
}

// beginOrder assumes the worst of an order.
func (s *scheduleState) beginOrder(ct challengeType, now time.Time) {
	s.LastAttempt = now
	s.NextAttempt = now.Add(failureBackoffMin)
	s.countValidations(ct, now)
}

// countValidations assumes that all validations of an order fail.
func (s *scheduleState) countValidations(ct challengeType, now time.Time) {
	for range ct.validations {
		s.FailedValidations = append(s.FailedValidations, now)
	}
}

// refundValidations takes back what did not happen of the worst.
func (s *scheduleState) refundValidations(ct challengeType, failed int) {
	keep := len(s.FailedValidations) - max(ct.validations-failed, 0)
	s.FailedValidations = s.FailedValidations[:max(keep, 0)]
}

// setSucceeded leaves a gap to the next order. An authority that always says
// «renew now» is not to be obeyed for ever, nor is one whose certificates are,
// for whatever reason, not taken up. A name that was due already while it
// rested has gained nothing by the order before this one.
func (s *scheduleState) setSucceeded(now time.Time, lifetime time.Duration, issuer string, due time.Time) {
	noOpRenewals := 0
	if due.Before(s.RenewNotBefore) {
		noOpRenewals = s.NoOpRenewals + 1
	}
	renewNotBefore := now.Add(minRenewalInterval(noOpRenewals, lifetime))
	*s = scheduleState{LastAttempt: now, NextAttempt: renewNotBefore, RenewNotBefore: renewNotBefore, NoOpRenewals: noOpRenewals, LastIssuer: issuer,
		FailedValidations: s.FailedValidations, RetryAfterByCA: s.RetryAfterByCA, StagingPassed: s.StagingPassed, CAs: s.CAs, Archived: s.Archived}
}

// minRenewalInterval is how long a name rests after an order that was successful: an hour, and
// six times as long each time that the last one was for nothing. Let's Encrypt
// gives five equal certificates a week; this way four are ordered in the first
// one, and then one in many days. Shorter lives have shorter rests, but what
// ends before it begins is nonsense, and no reason to order without a pause.
func minRenewalInterval(noOpRenewals int, lifetime time.Duration) time.Duration {
	if lifetime <= 0 {
		lifetime = assumedLifetime
	}
	interval, maxInterval := max(min(lifetime/10, time.Hour), time.Second), max(lifetime/2, time.Second)
	for ; noOpRenewals > 0 && interval < maxInterval; noOpRenewals-- {
		interval *= 6
	}
	return min(interval, maxInterval)
}

// setFailed sets when to try again. An authority that cannot be reached is asked
// again within a quarter of the urgency, which is what the certificate in use has
// left, or had to live once it has ended; zero for none.
func (s *scheduleState) setFailed(err error, horizon time.Duration, now time.Time) {
	e := asOrderError(err)
	s.LastError = err.Error()
	s.RetryAfter = now.Add(e.retryAfter)
	if e.outcome == caUnavailable {
		s.UnavailableCount++
		wait := exponentialBackoff(unavailableBackoffMin, unavailableBackoffMax, s.UnavailableCount)
		if horizon > 0 {
			wait = min(wait, max(horizon/4, unavailableBackoffMin))
		}
		s.NextAttempt = now.Add(wait)
	} else {
		s.FailureCount++
		s.NextAttempt = now.Add(exponentialBackoff(failureBackoffMin, failureBackoffMax, s.FailureCount))
	}
	if s.RetryAfter.After(s.NextAttempt) {
		s.NextAttempt = s.RetryAfter
	}
}

// forceRenew brings the next order forward because a person asked for it.
func (s *scheduleState) forceRenew(now time.Time) {
	at := later(now, s.RetryAfter)
	if s.NoOpRenewals > 0 {
		at = later(at, s.RenewNotBefore)
	}
	if s.FailureCount > 0 {
		at = later(at, s.LastAttempt.Add(forcedRetryDelay))
	}
	if at.Before(s.NextAttempt) {
		s.NextAttempt = at
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// clampFutureTimes mends what a clock wrote that was ahead by more than two machines
// differ, and tells whether it did: what the record holds is taken for just
// happened, so that waits neither grow nor end by it.
func (s *scheduleState) clampFutureTimes(now time.Time) bool {
	ahead := s.LastAttempt.Sub(now)
	if ahead <= failedValidationWindow {
		return false
	}
	for _, at := range []*time.Time{&s.LastAttempt, &s.NextAttempt, &s.RetryAfter, &s.RenewNotBefore} {
		if !at.IsZero() {
			*at = at.Add(-ahead)
		}
	}
	for i := range s.FailedValidations {
		s.FailedValidations[i] = s.FailedValidations[i].Add(-ahead)
	}
	for ca := range s.RetryAfterByCA {
		s.RetryAfterByCA[ca] = s.RetryAfterByCA[ca].Add(-ahead)
	}
	for i := range s.Archived {
		s.Archived[i].clampFutureTimes(now)
	}
	return true
}

// switchCAs takes up the schedule of the authorities that are asked when they are
// others than before: the one that was in use the last time, else a new one. What
// protects the name stays: the validations, and the rest after a certificate of
// an authority that is still asked.
func (s *scheduleState) switchCAs(cas []string) {
	if s.CAs == nil || slices.Equal(s.CAs, cas) {
		s.CAs = cas
		return
	}
	fresh := scheduleState{LastAttempt: s.LastAttempt}
	previous, archived := *s, s.Archived
	if i := slices.IndexFunc(archived, func(archivedState scheduleState) bool { return slices.Equal(archivedState.CAs, cas) }); i >= 0 {
		fresh = archived[i]
		archived = slices.Delete(slices.Clone(archived), i, i+1)
	}
	if slices.Contains(cas, s.LastIssuer) {
		fresh.LastIssuer, fresh.RenewNotBefore, fresh.NextAttempt, fresh.NoOpRenewals = s.LastIssuer, s.RenewNotBefore, later(fresh.NextAttempt, s.RenewNotBefore), s.NoOpRenewals
	}
	previous.Archived, previous.FailedValidations, previous.RetryAfterByCA = nil, nil, nil
	archived = slices.Insert(slices.Clone(archived), 0, previous)
	fresh.CAs, fresh.FailedValidations, fresh.Archived = cas, s.FailedValidations, archived[:min(len(archived), maxArchived)]
	fresh.RetryAfterByCA = s.RetryAfterByCA
	*s = fresh
}

// exponentialBackoff is the nth wait: the first, twice that, and so on up to the most.
func exponentialBackoff(initial, limit time.Duration, n int) time.Duration {
	wait := initial
	for ; n > 1 && wait < limit; n-- {
		wait *= 2
	}
	return min(wait, limit)
}

// scheduleStore are what is remembered of all names. What concerns orders is written
// by the holder of the name's lock alone.
type scheduleStore struct {
	storage
	cas []string // the URLs of the authorities, sorted
	log *slog.Logger
}

func newScheduleStore(store storage, s *settings) scheduleStore {
	r := scheduleStore{storage: store, log: s.Logger}
	for _, ca := range s.cas {
		r.cas = append(r.cas, ca.url)
	}
	slices.Sort(r.cas)
	return r
}

func (r scheduleStore) key(name, suffix string) string {
	return scheduleDir + "/" + certmagic.StorageKeys.Safe(name) + suffix
}

// read returns the record of a name, as it is to be understood now. One that is
// damaged is assumed to tell of an order that failed just now. What is mended so
// is not written: that is for the holder of the lock.
func (r scheduleStore) read(name string, now time.Time) (*scheduleState, error) {
	sched := new(scheduleState)
	switch err := r.readJSON(name, ".json", sched); {
	case errors.Is(err, errDamaged):
		return &scheduleState{LastAttempt: now, NextAttempt: now.Add(failureBackoffMin), CAs: r.cas, LastError: "the record of orders was damaged; a new one is kept", defect: defectDamaged}, nil
	case err != nil:
		return nil, fmt.Errorf("read the record of orders: %w", err)
	}
	sched.switchCAs(r.cas)
	if sched.clampFutureTimes(now) {
		sched.defect = defectFuture
	}
	return sched, nil
}

// readAndRepair is read for the holder of the lock. It writes down what it mends.
func (r scheduleStore) readAndRepair(lockCtx context.Context, name string, now time.Time) (*scheduleState, error) {
	sched, err := r.read(name, now)
	if err != nil || sched.defect == defectNone {
		return sched, err
	}
	if sched.defect == defectDamaged {
		r.quarantine(lockCtx, r.key(name, ".json"))
	} else {
		r.log.Warn("the clock was ahead when the last order was recorded, or is behind now; what is recorded is taken for just happened", "name", name)
	}
	sched.defect = defectNone
	return sched, r.write(lockCtx, name, sched)
}

// repair writes down what is wrong with a record, unless somebody orders just now,
// who will.
func (r scheduleStore) repair(ctx context.Context, name string, now time.Time) error {
	lockCtx, unlock, acquired, err := r.tryLockName(ctx, name)
	if err != nil || !acquired {
		return err
	}
	defer unlock()
	_, err = r.readAndRepair(lockCtx, name, now)
	return err
}

func (r scheduleStore) write(ctx context.Context, name string, sched *scheduleState) error {
	if err := r.writeJSON(ctx, name, ".json", sched); err != nil {
		return fmt.Errorf("write the record of orders: %w", err)
	}
	return nil
}

// readJSON leaves into as it is when there is none.
func (r scheduleStore) readJSON(name, suffix string, into any) error {
	text, err := r.storage.read(r.key(name, suffix))
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

func (r scheduleStore) writeJSON(ctx context.Context, name, suffix string, value any) error {
	text, err := json.MarshalIndent(value, "", "\t")
	if err != nil {
		return err
	}
	return r.storage.write(ctx, r.key(name, suffix), append(text, '\n'))
}

// tryLockName is held while somebody orders for a name.
func (r scheduleStore) tryLockName(ctx context.Context, name string) (lockCtx context.Context, unlock func(), acquired bool, err error) {
	return r.storage.tryLock(ctx, r.key(name, ".lock"))
}

// orderInProgress tells whether anybody orders for a name.
func (r scheduleStore) orderInProgress(name string) bool { return r.isLocked(r.key(name, ".lock")) }

// presenceLock is held, together with others, by each program that answers
// challenges out of the state directory.
const presenceLock = "serving.lock"

// holdPresenceLock holds that lock, if there is a directory.
func (r scheduleStore) holdPresenceLock() (release func()) {
	d, ok := r.storage.(dirStorage)
	if !ok || os.MkdirAll(d.path(scheduleDir), 0o700) != nil {
		return func() {}
	}
	for range 10 { // whoever asks whether it is held holds it for a moment
		if lock, err := filelock.TryShare(d.path(scheduleDir + "/" + presenceLock)); err == nil {
			return func() { lock.Close() }
		}
		time.Sleep(10 * time.Millisecond)
	}
	return func() {}
}
