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
func (v *supervisor) attempt(ctx context.Context, t *task, urged bool) time.Duration {
	held, free, taken, err := v.records.lock(ctx, t.name)
	if err != nil {
		return v.blocked(t, err)
	}
	if !taken {
		t.set(func(st *taskState) {
			st.status, st.next = "another process orders", time.Now().Add(lookAgain)
		})
		return lookAgain
	}
	defer free()
	err = v.attemptUnder(ctx, held, t, urged)
	if held.Err() != nil && ctx.Err() == nil {
		v.blocked(t, fmt.Errorf("the lock was lost while ordering; what another node does is waited for: %w", cmp.Or(err, held.Err())))
		return lookAgain
	}
	if err != nil {
		return v.blocked(t, err)
	}
	return 0
}

// attemptUnder is attempt under the lock, which ends with ctx or before. The
// error is why nothing can be ordered or recorded.
func (v *supervisor) attemptUnder(ctx, held context.Context, t *task, urged bool) error {
	now := time.Now()
	v.engine.mend(held, t.name)
	if v.look(ctx, t) {
		return fmt.Errorf("the stored certificate cannot be set aside: %w", errDamaged)
	}
	rec, err := v.records.readLocked(held, t.name, now)
	if err != nil {
		return err
	}
	t.recollect(rec)
	if urged {
		rec.urge(now)
	}
	rec.Missed = max(rec.Missed, t.own.missed)
	due := v.due(t)
	if due.After(now) || rec.Next.After(now) {
		return nil // another process has done it
	}
	t.set(func(st *taskState) { st.status, st.next = "ordering", time.Time{} })
	tried := rec.Tried
	ca, err := v.orderFrom(held, t, rec)
	switch {
	case held.Err() != nil && ctx.Err() == nil:
		return err // what is recorded now is another's
	case ctx.Err() != nil && rec.Tried.Equal(tried):
		return nil // our own end came before any order began, and must keep nobody from one
	}
	return v.record(held, t, rec, ca, due, err)
}

// record writes down what came of an order, while the lock is held, or ends
// because all does. The error is why it could not.
func (v *supervisor) record(ctx context.Context, t *task, rec *record, ca *authority, due time.Time, err error) error {
	now := time.Now()
	switch {
	case errors.Is(err, errUnrecorded):
		return err
	case errors.Is(err, errFloor):
		// Next is set; nothing was tried.
	case err == nil:
		if err = v.obtained(ctx, t, rec, ca, due); err != nil {
			rec.Problem = err.Error()
		}
	case ctx.Err() != nil:
		rec.Next, rec.Problem = now.Add(brokenOff), "the order was broken off by our own end"
	default:
		rec.failed(err, t.urgency(now), now)
		v.complain(t, rec, err)
		if v.records.shared() && asOrderError(err).othersMayTry() {
			t.own = ownMiss{rec.Missed, rec.Next, rec.Problem}
			rec.Missed, rec.Next, rec.Problem = 0, now, ""
		}
	}
	t.set(func(st *taskState) { st.problem, st.next, st.failures = err, rec.Next, rec.Failed })
	return v.write(context.WithoutCancel(ctx), t, rec)
}

// write keeps a record, in memory too.
func (v *supervisor) write(ctx context.Context, t *task, rec *record) error {
	t.wrote = *rec
	t.wrote.Validations = slices.Clone(rec.Validations)
	return v.records.write(ctx, t.name, rec)
}

// recollect puts into a record what this run knows better: a replica of a store,
// a backup that was restored, or a directory or store that was emptied, tells of
// less than was recorded, here or by another node, and must not bring orders
// forward.
func (t *task) recollect(rec *record) {
	own := &t.wrote
	if !own.Tried.After(rec.Tried) {
		t.wrote = *rec
		t.wrote.Validations = slices.Clone(rec.Validations)
		return
	}
	if rec.Tried.IsZero() { // nothing is left of it
		rec.Validations = slices.Clone(own.Validations)
	}
	rec.Tried, rec.Next = own.Tried, later(rec.Next, own.Next)
	rec.NotBefore, rec.Rest = later(rec.NotBefore, own.NotBefore), later(rec.Rest, own.Rest)
	rec.Patience = own.Patience
	rec.Failed, rec.Missed, rec.Idle = max(rec.Failed, own.Failed), max(rec.Missed, own.Missed), max(rec.Idle, own.Idle)
	rec.TrialPassed = rec.TrialPassed || own.TrialPassed
	rec.From, rec.Problem = cmp.Or(rec.From, own.From), cmp.Or(rec.Problem, own.Problem)
}

// unknownLife is assumed of a certificate that was obtained and cannot be found.
const unknownLife = 90 * 24 * time.Hour

