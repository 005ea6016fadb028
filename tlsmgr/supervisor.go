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
	looksPerLife = 60
	// latestRenewal is the part of the life that must be left, whatever an
	// authority proposes.
	latestRenewal     = 6
	lookOften, lookBy = time.Second, 10 * time.Minute
	// lookWithout is for a name without a certificate: another process may be
	// getting it one.
	lookWithout = 2 * time.Second
	// lookAgain is how soon the lock of another process is tried again.
	lookAgain = time.Second
	// addressMost is the longest wait for a name to get an address.
	addressMost = time.Minute
	// These bound the time between two questions for renewal information.
	askAgainLeast, askAgainMost = time.Minute, 24 * time.Hour
	// askFailed is when to ask again after a question without an answer.
	askFailed = time.Hour
)

// supervisor owns the time of every order. Each name has a goroutine of its
// own, so that one that hangs holds up no other.
type supervisor struct {
	set     *settings
	engine  engine
	keeper  *keeper
	records records
	chain   *chain
	log     *slog.Logger
	tasks   []*task
}

// task is the work for one name.
type task struct {
	name string
	wake chan struct{}

	working  sync.Mutex // held by whoever works for the name: it may hang in a disk
	unasked  int        // look-ups without an address in a row
	from     string     // the authority that gave the last certificate, as recorded
	served   servedTime
	own      ownMiss
	reminded time.Time // when the log last spoke of a certificate that is not renewed

	ran   record // the validations of this run
	wrote record // what this run recorded last

	mu     sync.Mutex
	state  taskState
	urged  bool   // a person asked for it
	heard  bool   // and the authority has been asked since
	unread string // what was wrong with the store at the last look
}

type taskState struct {
	stored   *stored
	renewal  renewal
	renewAt  time.Time
	next     time.Time
	tried    time.Time
	status   string
	problem  error
	failures int
	obtained int
}

func newSupervisor(s *settings, e engine, k *keeper, r records, c *chain) *supervisor {
	v := &supervisor{set: s, engine: e, keeper: k, records: r, chain: c, log: s.Logger}
	for _, name := range s.names {
		v.tasks = append(v.tasks, &task{name: name, wake: make(chan struct{}, 1)})
	}
	return v
}

// endTime is how long run waits for what hangs in a disk or a library.
const endTime = 2 * time.Second

func (v *supervisor) run(ctx context.Context) {
	var tasks sync.WaitGroup
	for _, t := range v.tasks {
		tasks.Go(func() { v.watch(ctx, t) })
	}
	<-ctx.Done()
	doneIn(endTime, tasks.Wait)
}

