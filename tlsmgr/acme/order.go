package acme

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"inbox/tlsmgr/acme/schedule"
	"inbox/tlsmgr/storage"
)

var (
	errStateNotSaved    = errors.New("the schedule cannot be stored, so nothing is ordered")
	errValidationBudget = errors.New("too many validations have failed in the last hour; " +
		"waiting, so that the CA does not block the name")
)

// orderRun is one run of orders for a name, under its lock, at one CA after the
// other and with one challenge type after the other.
type orderRun struct {
	*Settings
	engine Engine
	probe  func(context.Context, *CAClient) (*Directory, error)
	name   string
	state  *schedule.State
	save   func(context.Context) error // stores the state
	// dryRun: only the validations are recorded, and the order cannot be resumed.
	dryRun bool
	// lockedStorage and lockedChallenges are those of [Order].
	lockedStorage, lockedChallenges storage.Storage
	resume                          schedule.Action
	horizon                         time.Duration // of the certificate in use, see [schedule.Failure]
}

// order asks one CA after the other, and returns the one that issued.
func (r *orderRun) order(ctx context.Context, hasCertificate bool) (*CAClient, error) {
	if err := r.orderStaging(ctx, hasCertificate); err != nil {
		return nil, err
	}
	var worst error
	for _, ca := range r.CAs {
		if r.isPendingElsewhere(ca) {
			continue
		}
		err := r.orderUnlessThrottled(ctx, ca)
		if err == nil || isTerminal(ctx, err) {
			return ca, err
		}
		if r.state.Pending() {
			if !r.state.Overdue(time.Now(), r.horizon, len(r.CAs) > 1) {
				return ca, err // the certificate can come at any time
			}
			r.state.OrderGone()
			r.resume = schedule.Action{}
			err = &OrderError{Outcome: schedule.CARejected, Err: fmt.Errorf("the order is given up: %w", err)}
		}
		if len(r.CAs) > 1 {
			r.Log.Warn("a CA issued no certificate", "name", r.name, "ca", ca.URL, "err", err)
		}
		if worst == nil {
			worst = err
			continue
		}
		// Each CA gets the wait that it asked for; the next attempt begins with the first CA.
		worst = withRetryAfter(moreSevere(worst, err), min(asOrderError(worst).RetryAfter, asOrderError(err).RetryAfter))
	}
	return nil, worst
}

// isPendingElsewhere reports whether a finalized order is to be looked at at
// another CA first.
func (r *orderRun) isPendingElsewhere(ca *CAClient) bool {
	return r.resume.ResumeCA != ca.URL && slices.ContainsFunc(r.CAs, func(c *CAClient) bool { return c.URL == r.resume.ResumeCA })
}

// isTerminal errors leave nothing to try now.
func isTerminal(ctx context.Context, err error) bool {
	return errors.Is(err, errStateNotSaved) || errors.Is(err, errValidationBudget) || ctx.Err() != nil
}

// moreSevere returns the one of two errors with the longer wait.
func moreSevere(a, b error) error {
	if asOrderError(b).Outcome > asOrderError(a).Outcome {
		return b
	}
	return a
}

func withRetryAfter(err error, retryAfter time.Duration) error {
	return &OrderError{Outcome: asOrderError(err).Outcome, RetryAfter: retryAfter, Fix: asOrderError(err).Fix, Err: err}
}

// orderStaging makes the first order for a name where a failure costs nothing. If
// that CA cannot be reached, the real order is made without.
func (r *orderRun) orderStaging(ctx context.Context, hasCertificate bool) error {
	if !r.StagingFirst || r.StagingCA == nil || r.state.StagingPassed || hasCertificate || r.resume.ResumeURL != "" {
		return nil
	}
	err := r.orderUnlessThrottled(ctx, r.StagingCA)
	switch {
	case err == nil:
		r.state.StagingPassed = true
		r.Log.Info("staging order succeeded", "name", r.name, "ca", r.StagingCA.URL)
	case isTerminal(ctx, err):
		return err
	case asOrderError(err).Outcome != schedule.CAUnavailable:
		return fmt.Errorf("the staging order failed, so the real one is not made: %w", err)
	default:
		r.Log.Warn("staging CA unavailable; ordering without a staging order", "name", r.name, "err", err)
	}
	return nil
}