// obtained takes up what the order brought from an authority. Due is since when
// that was wanted. The error is why it is of no use, if it is of none; it counts
// as an order that was successful all the same.
func (v *supervisor) obtained(ctx context.Context, t *task, rec *record, ca *authority, due time.Time) error {
	event := "certificate obtained"
	if t.get().stored != nil {
		event = "certificate renewed"
	}
	t.from = ca.url
	v.look(ctx, t)
	life := unknownLife
	attrs := []any{"name", t.name}
	if s := t.get().stored; s != nil {
		life = s.Leaf.NotAfter.Sub(s.Leaf.NotBefore)
		attrs = append(attrs, "ca", s.ca.url, "notAfter", s.Leaf.NotAfter)
	}
	rec.succeeded(time.Now(), life, ca.url, due)
	t.set(func(st *taskState) { st.obtained++ })
	v.log.Info(event, attrs...)
	if rec.Idle > 0 {
		v.log.Warn("orders are successful, but the name is due again at once; it rests, so that the authority does not lock it out: "+
			"make sure that the clock is right", "name", t.name, "orders", rec.Idle+1, "next", rec.Rest)
	}
	err := v.useless(ctx, t, ca)
	if err != nil {
		v.log.Error("the authority gave a certificate that is of no use", "name", t.name, "ca", ca.url, "err", err, "next", rec.Rest)
	}
	return err
}

// useless is why no client accepts what an authority gave; nil when one may.
func (v *supervisor) useless(ctx context.Context, t *task, ca *authority) error {
	all, err := v.engine.load(ctx, t.name)
	if errors.Is(err, errDamaged) {
		return err
	}
	for _, s := range all {
		if s.ca != ca {
			continue
		}
		if !covers(s.Leaf, t.name) {
			return fmt.Errorf("it is for other names: %s", clip(strings.Join(namesOf(s.Leaf), ", ")))
		}
		return inTime(s.Leaf, time.Now())
	}
	return nil
}

// left is how long the certificate in use still serves; zero without one.
func (t *task) left(now time.Time) time.Duration {
	s := t.get().stored
	if s == nil {
		return 0
	}
	return max(s.Leaf.NotAfter.Sub(now), 0)
}

// urgency is what is left of the certificate in use, or its life once it has
// ended; zero without one.
func (t *task) urgency(now time.Time) time.Duration {
	s := t.get().stored
	if left := t.left(now); left > 0 || s == nil {
		return left
	}
	return s.Leaf.NotAfter.Sub(s.Leaf.NotBefore)
}

// complain says what went wrong, in the authority's words, and what to do.
func (v *supervisor) complain(t *task, rec *record, err error) {
	e := asOrderError(err)
	s := t.get().stored
	left := t.left(time.Now()).Round(time.Second)
	attrs := []any{"name", t.name, "err", err, "fix", mendOf(e.outcome), "next", rec.Next}
	switch {
	case s == nil:
		v.log.Warn("no certificate yet", attrs...)
	case left == 0:
		v.log.Error("the certificate has ended and could not be renewed", attrs...)
	default:
		v.log.Warn("the certificate could not be renewed; the old one serves on", append(attrs, "left", left)...)
	}
	t.reminded = time.Now()
}

// remind speaks again, each day or thirtieth part of the life, of a certificate
// that should be another by now: whatever keeps it so was perhaps told a month ago.
func (v *supervisor) remind(t *task, now time.Time) {
	st := t.get()
	if st.stored == nil || st.problem == nil || now.Before(renewAt(st.stored.Leaf)) {
		return
	}
	leaf := st.stored.Leaf
	if now.Sub(t.reminded) < min(leaf.NotAfter.Sub(leaf.NotBefore)/30, 24*time.Hour) {
		return
	}
	t.reminded = now
	if left := leaf.NotAfter.Sub(now).Round(time.Second); left > 0 {
		v.log.Warn("the certificate is not renewed yet; the old one serves on", "name", t.name, "left", left, "err", st.problem)
		return
	}
	v.log.Error("the certificate has ended and is not renewed", "name", t.name, "err", st.problem)
}

func mendOf(o outcome) string {
	switch o {
	case invalid:
		return "make sure that the name's address is this server's, and that port 80 or 443 can be reached from outside"
	case refused:
		return "read what the authority says; a CAA record, the account or a rate limit may be in the way"
	}
	return "none needed if it passes; else make sure that this server can reach the authority, and that its clock is right"
}

var (
	errUnrecorded = errors.New("the order cannot be recorded, so it is not made")
	errFloor      = errors.New("too many validations have failed in the last hour; waiting, so that the authority does not lock the name out")
)

