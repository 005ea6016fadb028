package tlsmgr

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// attempt orders for a name, if no other process does and it is still to be
// done, and returns when to look again.
func (sc *scheduler) attempt(ctx context.Context, w *nameWorker, forced bool) time.Duration {
	lockCtx, unlock, acquired, err := sc.schedules.tryLockName(ctx, w.name)
	if err != nil {
		return sc.fail(w, err)
	}
	if !acquired {
		w.updateState(func(st *workerState) {
			st.status, st.nextAttempt = "another process orders", time.Now().Add(lockRetryDelay)
		})
		return lockRetryDelay
	}
	defer unlock()
	err = sc.orderUnderLock(ctx, lockCtx, w, forced)
	if lockCtx.Err() != nil && ctx.Err() == nil {
		sc.fail(w, fmt.Errorf("the lock was lost while ordering; what another node does is waited for: %w", cmp.Or(err, lockCtx.Err())))
		return lockRetryDelay
	}
	if err != nil {
		return sc.fail(w, err)
	}
	return 0
}

// orderUnderLock is attempt under the lock, which ends with ctx or before. The
// error is why nothing can be ordered or recorded.
func (sc *scheduler) orderUnderLock(ctx, lockCtx context.Context, w *nameWorker, forced bool) error {
	now := time.Now()
	sc.engine.quarantineDamaged(lockCtx, w.name)
	if sc.loadCertificate(ctx, w) {
		return fmt.Errorf("the stored certificate cannot be set aside: %w", errDamaged)
	}
	sched, err := sc.schedules.readAndRepair(lockCtx, w.name, now)
	if err != nil {
		return err
	}
	w.mergeLocal(sched)
	if forced {
		sched.forceRenew(now)
	}
	sched.UnavailableCount = max(sched.UnavailableCount, w.localBackoff.unavailableCount)
	due := sc.updateRenewAt(w)
	if due.After(now) || sched.NextAttempt.After(now) {
		return nil // another process has done it
	}
	w.updateState(func(st *workerState) { st.status, st.nextAttempt = "ordering", time.Time{} })
	lastAttempt := sched.LastAttempt
	ca, err := sc.orderFromCAs(lockCtx, w, sched)
	switch {
	case lockCtx.Err() != nil && ctx.Err() == nil:
		return err // what is recorded now is another's
	case ctx.Err() != nil && sched.LastAttempt.Equal(lastAttempt):
		return nil // our own end came before any order began, and must keep nobody from one
	}
	return sc.saveResult(lockCtx, w, sched, ca, due, err)
}

// saveResult writes down what came of an order, while the lock is held, or ends
// because all does. The error is why it could not.
func (sc *scheduler) saveResult(ctx context.Context, w *nameWorker, sched *scheduleState, ca *caClient, due time.Time, err error) error {
	now := time.Now()
	switch {
	case errors.Is(err, errStateNotSaved):
		return err
	case errors.Is(err, errValidationBudget):
		// Next is set; nothing was tried.
	case err == nil:
		if err = sc.handleObtained(ctx, w, sched, ca, due); err != nil {
			sched.LastError = err.Error()
		}
	case ctx.Err() != nil:
		sched.NextAttempt, sched.LastError = now.Add(interruptedRetryDelay), "the order was broken off by our own end"
	default:
		sched.setFailed(err, w.retryHorizon(now), now)
		sc.logFailure(w, sched, err)
		if sc.schedules.shared() && asOrderError(err).otherNodesCanTry() {
			w.localBackoff = localBackoff{sched.UnavailableCount, sched.NextAttempt, sched.LastError}
			sched.UnavailableCount, sched.NextAttempt, sched.LastError = 0, now, ""
		}
	}
	w.updateState(func(st *workerState) {
		st.lastErr, st.nextAttempt, st.failures = err, sched.NextAttempt, sched.FailureCount
	})
	return sc.saveSchedule(context.WithoutCancel(ctx), w, sched)
}

// saveSchedule keeps a record, in memory too.
func (sc *scheduler) saveSchedule(ctx context.Context, w *nameWorker, sched *scheduleState) error {
	w.lastWritten = *sched
	w.lastWritten.FailedValidations = slices.Clone(sched.FailedValidations)
	return sc.schedules.write(ctx, w.name, sched)
}