// orderUnlessThrottled orders at a CA, unless it asked to wait.
func (r *orderRun) orderUnlessThrottled(ctx context.Context, ca *CAClient) error {
	now := time.Now()
	if wait := r.state.RemainingRetryAfter(ca.URL, now); wait > 0 {
		until := now.Add(wait).Format(time.DateTime)
		return &OrderError{RetryAfter: wait, Err: fmt.Errorf("%s asked to wait until %s", ca.URL, until)}
	}
	err := r.orderAt(ctx, ca)
	r.state.SetRetryAfter(time.Now(), ca.URL, asOrderError(err).RetryAfter)
	return err
}

// orderAt looks at a finalized order if there is one, else it makes a new one.
func (r *orderRun) orderAt(ctx context.Context, ca *CAClient) error {
	if r.resume.ResumeURL == "" || r.resume.ResumeCA != ca.URL {
		return r.orderAnew(ctx, ca)
	}
	o := Order{Name: r.name, CA: ca, ResumeURL: r.resume.ResumeURL}
	r.resume = schedule.Action{}
	err := r.orderWith(ctx, o)
	if !errors.Is(err, ErrOrderGone) {
		return err
	}
	r.state.OrderGone()
	r.Log.Warn("a finalized order cannot be continued; making a new one", "name", r.name, "ca", ca.URL, "order", o.ResumeURL, "err", err)
	return r.orderAnew(ctx, ca)
}

// orderAnew tries one challenge type after the other. Only a failed validation
// makes another type worth trying.
func (r *orderRun) orderAnew(ctx context.Context, ca *CAClient) (err error) {
	for _, ct := range r.engine.ChallengeTypes() {
		before := err
		err = r.orderWith(ctx, Order{Name: r.name, CA: ca, ChallengeType: ct, OmitReplaces: r.state.Failures > 0})
		if errors.Is(err, errValidationBudget) && before != nil {
			return before // the failure within the budget is the cause
		}
		if err == nil || isTerminal(ctx, err) {
			return err
		}
		last := asOrderError(err)
		if before != nil { // a type that could not be tried does not cancel the failure of another
			err = withRetryAfter(moreSevere(err, before), max(last.RetryAfter, asOrderError(before).RetryAfter))
		}
		if last.Outcome != schedule.ValidationFailed {
			return err
		}
	}
	return err
}

// orderWith tries one challenge type. The order is stored before it begins, but
// after the CA was found to answer: a node that dies over that has ordered
// nothing, and must keep no other from ordering.
func (r *orderRun) orderWith(ctx context.Context, o Order) (err error) {
	now, resumed := time.Now(), o.ResumeURL != ""
	if at := r.state.ValidationsAllowedAt(o.ChallengeType.Validations, now); at.After(now) && !resumed {
		r.state.BudgetExhausted(at, errValidationBudget.Error())
		return fmt.Errorf("%w; retry after %s", errValidationBudget, at.Format(time.DateTime))
	}
	if o.Directory, err = r.probe(ctx, o.CA); err != nil {
		return err
	}
	switch now := time.Now(); {
	case resumed:
		r.state.Resume(now)
	case r.dryRun:
		r.state.CountValidations(now, o.ChallengeType.Validations)
	default:
		r.state.Begin(now, o.CA.URL, o.ChallengeType.Validations)
	}
	if err := r.save(ctx); err != nil {
		return fmt.Errorf("%w: %w", errStateNotSaved, err)
	}
	r.Log.Debug("ordering", "name", o.Name, "ca", o.CA.URL, "challenge", o.ChallengeType.Name, "resumed", o.ResumeURL)
	o.Storage, o.Challenges = r.lockedStorage, r.lockedChallenges
	if !r.dryRun && o.CA != r.StagingCA {
		o.Progress = func(phase schedule.Phase, orderURL string) { r.progress(ctx, phase, orderURL) }
	}
	failed, err := r.engine.Order(ctx, o)
	if err == nil || ctx.Err() == nil { // otherwise the outcome is unknown
		r.state.SettleValidations(failed)
	}
	return err
}

func (r *orderRun) progress(ctx context.Context, phase schedule.Phase, orderURL string) {
	r.state.Progress(time.Now(), phase, orderURL)
	if err := r.save(ctx); err != nil {
		r.Log.Warn("the progress of an order cannot be stored", "name", r.name, "err", err)
	}
}
