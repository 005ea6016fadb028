package acme

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"inbox/tlsmgr/acme/schedule"
	"inbox/tlsmgr/internal/certs"
	"inbox/tlsmgr/storage"
)

// worker does what is to be done for one name.
type worker struct {
	name string
	wake chan struct{}
	// restored is closed when what was stored before the start has been read. Until
	// then the goroutine that reads it owns what follows, later the worker's own.
	restored        chan struct{}
	state           schedule.State
	overdueLoggedAt time.Time
	loggedPending   string // the last error that was logged about a finalized order

	mu     sync.Mutex
	forced bool // an operator asked for an order
	view   view
}

// view is what other goroutines see of a worker.
type view struct {
	cert     *Certificate
	ari      schedule.ARI
	state    schedule.State
	next     time.Time // of the next order; zero: now
	blocked  error     // why nothing is ordered
	loadErr  error     // of the stored certificate
	obtained int
}

// show makes the decision visible; blocked is why nothing is ordered.
func (w *worker) show(action schedule.Action, blocked error) {
	w.updateView(func(v *view) { v.state, v.next, v.blocked = w.state, action.Next, blocked })
}

func (w *worker) updateView(change func(*view)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.view)
}

func (w *worker) get() view {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.view
}

// takeForced reports whether an operator asked for an order since the last step.
func (w *worker) takeForced() bool {
	w.mu.Lock()
	forced := w.forced
	w.forced = false
	w.mu.Unlock()
	if forced {
		w.state.Force()
	}
	return forced
}

// err returns what is wrong, nil when nothing is: an earlier failure is none once
// the name has what it needs.
func (v *view) err(now time.Time) error {
	switch text := v.state.Err(); {
	case v.blocked != nil && !errors.Is(v.blocked, storage.ErrLocked):
		return v.blocked
	case text != "" && !v.satisfied(now):
		return errors.New(text)
	case v.cert == nil:
		return v.loadErr
	}
	return nil
}

// renewAt returns when the certificate is due; the zero time is now.
func (v *view) renewAt() time.Time { return schedule.RenewAt(v.cert.summary(), v.ari) }

// satisfied reports whether the certificate is valid and not due, and nothing
// failed since it was obtained.
func (v *view) satisfied(now time.Time) bool {
	return !v.state.Troubled() && v.cert != nil && certs.ValidAt(v.cert.Certificate, now) && v.renewAt().After(now)
}

// status describes in a few words what is done for the name.
func (v *view) status(now time.Time) string {
	switch {
	case errors.Is(v.blocked, storage.ErrLocked):
		return "another process orders"
	case errors.Is(v.blocked, errNoAddress):
		return "waiting for an address"
	case v.blocked != nil:
		return "nothing is ordered: storage failed"
	case v.state.Pending():
		return "waiting until the CA has issued"
	case v.state.Phase == schedule.Ordering:
		return string(v.state.Phase)
	case v.err(now) != nil:
		return "waiting to try again"
	case v.state.Phase == schedule.Idle && v.cert == nil:
		return ""
	}
	return "renewal is not due"
}

// logFailure logs why an order failed, in the words of the CA, and the fix.
func (w *worker) logFailure(log *slog.Logger, err error) {
	now := time.Now()
	if text := err.Error(); errors.Is(err, ErrOrderPending) && w.state.Pending() {
		if w.loggedPending == text { // it is looked at every few minutes
			return
		}
		w.loggedPending = text
	}
	w.overdueLoggedAt = now
	attrs := []any{"name", w.name, "err", err, "fix", fixFor(asOrderError(err)), "next", w.state.NextOrder()}
	switch c := w.get().cert; {
	case c == nil:
		log.Warn("no certificate yet", attrs...)
	case now.After(c.Leaf.NotAfter):
		log.Error("the certificate has expired and could not be renewed", attrs...)
	default:
		left := c.Leaf.NotAfter.Sub(now).Round(time.Second)
		log.Warn("the certificate could not be renewed; the old one stays in use", append(attrs, "left", left)...)
	}
}

func fixFor(e *OrderError) string {
	switch {
	case e.Fix != "":
		return e.Fix
	case errors.Is(e, ErrOrderPending):
		return "none: the same order is looked at again, and no other is made meanwhile"
	case e.Outcome == schedule.ValidationFailed:
		return "make sure that the address of the name is this server's, and that port 80 or 443 can be reached from outside"
	case e.Outcome == schedule.CARejected:
		return "read what the CA says; a CAA record, the account or a rate limit can be the cause"
	}
	return "none if it is temporary; otherwise make sure that this server can reach the CA, and that its clock is right"
}

// logOverdue logs each day, or each thirtieth of the lifetime if that is shorter, that
// the certificate is due and not renewed: its cause can have been logged weeks ago.
func (w *worker) logOverdue(log *slog.Logger, now time.Time) {
	v := w.get()
	err := v.err(now)
	if v.cert == nil || err == nil || now.Before(v.renewAt()) {
		return
	}
	interval := 24 * time.Hour
	if part := v.cert.summary().Lifetime() / 30; part > 0 { // an invalid certificate can have none
		interval = min(interval, part)
	}
	if now.Sub(w.overdueLoggedAt) < interval {
		return
	}
	w.overdueLoggedAt = now
	if left := v.cert.Leaf.NotAfter.Sub(now).Round(time.Second); left > 0 {
		log.Warn("the certificate is not renewed yet; the old one stays in use", "name", w.name, "left", left, "err", err)
		return
	}
	log.Error("the certificate has expired and is not renewed", "name", w.name, "err", err)
}