// orderFrom asks one authority after the other, and returns the one that gave a
// certificate.
func (v *supervisor) orderFrom(ctx context.Context, t *task, rec *record) (*authority, error) {
	if err := v.room(ctx); err != nil {
		return nil, fmt.Errorf("%w: %w", errUnrecorded, err)
	}
	if err := v.tryOut(ctx, t, rec); err != nil {
		return nil, err
	}
	var worst error
	for _, ca := range v.set.cas {
		err := v.ask(ctx, t, rec, ca)
		if err == nil || v.final(ctx, err) {
			return ca, err
		}
		if len(v.set.cas) > 1 {
			v.log.Warn("an authority gave no certificate", "name", t.name, "ca", ca.url, "err", err)
		}
		if worst == nil {
			worst = err
			continue
		}
		// Each is left in peace for as long as it said; the next try is for the first.
		worst = patient(worse(worst, err), min(asOrderError(worst).retryAfter, asOrderError(err).retryAfter))
	}
	return nil, worst
}

// final errors leave nothing to try now.
func (v *supervisor) final(ctx context.Context, err error) bool {
	return errors.Is(err, errUnrecorded) || errors.Is(err, errFloor) || ctx.Err() != nil
}

// worse is the one of two errors after which an order is tried again later.
func worse(a, b error) error {
	if asOrderError(b).outcome > asOrderError(a).outcome {
		return b
	}
	return a
}

// patient is the error as of an authority that asked for so long a wait.
func patient(err error, retryAfter time.Duration) error {
	return &orderError{asOrderError(err).outcome, retryAfter, err}
}

// ask orders at an authority, unless it asked for patience that is not over.
func (v *supervisor) ask(ctx context.Context, t *task, rec *record, ca *authority) error {
	now := time.Now()
	if wait := rec.patience(ca, now); wait > 0 {
		return &orderError{retryAfter: wait, err: fmt.Errorf("%s does not want to be asked before %s", ca.url, now.Add(wait).Format(time.DateTime))}
	}
	err := v.orderAt(ctx, t, rec, ca)
	rec.heed(ca, asOrderError(err).retryAfter, time.Now())
	return err
}

// tryOut makes a first order where a failure costs nothing. When that place
// cannot be reached, the real order is made all the same.
func (v *supervisor) tryOut(ctx context.Context, t *task, rec *record) error {
	if !v.set.ACME.StagingFirst || v.set.trial == nil || rec.TrialPassed || t.get().stored != nil {
		return nil
	}
	err := v.ask(ctx, t, rec, v.set.trial)
	switch {
	case err == nil:
		rec.TrialPassed = true
		v.log.Info("the trial order was successful", "name", t.name, "ca", v.set.trial.url)
	case v.final(ctx, err):
		return err
	case asOrderError(err).outcome != notMade:
		return fmt.Errorf("the trial order failed, so the real one is not made: %w", err)
	default:
		v.log.Warn("the trial order could not be made, so the real one is made without", "name", t.name, "err", err)
	}
	return nil
}

// orderAt tries one way after the other. Only a validation that failed makes
// another way worth trying.
func (v *supervisor) orderAt(ctx context.Context, t *task, rec *record, ca *authority) (err error) {
	for _, w := range v.engine.ways() {
		before := err
		err = v.orderOver(ctx, t, rec, order{name: t.name, ca: ca, way: w})
		if errors.Is(err, errFloor) && before != nil {
			return before // what failed above the floor counts
		}
		if err == nil || ctx.Err() != nil || errors.Is(err, errUnrecorded) {
			return err
		}
		last := asOrderError(err)
		if before != nil { // a way that could not be tried does not make good the one that failed
			err = patient(worse(err, before), max(last.retryAfter, asOrderError(before).retryAfter))
		}
		if last.outcome != invalid {
			return err
		}
	}
	return err
}

// orderOver tries one way. It is recorded before, but after the question whether
// the authority is there: a node that dies over that has ordered nothing, and
// must keep neither itself nor others from it.
func (v *supervisor) orderOver(ctx context.Context, t *task, rec *record, o order) (err error) {
	now := time.Now()
	// Of the two, that of this run goes by a clock that nobody sets forward.
	wait := max(rec.room(o.way.validations, now).Sub(now), t.ran.room(o.way.validations, now).Sub(now))
	if wait > 0 {
		rec.Next, rec.Problem = now.Add(wait), errFloor.Error()
		return errFloor
	}
	if o.offers, err = v.engine.ready(ctx, o.ca); err != nil {
		return err
	}
	now = time.Now()
	t.ran.count(o.way, now)
	rec.begin(o.way, now)
	if err := v.write(ctx, t, rec); err != nil {
		return fmt.Errorf("%w: %w", errUnrecorded, err)
	}
	v.log.Debug("ordering", "name", t.name, "ca", o.ca.url, "over", o.way.name)
	failed, err := v.engine.order(ctx, o)
	if err == nil || ctx.Err() == nil { // else how it went is unknown: the worst stays recorded
		rec.settle(o.way, failed)
		t.ran.settle(o.way, failed)
	}
	return err
}

// room makes sure that the disk takes what an order brings.
func (v *supervisor) room(ctx context.Context) error {
	const probe = "room"
	if err := v.keeper.Storage.Store(ctx, probe, make([]byte, 32<<10)); err != nil {
		return err
	}
	return v.keeper.Storage.Delete(ctx, probe)
}
