package tlsmgr

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"
)

// How often a name is looked at: sixty times in the life of its certificate,
// within bounds. Lifetimes are getting shorter, so nothing here assumes one.
const (
	checksPerLifetime = 60
	// minRemainingDivisor is the part of the life that must be left, whatever an
	// authority proposes.
	minRemainingDivisor                = 6
	checkIntervalMin, checkIntervalMax = time.Second, 10 * time.Minute
	// checkIntervalNoCert is for a name without a certificate: another process may be
	// getting it one.
	checkIntervalNoCert = 2 * time.Second
	// lockRetryDelay is how soon the lock of another process is tried again.
	lockRetryDelay = time.Second
	// dnsRetryMax is the longest wait for a name to get an address.
	dnsRetryMax = time.Minute
	// These bound the time between two questions for renewal information.
	renewalInfoIntervalMin, renewalInfoIntervalMax = time.Minute, 24 * time.Hour
	// renewalInfoRetryDelay is when to ask again after a question without an answer.
	renewalInfoRetryDelay = time.Hour
)

// scheduler owns the time of every order. Each name has a goroutine of its
// own, so that one that hangs holds up no other.
type scheduler struct {
	settings  *settings
	engine    engine
	buffered  *bufferedStorage
	schedules scheduleStore
	certs     *certTable
	log       *slog.Logger
	workers   []*nameWorker
}

// nameWorker is the work for one name.
type nameWorker struct {
	name string
	wake chan struct{}

	workMu          sync.Mutex // held by whoever works for the name: it may hang in a disk
	dnsRetries      int        // look-ups without an address in a row
	lastIssuer      string     // the authority that gave the last certificate, as recorded
	hsts            hstsEligibility
	localBackoff    localBackoff
	overdueLoggedAt time.Time // when the log last spoke of a certificate that is not renewed

	localFailures scheduleState // the validations of this run
	lastWritten   scheduleState // what this run recorded last

	mu               sync.Mutex
	state            workerState
	renewForced      bool   // a person asked for it
	renewalInfoAsked bool   // and the authority has been asked since
	lastStoreErr     string // what was wrong with the store at the last look
}

type workerState struct {
	stored      *stored
	renewalInfo renewalInfo
	renewAt     time.Time
	nextAttempt time.Time
	lastAttempt time.Time
	status      string
	lastErr     error
	failures    int
	obtained    int
}

func newScheduler(s *settings, e engine, buffered *bufferedStorage, schedules scheduleStore, certs *certTable) *scheduler {
	sc := &scheduler{settings: s, engine: e, buffered: buffered, schedules: schedules, certs: certs, log: s.Logger}
	for _, name := range s.names {
		sc.workers = append(sc.workers, &nameWorker{name: name, wake: make(chan struct{}, 1)})
	}
	return sc
}

// shutdownTimeout is how long run waits for what hangs in a disk or a library.
const shutdownTimeout = 2 * time.Second

func (sc *scheduler) run(ctx context.Context) {
	var workers sync.WaitGroup
	for _, w := range sc.workers {
		workers.Go(func() { sc.runWorker(ctx, w) })
	}
	<-ctx.Done()
	withTimeout(shutdownTimeout, workers.Wait)
}

