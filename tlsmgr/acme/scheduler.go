package acme

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"inbox/tlsmgr/acme/schedule"
	"inbox/tlsmgr/internal/certs"
	"inbox/tlsmgr/internal/timeout"
	"inbox/tlsmgr/internal/tlsconfig"
	"inbox/tlsmgr/storage"
)

const (
	// lockRetryDelay is the wait before a lock that another process holds is tried again.
	lockRetryDelay = time.Second
	// blockedRetryDelay is the wait after a storage error.
	blockedRetryDelay = time.Minute
	// ShutdownTimeout bounds how long Run waits for goroutines that hang.
	ShutdownTimeout = 2 * time.Second
)

// scheduler performs the I/O for the decisions of package schedule. The worker of each
// name has its own goroutine, so that a hanging one does not delay the others.
type scheduler struct {
	*Settings
	engine        Engine
	probe         func(context.Context, *CAClient) (*Directory, error)
	buffered      *storage.Buffered // accounts and certificates
	records       records
	onCertificate func(name string, cert *tls.Certificate)
	workers       []*worker
}

func newScheduler(s *Settings, e Engine, b *storage.Buffered, r records, onCertificate func(string, *tls.Certificate)) *scheduler {
	sc := &scheduler{Settings: s, engine: e, probe: fetchDirectory, buffered: b, records: r, onCertificate: onCertificate}
	for _, name := range s.Names {
		sc.workers = append(sc.workers, &worker{name: name, wake: make(chan struct{}, 1), restored: make(chan struct{})})
	}
	return sc
}

// restore loads the stored state, and reports whether that was done within limit. It
// writes nothing; the first step repairs damaged values.
func (sc *scheduler) restore(limit time.Duration) (inTime bool) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var all sync.WaitGroup
	for _, w := range sc.workers {
		all.Go(func() {
			defer close(w.restored)
			if stored, defect, err := sc.records.load(ctx, w.name, time.Now()); err == nil && defect == nil {
				w.state = schedule.Merge(w.state, stored)
				w.show(schedule.Action{Next: w.state.NextOrder()}, nil)
			}
			sc.loadCertificate(ctx, w, w.state.LastIssuer)
		})
	}
	return timeout.Run(limit, all.Wait)
}

func (sc *scheduler) run(ctx context.Context) {
	var workers sync.WaitGroup
	for _, w := range sc.workers {
		workers.Go(func() { sc.runWorker(ctx, w) })
	}
	<-ctx.Done()
	timeout.Run(ShutdownTimeout, workers.Wait)
}