// mergeLocal puts into a record what this run knows better: a replica of a store,
// a backup that was restored, or a directory or store that was emptied, tells of
// less than was recorded, here or by another node, and must not bring orders
// forward.
func (w *nameWorker) mergeLocal(sched *scheduleState) {
	local := &w.lastWritten
	if !local.LastAttempt.After(sched.LastAttempt) {
		w.lastWritten = *sched
		w.lastWritten.FailedValidations = slices.Clone(sched.FailedValidations)
		return
	}
	if sched.LastAttempt.IsZero() { // nothing is left of it
		sched.FailedValidations = slices.Clone(local.FailedValidations)
	}
	sched.LastAttempt, sched.NextAttempt = local.LastAttempt, later(sched.NextAttempt, local.NextAttempt)
	sched.RetryAfter, sched.RenewNotBefore = later(sched.RetryAfter, local.RetryAfter), later(sched.RenewNotBefore, local.RenewNotBefore)
	sched.RetryAfterByCA = local.RetryAfterByCA
	sched.FailureCount, sched.UnavailableCount, sched.NoOpRenewals = max(sched.FailureCount, local.FailureCount), max(sched.UnavailableCount, local.UnavailableCount), max(sched.NoOpRenewals, local.NoOpRenewals)
	sched.StagingPassed = sched.StagingPassed || local.StagingPassed
	sched.LastIssuer, sched.LastError = cmp.Or(sched.LastIssuer, local.LastIssuer), cmp.Or(sched.LastError, local.LastError)
}

// assumedLifetime is assumed of a certificate that was obtained and cannot be found.
const assumedLifetime = 90 * 24 * time.Hour

// handleObtained takes up what the order brought from an authority. Due is since when
// that was wanted. The error is why it is of no use, if it is of none; it counts
// as an order that was successful all the same.
func (sc *scheduler) handleObtained(ctx context.Context, w *nameWorker, sched *scheduleState, ca *caClient, due time.Time) error {
	event := "certificate obtained"
	if w.getState().stored != nil {
		event = "certificate renewed"
	}
	w.lastIssuer = ca.url
	sc.loadCertificate(ctx, w)
	lifetime := assumedLifetime
	attrs := []any{"name", w.name}
	if s := w.getState().stored; s != nil {
		lifetime = s.Leaf.NotAfter.Sub(s.Leaf.NotBefore)
		attrs = append(attrs, "ca", s.ca.url, "notAfter", s.Leaf.NotAfter)
	}
	sched.setSucceeded(time.Now(), lifetime, ca.url, due)
	w.updateState(func(st *workerState) { st.obtained++ })
	sc.log.Info(event, attrs...)
	if sched.NoOpRenewals > 0 {
		sc.log.Warn("orders are successful, but the name is due again at once; it rests, so that the authority does not lock it out: "+
			"make sure that the clock is right", "name", w.name, "orders", sched.NoOpRenewals+1, "next", sched.RenewNotBefore)
	}
	err := sc.validateIssued(ctx, w, ca)
	if err != nil {
		sc.log.Error("the authority gave a certificate that is of no use", "name", w.name, "ca", ca.url, "err", err, "next", sched.RenewNotBefore)
	}
	return err
}

// validateIssued is why no client accepts what an authority gave; nil when one may.
func (sc *scheduler) validateIssued(ctx context.Context, w *nameWorker, ca *caClient) error {
	all, err := sc.engine.load(ctx, w.name)
	if errors.Is(err, errDamaged) {
		return err
	}
	for _, s := range all {
		if s.ca != ca {
			continue
		}
		if !covers(s.Leaf, w.name) {
			return fmt.Errorf("it is for other names: %s", sanitizeText(strings.Join(namesOf(s.Leaf), ", ")))
		}
		return checkValidity(s.Leaf, time.Now())
	}
	return nil
}

// remaining is how long the certificate in use still serves; zero without one.
func (w *nameWorker) remaining(now time.Time) time.Duration {
	s := w.getState().stored
	if s == nil {
		return 0
	}
	return max(s.Leaf.NotAfter.Sub(now), 0)
}

// retryHorizon is what is left of the certificate in use, or its life once it has
// ended; zero without one.
func (w *nameWorker) retryHorizon(now time.Time) time.Duration {
	s := w.getState().stored
	if remaining := w.remaining(now); remaining > 0 || s == nil {
		return remaining
	}
	return s.Leaf.NotAfter.Sub(s.Leaf.NotBefore)
}