// forceRenewAll has every name looked at now, and its order made sooner.
func (sc *scheduler) forceRenewAll() {
	for _, w := range sc.workers {
		w.mu.Lock()
		w.renewForced, w.renewalInfoAsked = true, false
		w.mu.Unlock()
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

func (sc *scheduler) runWorker(ctx context.Context, w *nameWorker) {
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

// step does what is due for a name, and returns when to look again.
func (sc *scheduler) step(ctx context.Context, w *nameWorker) time.Duration {
	w.workMu.Lock()
	defer w.workMu.Unlock()
	now := time.Now()
	sched, stateErr := sc.schedules.read(w.name, now)
	if stateErr == nil {
		w.mergeLocal(sched)
		w.lastIssuer = sched.LastIssuer
		if sched.defect != defectNone {
			stateErr = sc.schedules.repair(ctx, w.name, now)
		}
	}
	damaged := sc.loadCertificate(ctx, w)
	sc.buffered.flush(ctx)
	sc.updateHSTSEligibility(ctx, w, now)
	sc.logOverdue(w, now)
	forced, isNew := w.takeForced()
	sc.refreshRenewalInfo(ctx, w, isNew, now)
	if stateErr != nil {
		return sc.fail(w, stateErr)
	}
	nextAttempt := sc.updateRenewAt(w)
	if forced || nextAttempt.After(now) {
		w.localBackoff = localBackoff{}
	}
	if forced {
		sched.forceRenew(now)
	}
	w.localBackoff.applyTo(sched)
	if sched.NextAttempt.After(nextAttempt) {
		nextAttempt = sched.NextAttempt
	}
	if nextAttempt.After(now) && !damaged {
		if forced && !sc.updateRenewAt(w).After(now) {
			w.updateState(func(*workerState) { w.renewForced = true }) // not yet, but it is not forgotten
		}
		sc.updateStatus(w, sched, nextAttempt)
		return min(sc.checkInterval(w), nextAttempt.Sub(now))
	}
	if wait := sc.awaitAddress(ctx, w); wait > 0 {
		return wait
	}
	return sc.attempt(ctx, w, forced)
}

// takeForced tells whether a person asked for an order, and whether that is news:
// an urge that has to wait is kept, and not heard twice.
func (w *nameWorker) takeForced() (forced, isNew bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	forced, isNew = w.renewForced, w.renewForced && !w.renewalInfoAsked
	w.renewForced, w.renewalInfoAsked = false, true
	return forced, isNew
}

func (w *nameWorker) getState() workerState {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

func (w *nameWorker) updateState(do func(*workerState)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	do(&w.state)
}

// loadCertificate takes up what is in store, and tells whether that is damaged. What
// cannot be read stays as it was.
func (sc *scheduler) loadCertificate(ctx context.Context, w *nameWorker) (damaged bool) {
	all, err := sc.engine.load(ctx, w.name)
	sc.reportReadError(w, err)
	old := w.getState().stored
	// What serves stands among the others: it may be better than all of them.
	s := newest(append([]*stored{old}, all...), w.name, w.lastIssuer, time.Now())
	if s != nil && (old == nil || !sameChain(s.Certificate, old.Certificate)) {
		w.updateState(func(st *workerState) { st.stored = s })
		sc.certs.setACME(w.name, s.Certificate)
		sc.log.Info("certificate taken up", "name", w.name, "issuer", s.Leaf.Issuer.CommonName, "notAfter", s.Leaf.NotAfter)
	}
	return errors.Is(err, errDamaged) && len(all) == 0
}

// reportReadError speaks once of a store that cannot be read.
func (sc *scheduler) reportReadError(w *nameWorker, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	w.mu.Lock()
	isNew := w.lastStoreErr != text
	w.lastStoreErr = text
	if err != nil {
		w.state.lastErr = err
	}
	w.mu.Unlock()
	if err != nil && isNew {
		sc.log.Warn("look for the stored certificate", "name", w.name, "err", err)
	}
}

// updateRenewAt is when the name should have another certificate; the zero time is now.
func (sc *scheduler) updateRenewAt(w *nameWorker) time.Time {
	st := w.getState()
	if st.stored == nil {
		return time.Time{}
	}
	leaf := st.stored.Leaf
	at := renewAt(leaf)
	if st.renewalInfo.Serial == serial(leaf) && !st.renewalInfo.At.IsZero() {
		// The authority knows better, but time must be left for an order that fails.
		at = earlier(st.renewalInfo.At, leaf.NotAfter.Add(-leaf.NotAfter.Sub(leaf.NotBefore)/minRemainingDivisor))
	}
	w.updateState(func(st *workerState) { st.renewAt = at })
	return at
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func (sc *scheduler) checkInterval(w *nameWorker) time.Duration {
	s := w.getState().stored
	if s == nil {
		return checkIntervalNoCert
	}
	maxInterval := checkIntervalMax
	if sc.schedules.shared() {
		maxInterval = checkIntervalShared
	}
	lifetime := s.Leaf.NotAfter.Sub(s.Leaf.NotBefore)
	return min(max(lifetime/checksPerLifetime, checkIntervalMin), maxInterval)
}

// restoreSchedule shows what an earlier run left on record. It changes nothing: what is
// damaged is found, and mended, by the first step.
func (sc *scheduler) restoreSchedule(w *nameWorker) {
	var sched scheduleState
	if err := sc.schedules.readJSON(w.name, ".json", &sched); err != nil {
		return
	}
	sched.switchCAs(sc.schedules.cas)
	if w.lastIssuer = sched.LastIssuer; !sched.NextAttempt.IsZero() {
		sc.updateStatus(w, &sched, sched.NextAttempt)
	}
}

// updateStatus shows what was decided while nothing is to be done.
func (sc *scheduler) updateStatus(w *nameWorker, sched *scheduleState, nextAttempt time.Time) {
	w.updateState(func(st *workerState) {
		st.nextAttempt, st.lastAttempt, st.failures, st.status = nextAttempt, sched.LastAttempt, sched.FailureCount, "renewal is not due"
		// What was in the way is no problem any more once the name has what it needs.
		now := time.Now()
		resolved := sched.FailureCount+sched.UnavailableCount == 0 && st.stored != nil && isValidAt(st.stored.Certificate, now) && st.renewAt.After(now)
		switch {
		case sched.LastError != "" && !resolved:
			st.lastErr, st.status = errors.New(sched.LastError), "waiting to try again"
		case sched.FailureCount+sched.UnavailableCount == 0 && st.stored != nil:
			st.lastErr = nil
		}
	})
}

// fail is the end of a step that must not order.
func (sc *scheduler) fail(w *nameWorker, err error) time.Duration {
	isNew := false
	w.updateState(func(st *workerState) {
		isNew = st.lastErr == nil || st.lastErr.Error() != err.Error()
		st.lastErr, st.status, st.nextAttempt = err, "nothing is ordered without a record", time.Now().Add(dnsRetryMax)
	})
	if isNew {
		sc.log.Error("no certificate can be ordered, for it could not be recorded", "name", w.name, "err", err)
	}
	return dnsRetryMax
}

// awaitAddress returns how long to wait before the name is looked up again;
// zero when it has an address, or when that cannot be found out: then the
// authority will say.
func (sc *scheduler) awaitAddress(ctx context.Context, w *nameWorker) time.Duration {
	if !sc.settings.hasNoAddress(ctx, w.name) {
		w.dnsRetries = 0
		return 0
	}
	w.dnsRetries++
	wait := exponentialBackoff(unavailableBackoffMin, dnsRetryMax, w.dnsRetries)
	if w.dnsRetries == 1 {
		sc.log.Warn("waiting with the order: the name has no address; add an A or AAAA record that points here", "name", w.name)
	}
	w.updateState(func(st *workerState) {
		st.lastErr, st.status, st.nextAttempt = errNoAddress, "waiting for an address", time.Now().Add(wait)
	})
	return wait
}

var errNoAddress = errors.New("the name has no address; add an A or AAAA record that points here")

// hasNoAddress is true for a name of which it is certain that it has no address.
func (s *settings) hasNoAddress(ctx context.Context, name string) bool {
	if !s.ACME.WaitForAddress || isIP(name) {
		return false
	}
	resolver := s.ACME.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	ctx, cancel := context.WithTimeout(ctx, caRequestTimeout)
	defer cancel()
	_, err := resolver.LookupNetIP(ctx, "ip", name)
	var dnsErr *net.DNSError
	return errors.As(err, &dnsErr) && dnsErr.IsNotFound
}

// refreshRenewalInfo keeps the authority's renewal information fresh.
func (sc *scheduler) refreshRenewalInfo(ctx context.Context, w *nameWorker, forced bool, now time.Time) {
	st := w.getState()
	if st.stored == nil {
		return
	}
	known := st.renewalInfo
	if known.Serial == "" {
		// Without a file, or with a damaged one, there is nothing to lose.
		_ = sc.schedules.readJSON(w.name, ".renewal.json", &known)
	}
	sameCert := known.Serial == serial(st.stored.Leaf)
	wait := known.RefreshAfter.Sub(now)
	if sameCert && !forced && wait > 0 && wait <= renewalInfoIntervalMax {
		w.updateState(func(st *workerState) { st.renewalInfo = known })
		return
	}
	// A silent authority must not cost a short life the time for its renewal.
	ctx, cancel := context.WithTimeout(ctx, min(sc.checkInterval(w), caRequestTimeout))
	defer cancel()
	fresh, err := sc.engine.fetchRenewalInfo(ctx, st.stored)
	if errors.Is(err, errNoRenewalInfo) {
		fresh = renewalInfo{Serial: serial(st.stored.Leaf), RefreshAfter: now.Add(renewalInfoIntervalMax)}
	} else if err != nil {
		sc.log.Debug("ask when to renew", "name", w.name, "err", err)
		fresh = renewalInfo{Serial: serial(st.stored.Leaf), RefreshAfter: now.Add(renewalInfoRetryDelay)}
		if sameCert {
			fresh.At, fresh.From, fresh.To, fresh.Why = known.At, known.From, known.To, known.Why
		}
	}
	sc.saveRenewalInfo(ctx, w, known, fresh, now)
}

// saveRenewalInfo keeps what the authority said. While its window stays the same so
// does the time chosen within it.
func (sc *scheduler) saveRenewalInfo(ctx context.Context, w *nameWorker, known, fresh renewalInfo, now time.Time) {
	if known.Serial == fresh.Serial && known.From.Equal(fresh.From) && known.To.Equal(fresh.To) {
		fresh.At = known.At
	}
	if fresh.RefreshAfter.IsZero() || fresh.RefreshAfter.Sub(now) > renewalInfoIntervalMax {
		fresh.RefreshAfter = now.Add(renewalInfoIntervalMax)
	}
	if fresh.RefreshAfter.Before(now.Add(renewalInfoIntervalMin)) {
		fresh.RefreshAfter = now.Add(renewalInfoIntervalMin)
	}
	if known.Serial == fresh.Serial && known.At.After(now) && !fresh.At.After(now) && !fresh.At.IsZero() {
		sc.log.Warn("the authority wants the certificate replaced at once", "name", w.name, "explanation", fresh.Why)
	}
	w.updateState(func(st *workerState) { st.renewalInfo = fresh })
	if err := sc.schedules.writeJSON(ctx, w.name, ".renewal.json", fresh); err != nil {
		sc.log.Debug("keep the renewal information", "name", w.name, "err", err)
	}
}