func (sc *scheduler) runWorker(ctx context.Context, w *worker) {
	select {
	case <-ctx.Done():
	case <-w.restored:
	}
	for ctx.Err() == nil {
		timer := time.NewTimer(sc.step(ctx, w))
		select {
		case <-ctx.Done():
		case <-w.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// forceRenewal makes each worker check now, and order as soon as the limits allow.
func (sc *scheduler) forceRenewal() {
	for _, w := range sc.workers {
		w.mu.Lock()
		w.forced = true
		w.mu.Unlock()
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// step loads the state of a name, orders if it is due, and returns the wait until the next
// step.
func (sc *scheduler) step(ctx context.Context, w *worker) time.Duration {
	now := time.Now()
	stateErr := sc.loadState(ctx, w, now)
	damaged := sc.loadCertificate(ctx, w, w.state.LastIssuer)
	sc.buffered.Flush(ctx)
	forced := w.takeForced()
	sc.refreshARI(ctx, w, forced, now)
	w.logOverdue(sc.Log, now)
	if stateErr != nil {
		return sc.block(w, stateErr)
	}
	v := w.get()
	action := w.state.Check(schedule.CheckInput{Now: now, Certificate: v.cert.summary(), ARI: v.ari,
		Shared: sc.records.storage.Shared(), Damaged: damaged})
	if !action.Order {
		w.show(action, nil)
		return action.Wait
	}
	if sc.hasNoAddress(ctx, w.name) {
		action = w.state.NoAddress(now)
		if w.state.FirstMissingAddress() {
			sc.Log.Warn("order postponed: the name has no address; add an A or AAAA record that points here", "name", w.name)
		}
		w.show(action, errNoAddress)
		return action.Wait
	}
	w.state.HasAddress()
	return sc.attempt(ctx, w)
}

// loadState merges the stored schedule into the state of the worker. After an error, no
// order can be made.
func (sc *scheduler) loadState(ctx context.Context, w *worker, now time.Time) error {
	stored, defect, err := sc.records.load(ctx, w.name, now)
	if err != nil {
		return err
	}
	w.state = schedule.Merge(w.state, stored)
	if defect != nil {
		return sc.records.repair(ctx, w.name, now)
	}
	return nil
}

// loadCertificate selects the best certificate, and reports whether all stored ones are
// damaged. After a read error, the current certificate stays in use.
func (sc *scheduler) loadCertificate(ctx context.Context, w *worker, lastIssuer string) (damaged bool) {
	v := w.get()
	all, err := sc.loadUsable(ctx, w.name, v.cert)
	if err != nil && (v.loadErr == nil || v.loadErr.Error() != err.Error()) {
		sc.Log.Warn("the stored certificate cannot be read", "name", w.name, "err", err)
	}
	// The current one is a candidate: it can be better than all stored ones.
	best := newest(append([]*Certificate{v.cert}, all...), w.name, lastIssuer, time.Now())
	isNew := best != nil && (v.cert == nil || !certs.SameChain(best.Certificate, v.cert.Certificate))
	w.updateView(func(v *view) {
		if v.loadErr = err; isNew {
			v.cert = best
		}
	})
	if isNew {
		sc.onCertificate(w.name, best.Certificate)
		sc.Log.Info("certificate loaded", "name", w.name, "issuer", best.Leaf.Issuer.CommonName, "notAfter", best.Leaf.NotAfter)
	}
	return errors.Is(err, ErrDamaged) && len(all) == 0
}

// loadUsable returns the stored certificates that pass a handshake. current was tested
// before.
func (sc *scheduler) loadUsable(ctx context.Context, name string, current *Certificate) (usable []*Certificate, err error) {
	all, err := sc.engine.Load(ctx, name)
	for _, c := range all {
		if current == nil || !certs.SameChain(c.Certificate, current.Certificate) {
			if unusable := tlsconfig.Prove(c.Certificate); unusable != nil {
				err = errors.Join(err, fmt.Errorf("the stored certificate of %s is not served: %w", name, unusable))
				continue
			}
		}
		usable = append(usable, c)
	}
	return usable, err
}

// refreshARI requests the renewal information from the CA if the known one is too old, or
// if forced is set.
func (sc *scheduler) refreshARI(ctx context.Context, w *worker, forced bool, now time.Time) {
	v := w.get()
	if v.cert == nil {
		return
	}
	known, serial, key := v.ari, v.cert.Serial(), recordKey(w.name, ".renewal.json")
	if known.Serial == "" {
		_ = sc.records.loadJSON(ctx, key, &known) // if it cannot be read, it is requested
	}
	if known.Current(serial, now) && !forced {
		w.updateView(func(v *view) { v.ari = known })
		return
	}
	// A CA that does not respond must not delay the renewal of a short-lived certificate.
	limit := min(schedule.CheckInterval(v.cert.summary(), sc.records.storage.Shared()), RequestTimeout)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	fresh, err := sc.engine.RenewalInfo(ctx, v.cert)
	urgent := false
	switch {
	case errors.Is(err, ErrNoRenewalInfo):
		fresh = schedule.Unsupported(serial, now)
	case err != nil:
		sc.Log.Debug("renewal information unavailable", "name", w.name, "err", err)
		fresh = known.Unanswered(serial, now)
	default:
		fresh, urgent = known.Answered(fresh, now)
	}
	if urgent {
		sc.Log.Warn("the CA requests immediate replacement of the certificate", "name", w.name, "explanation", fresh.Why)
	}
	w.updateView(func(v *view) { v.ari = fresh })
	if err := saveJSON(ctx, sc.records.storage, key, fresh); err != nil {
		sc.Log.Debug("the renewal information cannot be stored", "name", w.name, "err", err)
	}
}

// attempt orders for a name unless another process holds its lock, and returns the wait
// until the next step.
func (sc *scheduler) attempt(ctx context.Context, w *worker) time.Duration {
	lease, err := sc.records.lock(ctx, w.name)
	if errors.Is(err, storage.ErrLocked) {
		w.show(schedule.Action{Next: time.Now().Add(lockRetryDelay)}, err)
		return lockRetryDelay
	}
	if err != nil {
		return sc.block(w, err)
	}
	defer lease.Release()
	err = sc.orderUnder(ctx, lease, w)
	if lease.Err() != nil && ctx.Err() == nil {
		sc.block(w, fmt.Errorf("the order was abandoned: %w", errors.Join(lease.Err(), err)))
		return lockRetryDelay
	}
	if err != nil && ctx.Err() == nil {
		return sc.block(w, err)
	}
	return 0
}

// orderUnder orders while the lease is held. The error is about storage; a failed order is
// no error.
func (sc *scheduler) orderUnder(ctx context.Context, lease storage.Lease, w *worker) error {
	now := time.Now()
	buffered := sc.buffered.Under(lease)
	sc.engine.QuarantineDamaged(ctx, buffered, w.name)
	if sc.loadCertificate(ctx, w, w.state.LastIssuer) {
		return fmt.Errorf("the stored certificate cannot be quarantined: %w", ErrDamaged)
	}
	stored, err := sc.records.loadUnder(ctx, lease, w.name, now)
	if err != nil {
		return err
	}
	w.state = schedule.Merge(w.state, stored)
	v := w.get()
	action := w.state.Check(schedule.CheckInput{Now: now, Certificate: v.cert.summary(), ARI: v.ari, Locked: true})
	if !action.Order {
		return nil // another process has ordered in the meantime
	}
	if err := checkSpace(ctx, lease); err != nil {
		return fmt.Errorf("%w: %w", errStateNotSaved, err)
	}
	run := &orderRun{Settings: sc.Settings, engine: sc.engine, probe: sc.probe, name: w.name, state: &w.state,
		lockedStorage: buffered, lockedChallenges: buffered, resume: action, horizon: v.cert.summary().Horizon(now),
		save: func(ctx context.Context) error {
			w.show(schedule.Action{}, nil)
			return sc.records.save(ctx, lease, w.name, w.state)
		}}
	leaseCtx, cancel := storage.Context(ctx, lease)
	defer cancel()
	lastAttempt := w.state.LastAttempt
	ca, err := run.order(leaseCtx, v.cert != nil)
	switch {
	case lease.Err() != nil, errors.Is(err, errStateNotSaved):
		return err // another process can have changed the schedule
	case ctx.Err() != nil && w.state.LastAttempt.Equal(lastAttempt):
		return nil // stopped before any order began, so there is nothing to store
	case err == nil:
		sc.obtained(leaseCtx, w, ca, v.renewAt())
	default:
		sc.failed(leaseCtx, w, err)
	}
	w.show(schedule.Action{Next: w.state.NextOrder()}, nil)
	return sc.records.save(context.WithoutCancel(ctx), lease, w.name, w.state)
}

// checkSpace checks that the storage has space for a certificate.
func checkSpace(ctx context.Context, s storage.Storage) error {
	const probe, bytes = "space", 32 << 10
	if err := s.Store(ctx, probe, make([]byte, bytes)); err != nil {
		return err
	}
	return s.Delete(ctx, probe)
}

// failed records and logs a failed order.
func (sc *scheduler) failed(ctx context.Context, w *worker, err error) {
	now := time.Now()
	cert := w.get().cert.summary()
	switch {
	case errors.Is(err, errValidationBudget): // already recorded
	case ctx.Err() != nil:
		w.state.Interrupted(now)
	default:
		e := asOrderError(err)
		w.state.OrderFailed(schedule.Failure{Now: now, Outcome: e.Outcome, RetryAfter: e.RetryAfter,
			Horizon: cert.Horizon(now), OtherCA: len(sc.CAs) > 1, Err: err.Error()})
		w.logFailure(sc.Log, err)
	}
}

// obtained loads the certificate that a CA issued, and records it. due is the time since
// which the order was due. A certificate that no client accepts counts as issued, too.
func (sc *scheduler) obtained(ctx context.Context, w *worker, ca *CAClient, due time.Time) {
	event := "certificate obtained"
	if w.get().cert != nil {
		event = "certificate renewed"
	}
	sc.loadCertificate(ctx, w, ca.URL)
	lifetime := schedule.AssumedLifetime
	attrs := []any{"name", w.name}
	if c := w.get().cert; c != nil {
		lifetime = c.summary().Lifetime()
		attrs = append(attrs, "ca", c.CA.URL, "notAfter", c.Leaf.NotAfter)
	}
	invalid := ""
	if err := sc.validateIssued(ctx, w.name, ca); err != nil {
		invalid = err.Error()
	}
	w.state.Obtained(schedule.Issuance{Now: time.Now(), CA: ca.URL, Lifetime: lifetime, Due: due, Invalid: invalid})
	w.updateView(func(v *view) { v.obtained++ })
	sc.Log.Info(event, attrs...)
	if n := w.state.NoOpRenewals; n > 0 {
		sc.Log.Warn("orders are successful, but the name is due again at once; "+
			"the interval between orders grows, so that the CA does not block the name: check the clock", "name", w.name, "orders", n+1, "next", w.state.RenewNotBefore)
	}
	if invalid != "" {
		sc.Log.Error("the CA issued an invalid certificate", "name", w.name, "ca", ca.URL, "err", invalid, "next", w.state.RenewNotBefore)
	}
}

// validateIssued returns the reason why no client accepts the certificate that a CA issued,
// or nil.
func (sc *scheduler) validateIssued(ctx context.Context, name string, ca *CAClient) error {
	all, err := sc.engine.Load(ctx, name)
	if errors.Is(err, ErrDamaged) {
		return err
	}
	for _, c := range all {
		if c.CA != ca {
			continue
		}
		if !certs.Covers(c.Leaf, name) {
			return fmt.Errorf("the certificate is for other names: %s", SanitizeText(strings.Join(certs.Names(c.Leaf), ", ")))
		}
		if err := tlsconfig.Prove(c.Certificate); err != nil {
			return err
		}
		return certs.CheckValidity(c.Leaf, time.Now())
	}
	return nil
}

// block shows and logs why no order can be made, and returns the wait until the next step.
func (sc *scheduler) block(w *worker, err error) time.Duration {
	before := w.get().blocked
	w.show(schedule.Action{Next: time.Now().Add(blockedRetryDelay)}, err)
	if before == nil || before.Error() != err.Error() {
		sc.Log.Error("no certificate can be ordered: storage failed", "name", w.name, "err", err)
	}
	return blockedRetryDelay
}