// logFailure says what went wrong, in the authority's words, and what to do.
func (sc *scheduler) logFailure(w *nameWorker, sched *scheduleState, err error) {
	e := asOrderError(err)
	s := w.getState().stored
	remaining := w.remaining(time.Now()).Round(time.Second)
	attrs := []any{"name", w.name, "err", err, "fix", fixFor(e.outcome), "next", sched.NextAttempt}
	switch {
	case s == nil:
		sc.log.Warn("no certificate yet", attrs...)
	case remaining == 0:
		sc.log.Error("the certificate has ended and could not be renewed", attrs...)
	default:
		sc.log.Warn("the certificate could not be renewed; the old one serves on", append(attrs, "left", remaining)...)
	}
	w.overdueLoggedAt = time.Now()
}

// logOverdue speaks again, each day or thirtieth part of the life, of a certificate
// that should be another by now: whatever keeps it so was perhaps told a month ago.
func (sc *scheduler) logOverdue(w *nameWorker, now time.Time) {
	st := w.getState()
	if st.stored == nil || st.lastErr == nil || now.Before(renewAt(st.stored.Leaf)) {
		return
	}
	leaf := st.stored.Leaf
	if now.Sub(w.overdueLoggedAt) < min(leaf.NotAfter.Sub(leaf.NotBefore)/30, 24*time.Hour) {
		return
	}
	w.overdueLoggedAt = now
	if remaining := leaf.NotAfter.Sub(now).Round(time.Second); remaining > 0 {
		sc.log.Warn("the certificate is not renewed yet; the old one serves on", "name", w.name, "left", remaining, "err", st.lastErr)
		return
	}
	sc.log.Error("the certificate has ended and is not renewed", "name", w.name, "err", st.lastErr)
}

func fixFor(o outcome) string {
	switch o {
	case validationFailed:
		return "make sure that the name's address is this server's, and that port 80 or 443 can be reached from outside"
	case caRejected:
		return "read what the authority says; a CAA record, the account or a rate limit may be in the way"
	}
	return "none needed if it passes; else make sure that this server can reach the authority, and that its clock is right"
}

var (
	errStateNotSaved    = errors.New("the order cannot be recorded, so it is not made")
	errValidationBudget = errors.New("too many validations have failed in the last hour; waiting, so that the authority does not lock the name out")
)

// orderFromCAs asks one authority after the other, and returns the one that gave a
// certificate.
func (sc *scheduler) orderFromCAs(ctx context.Context, w *nameWorker, sched *scheduleState) (*caClient, error) {
	if err := sc.checkStorageSpace(ctx); err != nil {
		return nil, fmt.Errorf("%w: %w", errStateNotSaved, err)
	}
	if err := sc.stagingOrder(ctx, w, sched); err != nil {
		return nil, err
	}
	var worstErr error
	for _, ca := range sc.settings.cas {
		err := sc.orderUnlessThrottled(ctx, w, sched, ca)
		if err == nil || sc.isTerminal(ctx, err) {
			return ca, err
		}
		if len(sc.settings.cas) > 1 {
			sc.log.Warn("an authority gave no certificate", "name", w.name, "ca", ca.url, "err", err)
		}
		if worstErr == nil {
			worstErr = err
			continue
		}
		// Each is left in peace for as long as it said; the next try is for the first.
		worstErr = withRetryAfter(moreSevere(worstErr, err), min(asOrderError(worstErr).retryAfter, asOrderError(err).retryAfter))
	}
	return nil, worstErr
}

// isTerminal errors leave nothing to try now.
func (sc *scheduler) isTerminal(ctx context.Context, err error) bool {
	return errors.Is(err, errStateNotSaved) || errors.Is(err, errValidationBudget) || ctx.Err() != nil
}

// moreSevere is the one of two errors after which an order is tried again later.
func moreSevere(a, b error) error {
	if asOrderError(b).outcome > asOrderError(a).outcome {
		return b
	}
	return a
}

// withRetryAfter is the error as of an authority that asked for so long a wait.
func withRetryAfter(err error, retryAfter time.Duration) error {
	return &orderError{asOrderError(err).outcome, retryAfter, err}
}