// urge has every name looked at now, and its order made sooner.
func (v *supervisor) urge() {
	for _, t := range v.tasks {
		t.mu.Lock()
		t.urged, t.heard = true, false
		t.mu.Unlock()
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
}

func (v *supervisor) watch(ctx context.Context, t *task) {
	for ctx.Err() == nil {
		timer := time.NewTimer(v.step(ctx, t))
		select {
		case <-ctx.Done():
		case <-t.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// step does what is due for a name, and returns when to look again.
func (v *supervisor) step(ctx context.Context, t *task) time.Duration {
	t.working.Lock()
	defer t.working.Unlock()
	now := time.Now()
	rec, unrecorded := v.records.read(t.name, now)
	if unrecorded == nil {
		t.recollect(rec)
		t.from = rec.From
		if rec.wrong != recordWell {
			unrecorded = v.records.mend(ctx, t.name, now)
		}
	}
	damaged := v.look(ctx, t)
	v.keeper.flush(ctx)
	v.serving(ctx, t, now)
	v.remind(t, now)
	urged, news := t.takeUrge()
	v.askRenewal(ctx, t, news, now)
	if unrecorded != nil {
		return v.blocked(t, unrecorded)
	}
	at := v.due(t)
	if urged || at.After(now) {
		t.own = ownMiss{}
	}
	if urged {
		rec.urge(now)
	}
	t.own.onto(rec)
	if rec.Next.After(at) {
		at = rec.Next
	}
	if at.After(now) && !damaged {
		if urged && !v.due(t).After(now) {
			t.set(func(*taskState) { t.urged = true }) // not yet, but it is not forgotten
		}
		v.note(t, rec, at)
		return min(v.interval(t), at.Sub(now))
	}
	if wait := v.awaitAddress(ctx, t); wait > 0 {
		return wait
	}
	return v.attempt(ctx, t, urged)
}

// takeUrge tells whether a person asked for an order, and whether that is news:
// an urge that has to wait is kept, and not heard twice.
func (t *task) takeUrge() (urged, news bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	urged, news = t.urged, t.urged && !t.heard
	t.urged, t.heard = false, true
	return urged, news
}

func (t *task) get() taskState {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state
}

func (t *task) set(do func(*taskState)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	do(&t.state)
}

// look takes up what is in store, and tells whether that is damaged. What
// cannot be read stays as it was.
func (v *supervisor) look(ctx context.Context, t *task) (damaged bool) {
	all, err := v.engine.load(ctx, t.name)
	v.unread(t, err)
	old := t.get().stored
	// What serves stands among the others: it may be better than all of them.
	s := newest(append([]*stored{old}, all...), t.name, t.from, time.Now())
	if s != nil && (old == nil || !samePair(s.Certificate, old.Certificate)) {
		t.set(func(st *taskState) { st.stored = s })
		v.chain.setACME(t.name, s.Certificate)
		v.log.Info("certificate taken up", "name", t.name, "issuer", s.Leaf.Issuer.CommonName, "notAfter", s.Leaf.NotAfter)
	}
	return errors.Is(err, errDamaged) && len(all) == 0
}

// unread speaks once of a store that cannot be read.
func (v *supervisor) unread(t *task, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	t.mu.Lock()
	news := t.unread != text
	t.unread = text
	if err != nil {
		t.state.problem = err
	}
	t.mu.Unlock()
	if err != nil && news {
		v.log.Warn("look for the stored certificate", "name", t.name, "err", err)
	}
}

// due is when the name should have another certificate; the zero time is now.
func (v *supervisor) due(t *task) time.Time {
	st := t.get()
	if st.stored == nil {
		return time.Time{}
	}
	leaf := st.stored.Leaf
	at := renewAt(leaf)
	if st.renewal.Serial == serial(leaf) && !st.renewal.At.IsZero() {
		// The authority knows better, but time must be left for an order that fails.
		at = earlier(st.renewal.At, leaf.NotAfter.Add(-leaf.NotAfter.Sub(leaf.NotBefore)/latestRenewal))
	}
	t.set(func(st *taskState) { st.renewAt = at })
	return at
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func (v *supervisor) interval(t *task) time.Duration {
	s := t.get().stored
	if s == nil {
		return lookWithout
	}
	often := lookBy
	if v.records.shared() {
		often = lookShared
	}
	life := s.Leaf.NotAfter.Sub(s.Leaf.NotBefore)
	return min(max(life/looksPerLife, lookOften), often)
}

// recall shows what an earlier run left on record. It changes nothing: what is
// damaged is found, and mended, by the first step.
func (v *supervisor) recall(t *task) {
	var rec record
	if err := v.records.readFile(t.name, ".json", &rec); err != nil {
		return
	}
	rec.suit(v.records.asked)
	if t.from = rec.From; !rec.Next.IsZero() {
		v.note(t, &rec, rec.Next)
	}
}

// note shows what was decided while nothing is to be done.
func (v *supervisor) note(t *task, rec *record, at time.Time) {
	t.set(func(st *taskState) {
		st.next, st.tried, st.failures, st.status = at, rec.Tried, rec.Failed, "renewal is not due"
		// What was in the way is no problem any more once the name has what it needs.
		now := time.Now()
		over := rec.Failed+rec.Missed == 0 && st.stored != nil && inForce(st.stored.Certificate, now) && st.renewAt.After(now)
		switch {
		case rec.Problem != "" && !over:
			st.problem, st.status = errors.New(rec.Problem), "waiting to try again"
		case rec.Failed+rec.Missed == 0 && st.stored != nil:
			st.problem = nil
		}
	})
}

// blocked is the end of a step that must not order.
func (v *supervisor) blocked(t *task, err error) time.Duration {
	news := false
	t.set(func(st *taskState) {
		news = st.problem == nil || st.problem.Error() != err.Error()
		st.problem, st.status, st.next = err, "nothing is ordered without a record", time.Now().Add(addressMost)
	})
	if news {
		v.log.Error("no certificate can be ordered, for it could not be recorded", "name", t.name, "err", err)
	}
	return addressMost
}

// awaitAddress returns how long to wait before the name is looked up again;
// zero when it has an address, or when that cannot be found out: then the
// authority will say.
func (v *supervisor) awaitAddress(ctx context.Context, t *task) time.Duration {
	if !v.set.homeless(ctx, t.name) {
		t.unasked = 0
		return 0
	}
	t.unasked++
	wait := doubling(retryFirst, addressMost, t.unasked)
	if t.unasked == 1 {
		v.log.Warn("waiting with the order: the name has no address; add an A or AAAA record that points here", "name", t.name)
	}
	t.set(func(st *taskState) {
		st.problem, st.status, st.next = errHomeless, "waiting for an address", time.Now().Add(wait)
	})
	return wait
}

var errHomeless = errors.New("the name has no address; add an A or AAAA record that points here")

// homeless is true for a name of which it is certain that it has no address.
func (s *settings) homeless(ctx context.Context, name string) bool {
	if !s.ACME.Preflight || isIP(name) {
		return false
	}
	resolver := s.ACME.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	_, err := resolver.LookupNetIP(ctx, "ip", name)
	var unknown *net.DNSError
	return errors.As(err, &unknown) && unknown.IsNotFound
}

// askRenewal keeps the authority's renewal information fresh.
func (v *supervisor) askRenewal(ctx context.Context, t *task, urged bool, now time.Time) {
	st := t.get()
	if st.stored == nil {
		return
	}
	known := st.renewal
	if known.Serial == "" {
		// Without a file, or with a damaged one, there is nothing to lose.
		_ = v.records.readFile(t.name, ".renewal.json", &known)
	}
	own := known.Serial == serial(st.stored.Leaf)
	wait := known.AskAgain.Sub(now)
	if own && !urged && wait > 0 && wait <= askAgainMost {
		t.set(func(st *taskState) { st.renewal = known })
		return
	}
	// A silent authority must not cost a short life the time for its renewal.
	ctx, cancel := context.WithTimeout(ctx, min(v.interval(t), answerTime))
	defer cancel()
	fresh, err := v.engine.renewal(ctx, st.stored)
	if errors.Is(err, errNoRenewalInfo) {
		fresh = renewal{Serial: serial(st.stored.Leaf), AskAgain: now.Add(askAgainMost)}
	} else if err != nil {
		v.log.Debug("ask when to renew", "name", t.name, "err", err)
		fresh = renewal{Serial: serial(st.stored.Leaf), AskAgain: now.Add(askFailed)}
		if own {
			fresh.At, fresh.From, fresh.To, fresh.Why = known.At, known.From, known.To, known.Why
		}
	}
	v.keepRenewal(ctx, t, known, fresh, now)
}

// keepRenewal keeps what the authority said. While its window stays the same so
// does the time chosen within it.
func (v *supervisor) keepRenewal(ctx context.Context, t *task, known, fresh renewal, now time.Time) {
	if known.Serial == fresh.Serial && known.From.Equal(fresh.From) && known.To.Equal(fresh.To) {
		fresh.At = known.At
	}
	if fresh.AskAgain.IsZero() || fresh.AskAgain.Sub(now) > askAgainMost {
		fresh.AskAgain = now.Add(askAgainMost)
	}
	if fresh.AskAgain.Before(now.Add(askAgainLeast)) {
		fresh.AskAgain = now.Add(askAgainLeast)
	}
	if known.Serial == fresh.Serial && known.At.After(now) && !fresh.At.After(now) && !fresh.At.IsZero() {
		v.log.Warn("the authority wants the certificate replaced at once", "name", t.name, "explanation", fresh.Why)
	}
	t.set(func(st *taskState) { st.renewal = fresh })
	if err := v.records.writeFile(ctx, t.name, ".renewal.json", fresh); err != nil {
		v.log.Debug("keep the renewal information", "name", t.name, "err", err)
	}
}
