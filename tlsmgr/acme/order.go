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

// orderRun makes orders for a name while its lock is held: at one CA after the other, with
// one challenge type after the other.
type orderRun struct {
	*Settings
	engine Engine
	probe  func(context.Context, *CAClient) (*Directory, error)
	name   string
	state  *schedule.State
	save   func(context.Context) error // stores the state
	// dryRun: only the validations are recorded, and orders are not resumed.
	dryRun bool
	// lockedStorage and lockedChallenges are those of [Order].
	lockedStorage, lockedChallenges storage.Storage
	resume                          schedule.Action
	horizon                         time.Duration // of the certificate in use, see [schedule.Failure]
}

// order tries one CA after the other, and returns the CA that issued.
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
				return ca, err // the CA can still issue
			}
			r.state.OrderGone()
			r.resume = schedule.Action{}
			err = &OrderError{Outcome: schedule.CARejected, Err: fmt.Errorf("gave up waiting for the order: %w", err)}
		}
		if len(r.CAs) > 1 {
			r.Log.Warn("a CA issued no certificate", "name", r.name, "ca", ca.URL, "err", err)
		}
		if worst == nil {
			worst = err
			continue
		}
		// orderUnlessThrottled respects the Retry-After of each CA, so the next attempt can
		// begin when one of them accepts orders.
		worst = withRetryAfter(moreSevere(worst, err), min(asOrderError(worst).RetryAfter, asOrderError(err).RetryAfter))
	}
	return nil, worst
}

// isPendingElsewhere reports whether a finalized order at another CA is to be resumed
// first.
func (r *orderRun) isPendingElsewhere(ca *CAClient) bool {
	return r.resume.ResumeCA != ca.URL && slices.ContainsFunc(r.CAs, func(c *CAClient) bool { return c.URL == r.resume.ResumeCA })
}

// isTerminal reports whether an error ends the run: other CAs and challenge types are not
// tried.
func isTerminal(ctx context.Context, err error) bool {
	return errors.Is(err, errStateNotSaved) || errors.Is(err, errValidationBudget) || ctx.Err() != nil
}

// moreSevere returns the error whose outcome has the longer back-off.
func moreSevere(a, b error) error {
	if asOrderError(b).Outcome > asOrderError(a).Outcome {
		return b
	}
	return a
}

func withRetryAfter(err error, retryAfter time.Duration) error {
	return &OrderError{Outcome: asOrderError(err).Outcome, RetryAfter: retryAfter, Fix: asOrderError(err).Fix, Err: err}
}

// orderStaging makes a staging order before the first order for a name. If the staging CA
// is unavailable, it is skipped.
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
		return fmt.Errorf("the staging order failed, so no production order is made: %w", err)
	default:
		r.Log.Warn("staging CA unavailable; ordering without a staging order", "name", r.name, "err", err)
	}
	return nil
}

// orderUnlessThrottled orders at a CA unless its Retry-After has not passed.
func (r *orderRun) orderUnlessThrottled(ctx context.Context, ca *CAClient) error {
	now := time.Now()
	if wait := r.state.RemainingRetryAfter(ca.URL, now); wait > 0 {
		until := now.Add(wait).Format(time.DateTime)
		return &OrderError{RetryAfter: wait, Err: fmt.Errorf("%s accepts no order until %s (Retry-After)", ca.URL, until)}
	}
	err := r.orderAt(ctx, ca)
	r.state.SetRetryAfter(time.Now(), ca.URL, asOrderError(err).RetryAfter)
	return err
}

// orderAt resumes the finalized order if there is one at this CA, else it makes a new one.
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
	r.Log.Warn("a finalized order cannot be resumed; making a new one", "name", r.name, "ca", ca.URL, "order", o.ResumeURL, "err", err)
	return r.orderAnew(ctx, ca)
}

// orderAnew tries one challenge type after the other. It tries the next one only after a
// failed validation.
func (r *orderRun) orderAnew(ctx context.Context, ca *CAClient) (err error) {
	for _, ct := range r.engine.ChallengeTypes() {
		before := err
		err = r.orderWith(ctx, Order{Name: r.name, CA: ca, ChallengeType: ct, OmitReplaces: r.state.Failures > 0})
		if errors.Is(err, errValidationBudget) && before != nil {
			return before // the failed validation is the cause
		}
		if err == nil || isTerminal(ctx, err) {
			return err
		}
		last := asOrderError(err)
		if before != nil { // a failed validation counts even if the next type was not tried
			err = withRetryAfter(moreSevere(err, before), max(last.RetryAfter, asOrderError(before).RetryAfter))
		}
		if last.Outcome != schedule.ValidationFailed {
			return err
		}
	}
	return err
}

// orderWith tries one challenge type. The schedule is stored before the order begins, but
// after the directory was fetched: a node that dies before has not ordered, and must not
// delay the orders of other nodes.
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
	o.Progress = func(phase schedule.Phase, orderURL string) {
		if !r.dryRun && o.CA != r.StagingCA {
			r.progress(ctx, phase, orderURL)
		}
	}
	failed, err := r.engine.Order(ctx, o)
	if err == nil || ctx.Err() == nil { // otherwise the number of failed validations is unknown
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