// orderUnlessThrottled orders at an authority, unless it asked for patience that is not over.
func (sc *scheduler) orderUnlessThrottled(ctx context.Context, w *nameWorker, sched *scheduleState, ca *caClient) error {
	now := time.Now()
	if wait := sched.remainingRetryAfter(ca, now); wait > 0 {
		return &orderError{retryAfter: wait, err: fmt.Errorf("%s does not want to be asked before %s", ca.url, now.Add(wait).Format(time.DateTime))}
	}
	err := sc.orderAtCA(ctx, w, sched, ca)
	sched.honorRetryAfter(ca, asOrderError(err).retryAfter, time.Now())
	return err
}

// stagingOrder makes a first order where a failure costs nothing. When that place
// cannot be reached, the real order is made all the same.
func (sc *scheduler) stagingOrder(ctx context.Context, w *nameWorker, sched *scheduleState) error {
	if !sc.settings.ACME.StagingFirst || sc.settings.stagingCA == nil || sched.StagingPassed || w.getState().stored != nil {
		return nil
	}
	err := sc.orderUnlessThrottled(ctx, w, sched, sc.settings.stagingCA)
	switch {
	case err == nil:
		sched.StagingPassed = true
		sc.log.Info("the trial order was successful", "name", w.name, "ca", sc.settings.stagingCA.url)
	case sc.isTerminal(ctx, err):
		return err
	case asOrderError(err).outcome != caUnavailable:
		return fmt.Errorf("the trial order failed, so the real one is not made: %w", err)
	default:
		sc.log.Warn("the trial order could not be made, so the real one is made without", "name", w.name, "err", err)
	}
	return nil
}

// orderAtCA tries one way after the other. Only a validation that failed makes
// another way worth trying.
func (sc *scheduler) orderAtCA(ctx context.Context, w *nameWorker, sched *scheduleState, ca *caClient) (err error) {
	for _, ct := range sc.engine.challengeTypes() {
		prevErr := err
		err = sc.orderWith(ctx, w, sched, order{name: w.name, ca: ca, challengeType: ct})
		if errors.Is(err, errValidationBudget) && prevErr != nil {
			return prevErr // what failed above the floor counts
		}
		if err == nil || ctx.Err() != nil || errors.Is(err, errStateNotSaved) {
			return err
		}
		last := asOrderError(err)
		if prevErr != nil { // a way that could not be tried does not make good the one that failed
			err = withRetryAfter(moreSevere(err, prevErr), max(last.retryAfter, asOrderError(prevErr).retryAfter))
		}
		if last.outcome != validationFailed {
			return err
		}
	}
	return err
}

// orderWith tries one way. It is recorded before, but after the question whether
// the authority is there: a node that dies over that has ordered nothing, and
// must keep neither itself nor others from it.
func (sc *scheduler) orderWith(ctx context.Context, w *nameWorker, sched *scheduleState, o order) (err error) {
	now := time.Now()
	// Of the two, that of this run goes by a clock that nobody sets forward.
	wait := max(sched.validationsAllowedAt(o.challengeType.validations, now).Sub(now), w.localFailures.validationsAllowedAt(o.challengeType.validations, now).Sub(now))
	if wait > 0 {
		sched.NextAttempt, sched.LastError = now.Add(wait), errValidationBudget.Error()
		return errValidationBudget
	}
	if o.directory, err = sc.engine.probeDirectory(ctx, o.ca); err != nil {
		return err
	}
	now = time.Now()
	w.localFailures.countValidations(o.challengeType, now)
	sched.beginOrder(o.challengeType, now)
	if err := sc.saveSchedule(ctx, w, sched); err != nil {
		return fmt.Errorf("%w: %w", errStateNotSaved, err)
	}
	sc.log.Debug("ordering", "name", w.name, "ca", o.ca.url, "over", o.challengeType.name)
	failed, err := sc.engine.order(ctx, o)
	if err == nil || ctx.Err() == nil { // else how it went is unknown: the worst stays recorded
		sched.refundValidations(o.challengeType, failed)
		w.localFailures.refundValidations(o.challengeType, failed)
	}
	return err
}

// checkStorageSpace makes sure that the disk takes what an order brings.
func (sc *scheduler) checkStorageSpace(ctx context.Context) error {
	const probe = "room"
	if err := sc.buffered.Storage.Store(ctx, probe, make([]byte, 32<<10)); err != nil {
		return err
	}
	return sc.buffered.Storage.Delete(ctx, probe)
}
